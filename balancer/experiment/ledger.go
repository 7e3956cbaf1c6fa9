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
//
// A unit counts in every epoch in which it comes, at the arm that it has there, with what it did there. Nothing of it goes
// to an epoch that is over: an arm that loses units when weights change would lose what they do later, and where all get
// better, it alone would not.
type Ledger struct {
	plan   *Plan
	keeps  bool // requests, for outcomes that are told later
	shards [shards]shard

	excluded [reasons]atomic.Uint64
	switched atomic.Uint64

	mu        sync.RWMutex // guards what follows; taken before a shard's
	began     time.Time
	epochs    []epochHead
	places    []int       // by an epoch's number, where it is in epochs; never changed, but replaced
	before    [][]armSums // by epoch, by arm: what is from before a restart
	base      [][]float64 // see snapshot
	scales    []float64   // see scale
	forgotten uint64      // before a restart
}

// shards is how many parts a ledger has, so that requests of different units do not wait for each other. They are as well
// the groups by which it is estimated how much chance has to do with an effect (groups): everything that a unit does is in
// one of them, also after a restart.
const (
	shardBits = 6
	shards    = 1 << shardBits
)

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
	seen      seen
	open      int         // the number of the epoch that is under way
	places    []int       // as the ledger's
	sums      [][]armSums // by epoch, by arm
	forgotten uint64
}

// armSums are those of one arm in one epoch.
type armSums struct {
	Units    uint64  `json:"units"` // that were met in it for the first time ever
	Requests uint64  `json:"requests"`
	Outcomes []value `json:"outcomes"`
}

// value are sums over the units that have one in the epoch: of their number, of their means, and of the squares of these.
// First is the number of those that never had one before.
type value struct {
	N     uint64  `json:"n"`
	First uint64  `json:"first"`
	S     float64 `json:"s"`
	S2    float64 `json:"s2"`
}

// unit is what is remembered of one.
type unit struct {
	epoch    int // the number of the last one in which it was met
	arm      int // there
	switched bool
	had      uint64 // the outcomes of which it ever had a value, a bit each
	values   []observed
	credits  []credit // of outcomes that are told later, in epochs before
}

// observed are a unit's values of one outcome in its epoch.
type observed struct {
	n   uint32
	sum float64
}

// credit is what was told of a unit for an epoch before its last.
type credit struct {
	epoch, outcome int
	observed
}

// mostCredits bounds what is remembered of them, the oldest going first. What is told of a unit for more epochs than that
// counts as if it were of several.
const mostCredits = 32

// told is what is remembered of a request whose outcome may be told later.
type told struct {
	unit       uint64
	at         int64 // UnixNano
	epoch, arm int32
	has        uint64
}

// NewLedger begins an experiment at weights, parallel to the plan's arms.
func NewLedger(p *Plan, weights []float64, now time.Time) *Ledger {
	l := newLedger(p)
	l.began = now
	l.begin(weights, now)
	return l
}

func newLedger(p *Plan) *Ledger {
	l := &Ledger{plan: p, scales: make([]float64, len(p.Outcomes))}
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

func (l *Ledger) shard(hash uint64) *shard { return &l.shards[hash>>(64-shardBits)] }

// at returns the sums of an arm in the epoch of a number. Called with the shard's mu held.
func (s *shard) at(p *Plan, epoch, arm int) *armSums {
	place := s.places[epoch]
	for len(s.sums) <= place {
		s.sums = append(s.sums, make([]armSums, len(p.Arms)))
	}
	a := &s.sums[place][arm]
	if a.Outcomes == nil {
		a.Outcomes = make([]value, len(p.Outcomes))
	}
	return a
}

// Expose notes that a unit meets an arm by a request, and reports whether it is the first time. requestID is remembered
// where outcomes may be told later.
func (l *Ledger) Expose(id uint64, requestID string, arm int, now time.Time) (first bool) {
	s := l.shard(id)
	s.mu.Lock()
	u, known := s.units.Get(id)
	if !known {
		u = &unit{epoch: s.open, arm: arm, values: make([]observed, len(l.plan.Outcomes))}
		s.units.Add(id, u)
		if first = s.seen.add(id); first {
			s.at(l.plan, s.open, arm).Units++
		} else {
			u.had = ^uint64(0)
		}
		s.enter(l.plan, u)
	}
	if u.arm != arm && !u.switched {
		u.switched = true
		l.switched.Add(1)
	}
	if u.epoch != s.open {
		u.leave(l.plan)
		u.epoch, u.arm = s.open, arm
		s.enter(l.plan, u)
	}
	// The arm is another one within an epoch only where the request was begun before it.
	epoch, counts := u.epoch, u.arm == arm
	if counts {
		s.at(l.plan, epoch, arm).Requests++
	}
	s.mu.Unlock()
	if counts && l.keeps && requestID != "" {
		h := xxhash.Sum64String(requestID)
		r := l.shard(h)
		r.mu.Lock()
		r.requests.Add(h, told{unit: id, at: now.UnixNano(), epoch: int32(epoch), arm: int32(arm)})
		r.mu.Unlock()
	}
	return first
}

// enter counts a unit that has come to an epoch. Called with the shard's mu held.
func (s *shard) enter(p *Plan, u *unit) {
	for i := range p.Outcomes {
		if p.Outcomes[i].Sum {
			u.count(s.at(p, u.epoch, u.arm), i) // 0, until something is told
		}
	}
}

// count notes that the unit has a value.
func (u *unit) count(sums *armSums, outcome int) {
	v := &sums.Outcomes[outcome]
	v.N++
	if u.had&(1<<outcome) == 0 {
		u.had |= 1 << outcome
		v.First++
	}
}

// leave puts away what may still change when the epoch of a unit is over.
func (u *unit) leave(p *Plan) {
	for i, o := range u.values {
		if p.Outcomes[i].Source == FromAPI && o.n > 0 {
			u.remember(credit{u.epoch, i, o})
		}
		u.values[i] = observed{}
	}
}

func (u *unit) remember(c credit) {
	if len(u.credits) == mostCredits {
		u.credits = slices.Delete(u.credits, 0, 1)
	}
	u.credits = append(u.credits, c)
}

// most is how large a value may be. What is kept are sums of squares: one that is infinite would be so for ever, and one
// that is not finite cannot even be saved.
const most = 1e15

func countable(v float64) bool { return math.Abs(v) <= most } // not NaN either

// Observe notes a value of an outcome, an index into the plan's, that a request of a unit had at an arm. Of a unit that is
// not in the comparison, or has another arm by now, it notes nothing, nor a value that is not finite or beyond 1e15.
func (l *Ledger) Observe(id uint64, arm, outcome int, v float64) {
	if !countable(v) {
		return
	}
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.units.Get(id); ok && u.arm == arm {
		u.observe(l.plan, s.at(l.plan, u.epoch, arm), &u.values[outcome], outcome, v)
	}
}

// observe adds a value to what a unit has of an outcome, o, in an epoch of which these are the sums.
func (u *unit) observe(p *Plan, sums *armSums, o *observed, outcome int, v float64) {
	before := p.of(*o, outcome)
	if o.n == 0 && !p.Outcomes[outcome].Sum {
		u.count(sums, outcome)
	}
	o.n++
	o.sum += v
	after := p.of(*o, outcome)
	sums.Outcomes[outcome].S += after - before
	sums.Outcomes[outcome].S2 += after*after - before*before
}

// of is the value of a unit that has these: their mean, or their sum; 0 without any.
func (p *Plan) of(o observed, outcome int) float64 {
	if p.Outcomes[outcome].Sum || o.n == 0 {
		return o.sum
	}
	return o.sum / float64(o.n)
}

// credit adds to what a unit has, in the epoch and at the arm of the request that it is told of. Called with the
// shard's mu held.
func (s *shard) credit(p *Plan, u *unit, r told, outcome int, v float64) {
	sums, epoch := s.at(p, int(r.epoch), int(r.arm)), int(r.epoch)
	if u.epoch == epoch {
		u.observe(p, sums, &u.values[outcome], outcome, v)
		return
	}
	at := slices.IndexFunc(u.credits, func(c credit) bool { return c.epoch == epoch && c.outcome == outcome })
	if at < 0 {
		u.remember(credit{epoch, outcome, observed{}})
		at = len(u.credits) - 1
	}
	u.observe(p, sums, &u.credits[at].observed, outcome, v)
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
	defer u.mu.Unlock()
	known, ok := u.units.Peek(r.unit)
	if !ok {
		return &ErrUnknown{"the request's unit was forgotten"}
	}
	u.credit(l.plan, known, r, at, v)
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

// begin is called with mu held, or before the ledger is anybody else's.
func (l *Ledger) begin(weights []float64, now time.Time) {
	l.epochs = append(l.epochs, epochHead{Since: now, Weights: weights})
	places := append(slices.Clip(l.places), len(l.epochs)-1)
	move := l.compact(places)
	l.places = places
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		if move != nil {
			s.sums = move(s.sums)
		}
		s.open, s.places = len(places)-1, places
		s.mu.Unlock()
	}
}

func (a *armSums) add(b *armSums) {
	a.Units += b.Units
	a.Requests += b.Requests
	if a.Outcomes == nil {
		a.Outcomes = make([]value, len(b.Outcomes))
	}
	for i, v := range b.Outcomes {
		a.Outcomes[i].N += v.N
		a.Outcomes[i].First += v.First
		a.Outcomes[i].S += v.S
		a.Outcomes[i].S2 += v.S2
	}
}

// epoch is a time with the same weights, and its sums.
type epoch struct {
	epochHead
	Arms []armSums `json:"arms"`
}

// part is what a shard has of a value: N and S.
type part struct{ n, s float64 }

// snapshot is all that a ledger has counted.
type snapshot struct {
	epochs []epoch
	// parts are the sums of each shard since a restart, by epoch, by arm, by outcome, one after the other.
	parts [shards][]part
	// base are what groups had come to at a restart, by arm and outcome; nil without one.
	base      [][]float64
	scales    []float64
	forgotten uint64
}

// snapshot adds the shards up.
func (l *Ledger) snapshot() *snapshot {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := &snapshot{epochs: make([]epoch, len(l.epochs)), base: l.base, scales: slices.Clone(l.scales), forgotten: l.forgotten}
	for i := range all.epochs {
		all.epochs[i] = epoch{l.epochs[i], make([]armSums, len(l.plan.Arms))}
		for a := range all.epochs[i].Arms {
			sums := &all.epochs[i].Arms[a]
			sums.Outcomes = make([]value, len(l.plan.Outcomes))
			if i < len(l.before) {
				sums.add(&l.before[i][a])
			}
		}
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		parts := make([]part, 0, len(s.sums)*len(l.plan.Arms)*len(l.plan.Outcomes))
		for e := range s.sums {
			for a := range s.sums[e] {
				sums := &s.sums[e][a]
				all.epochs[e].Arms[a].add(sums)
				for _, v := range sums.Outcomes {
					parts = append(parts, part{float64(v.N), v.S})
				}
				if sums.Outcomes == nil {
					parts = parts[:len(parts)+len(l.plan.Outcomes)]
				}
			}
		}
		all.parts[i] = parts
		all.forgotten += s.forgotten
		s.mu.Unlock()
	}
	return all
}
