package experiment

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Ledger is what an experiment has come to. It is safe for concurrent use, and bounded: of units and requests the ones
// that were not heard of for longest are forgotten, of the epochs only sums are kept.
type Ledger struct {
	plan   *Plan
	keeps  bool // requests, for outcomes that are told later
	shards [shards]shard

	excluded [reasons]atomic.Uint64
	switched atomic.Uint64

	mu     sync.RWMutex // guards what follows; taken before a shard's
	began  time.Time
	epochs []epochHead
}

// shards is how many parts a ledger has, so that requests of different units do not wait for each other.
const shards = 16

// epochHead is a time with the same weights.
type epochHead struct {
	Since   time.Time `json:"since"`
	Weights []float64 `json:"weights"` // parallel to the plan's arms
}

// shard has the units, and the requests, whose hashes fall to it.
type shard struct {
	mu        sync.Mutex
	units     *simplelru.LRU[uint64, *unit]
	requests  *simplelru.LRU[uint64, told]
	sums      [][]armSums // by epoch, by arm
	forgotten uint64
}

// armSums are those of one arm in one epoch, over the units that met it first there.
type armSums struct {
	Units    uint64  `json:"units"`
	Requests uint64  `json:"requests"`
	Outcomes []value `json:"outcomes"`
}

// value are sums over units that have one: of their number, of their means, and of the squares of these.
type value struct {
	N  uint64  `json:"n"`
	S  float64 `json:"s"`
	S2 float64 `json:"s2"`
}

// unit is what is remembered of one. A unit counts in the epoch and the arm that it met first; once it meets another
// arm it counts no more.
type unit struct {
	epoch, arm int
	switched   bool
	values     []observed
}

// observed are a unit's values of one outcome.
type observed struct {
	n   uint32
	sum float64
}

func (o observed) mean() float64 { return o.sum / float64(o.n) }

// told is what is remembered of a request whose outcome may be told later.
type told struct {
	unit uint64
	at   int64 // UnixNano
	has  uint64
}

// NewLedger begins an experiment at weights, parallel to the plan's arms.
func NewLedger(p *Plan, weights []float64, now time.Time) *Ledger {
	l := newLedger(p)
	l.began = now
	l.epochs = []epochHead{{Since: now, Weights: weights}}
	return l
}

func newLedger(p *Plan) *Ledger {
	l := &Ledger{plan: p}
	for _, o := range p.Outcomes {
		l.keeps = l.keeps || o.Source == FromAPI
	}
	share := func(n, standard int) int {
		if n <= 0 {
			n = standard
		}
		return max(1, n/shards)
	}
	for i := range l.shards {
		s := &l.shards[i]
		// The sizes are more than 0, which is all that could be wrong.
		s.units, _ = simplelru.NewLRU(share(p.Units, DefaultUnits), func(uint64, *unit) { s.forgotten++ })
		if l.keeps {
			s.requests, _ = simplelru.NewLRU[uint64, told](share(p.Requests, DefaultRequests), nil)
		}
	}
	return l
}

func (l *Ledger) shard(hash uint64) *shard { return &l.shards[hash>>(64-4)] }

// at returns the sums of an arm in an epoch. Called with the shard's mu held.
func (s *shard) at(p *Plan, epoch, arm int) *armSums {
	for len(s.sums) <= epoch {
		s.sums = append(s.sums, make([]armSums, len(p.Arms)))
	}
	a := &s.sums[epoch][arm]
	if a.Outcomes == nil {
		a.Outcomes = make([]value, len(p.Outcomes))
	}
	return a
}

// Expose notes that a unit meets an arm by a request, and reports whether it is the first time. requestID is remembered
// where outcomes may be told later.
func (l *Ledger) Expose(id uint64, requestID string, arm int, now time.Time) (first bool) {
	l.mu.RLock() // until the unit has its epoch, whose place must not move meanwhile
	epoch := len(l.epochs) - 1
	s := l.shard(id)
	s.mu.Lock()
	u, known := s.units.Get(id)
	switch {
	case !known:
		u = &unit{epoch: epoch, arm: arm, values: make([]observed, len(l.plan.Outcomes))}
		s.units.Add(id, u)
		sums := s.at(l.plan, epoch, arm)
		sums.Units++
		for i, o := range l.plan.Outcomes {
			if o.Sum {
				sums.Outcomes[i].N++ // 0, until something is told
			}
		}
	case u.arm != arm && !u.switched:
		u.switched = true
		l.switched.Add(1)
	}
	counts := !u.switched
	if counts {
		s.at(l.plan, u.epoch, u.arm).Requests++
	}
	s.mu.Unlock()
	l.mu.RUnlock()
	if counts && l.keeps && requestID != "" {
		h := xxhash.Sum64String(requestID)
		r := l.shard(h)
		r.mu.Lock()
		r.requests.Add(h, told{unit: id, at: now.UnixNano()})
		r.mu.Unlock()
	}
	return !known
}

// most is how large a value may be. What is kept are sums of squares: one that is infinite would be so for ever, and one
// that is not finite cannot even be saved.
const most = 1e15

func countable(v float64) bool { return math.Abs(v) <= most } // not NaN either

// Observe notes a value of an outcome, an index into the plan's, that a request of a unit had at an arm. Of a unit that is
// not in the comparison it notes nothing, nor a value that is not finite or beyond 1e15.
func (l *Ledger) Observe(id uint64, arm, outcome int, v float64) {
	if !countable(v) {
		return
	}
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.units.Get(id)
	if !ok || u.switched || u.arm != arm {
		return
	}
	o, sums := &u.values[outcome], &s.at(l.plan, u.epoch, u.arm).Outcomes[outcome]
	var before float64
	switch {
	case l.plan.Outcomes[outcome].Sum:
		before = o.sum // what is told of a unit adds up
		o.n++
		o.sum += v
		v = o.sum
	default:
		if o.n > 0 {
			before = o.mean()
		} else {
			sums.N++
		}
		o.n++
		o.sum += v
		v = o.mean()
	}
	sums.S += v - before
	sums.S2 += v*v - before*before
}

// ErrUnknown is what Report returns of a request that is not remembered.
type ErrUnknown struct{ Message string }

func (e *ErrUnknown) Error() string { return e.Message }

// Report notes an outcome that is told of a request after it has ended. Its error, an *ErrUnknown, says why it counts for
// nothing.
func (l *Ledger) Report(requestID, outcome string, v float64, now time.Time) error {
	at := -1
	for i := range l.plan.Outcomes {
		if o := &l.plan.Outcomes[i]; o.Name == outcome && o.Source == FromAPI {
			at = i
		}
	}
	if at < 0 {
		return &ErrUnknown{fmt.Sprintf("the experiment has no outcome %q that is told by the API", outcome)}
	}
	if !countable(v) {
		return &ErrUnknown{fmt.Sprintf("%v is no value that can be counted: it must be a number from -1e15 to 1e15", v)}
	}
	h := xxhash.Sum64String(requestID)
	s := l.shard(h)
	s.mu.Lock()
	r, ok := s.requests.Get(h)
	window := l.plan.Outcomes[at].Window
	switch {
	case !ok:
		s.mu.Unlock()
		return &ErrUnknown{"no request of that id is in the comparison, or it was forgotten"}
	case window > 0 && now.Sub(time.Unix(0, r.at)) > window:
		s.mu.Unlock()
		return &ErrUnknown{fmt.Sprintf("the request is older than the window, %v", window)}
	case r.has&(1<<at) != 0:
		s.mu.Unlock()
		return &ErrUnknown{"duplicate: this outcome of the request was told already"}
	}
	r.has |= 1 << at
	s.requests.Add(h, r)
	s.mu.Unlock()
	u := l.shard(r.unit)
	u.mu.Lock()
	known, ok := u.units.Peek(r.unit)
	arm := 0
	if ok {
		arm = known.arm
	}
	u.mu.Unlock()
	if !ok {
		return &ErrUnknown{"the request's unit was forgotten"}
	}
	l.Observe(r.unit, arm, at, v)
	return nil
}

// Exclude counts a request that is in no comparison.
func (l *Ledger) Exclude(why Reason) { l.excluded[why].Add(1) }

// Excluded returns how many requests are in no comparison, by their reason.
func (l *Ledger) Excluded(why Reason) uint64 { return l.excluded[why].Load() }

// Reweigh begins an epoch where weights are others than those of the last.
func (l *Ledger) Reweigh(weights []float64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(weights, l.epochs[len(l.epochs)-1].Weights) {
		return
	}
	l.begin(weights, now)
}

// begin is called with mu held.
func (l *Ledger) begin(weights []float64, now time.Time) {
	l.epochs = append(l.epochs, epochHead{Since: now, Weights: weights})
	l.compact()
}

func (a *armSums) add(b *armSums) {
	a.Units += b.Units
	a.Requests += b.Requests
	if a.Outcomes == nil {
		a.Outcomes = make([]value, len(b.Outcomes))
	}
	for i, v := range b.Outcomes {
		a.Outcomes[i].N += v.N
		a.Outcomes[i].S += v.S
		a.Outcomes[i].S2 += v.S2
	}
}

// epoch is a time with the same weights, and its sums.
type epoch struct {
	epochHead
	Arms []armSums `json:"arms"`
}

// all adds the shards up.
func (l *Ledger) all() (epochs []epoch, forgotten uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	epochs = make([]epoch, len(l.epochs))
	for i := range epochs {
		epochs[i] = epoch{l.epochs[i], make([]armSums, len(l.plan.Arms))}
		for a := range epochs[i].Arms {
			epochs[i].Arms[a].Outcomes = make([]value, len(l.plan.Outcomes))
		}
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for e := range s.sums {
			for a := range s.sums[e] {
				epochs[e].Arms[a].add(&s.sums[e][a])
			}
		}
		forgotten += s.forgotten
		s.mu.Unlock()
	}
	return epochs, forgotten
}

// Record is what survives a restart: sums, and not who was seen. A unit that comes again afterwards counts once more, in
// an epoch of its own.
type Record struct {
	Began     time.Time `json:"began"`
	Epochs    []epoch   `json:"epochs"`
	Excluded  []uint64  `json:"excluded"`
	Switched  uint64    `json:"switched"`
	Forgotten uint64    `json:"forgotten"`
}

// Save returns what survives a restart.
func (l *Ledger) Save() Record {
	r := Record{Began: l.began, Excluded: make([]uint64, reasons), Switched: l.switched.Load()}
	r.Epochs, r.Forgotten = l.all()
	for i := range r.Excluded {
		r.Excluded[i] = l.excluded[i].Load()
	}
	return r
}

// Restore goes on where Save was, with a new epoch at weights. It returns nil where the record is of another plan.
func Restore(p *Plan, r Record, weights []float64, now time.Time) *Ledger {
	l := newLedger(p)
	l.began = r.Began
	first := &l.shards[0]
	for i, e := range r.Epochs {
		if len(e.Arms) != len(p.Arms) || len(e.Weights) != len(p.Arms) {
			return nil
		}
		l.epochs = append(l.epochs, e.epochHead)
		for a := range e.Arms {
			if len(e.Arms[a].Outcomes) != len(p.Outcomes) {
				return nil
			}
			first.at(p, i, a).add(&e.Arms[a])
		}
	}
	for i := range min(len(r.Excluded), reasons) {
		l.excluded[i].Store(r.Excluded[i])
	}
	l.switched.Store(r.Switched)
	first.forgotten = r.Forgotten
	l.begin(weights, now)
	return l
}
