// Package limit refuses what a key asks for beyond a rate. It knows no HTTP: a key is bytes.
//
// A key's bucket holds burst tokens and gains rate of them a second. It is kept as one number, by the
// generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371; ATM Forum, Traffic Management
// Specification 4.0): when the bucket will be full again, the theoretical arrival time, here in ticks.
//
// What is remembered is a table of a fixed size, 16 bytes a key. A bucket that is full again is as good as
// one never seen, so its place is there for the next key that comes, and losing it costs nothing. A bucket
// in debt is never given up. Who asks for more than a bucket holds gets it from a full one, which is then in debt
// until the rate has made up for it: so large costs are possible, and the rate holds all the same. A key that comes when all its places hold debts, as when somebody invents keys,
// is a stranger: all strangers draw on one bucket together, and none gets a burst of its own. So no key gets
// more than its burst and its rate, those in the table lose nothing to the strangers, and one that has come
// back keeps its place for a while although its bucket is full; see set.spare.
package limit

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"time"
)

// Never is longer than anybody waits.
const Never = time.Duration(math.MaxInt64)

// strangersPerKeys is how many keys of the table stand for one of the strangers: together they have the
// rate and the burst of a hundredth of the keys that the table has places for, at least of one. Whoever can
// fill the table with debts has as many buckets as it has places; the strangers' adds a hundredth to that.
const strangersPerKeys = 100

// placesPerShard is what one lock guards: enough for shards to fill alike (a standard deviation of 1.6 %),
// few enough that Configure, which works through them, holds a lock for some microseconds.
const placesPerShard = 4096

// Limiter is a rate limiter by key. It is safe for concurrent use.
type Limiter struct {
	seed      maphash.Seed // so that nobody outside can choose keys that meet in one place
	shards    []shard
	strangers Bucket

	configuring sync.Mutex
	rate        float64 // in force, guarded by configuring
	burst       int
}

// shard is a part of the table and its lock. Two share no cache line.
type shard struct {
	mu      sync.Mutex
	figures figures
	clock   clock
	latest  int64 // when the last of the buckets is full
	sets    []set
	keys    int
	refused uint64
	crowded uint64
}

// New returns a limiter that gives each key burst at once and rate a second in the long run, and remembers
// as many keys as keys, at least 16; the number is rounded down, by less than 0.4 %. It takes 16 bytes a key
// at once, which the system provides as they are used. Until 80 % of its places hold debts a new key finds
// one, at 90 % all but one in a thousand do.
//
// Two keys whose hashes of 63 bits are the same share a bucket: a key meets one of n others with a
// probability of n / 2^63, which is 1e-13 for a million.
//
// The rate is from 1e-9 to 1e9 a second and the burst from 1 to 2^50; what is outside counts as the nearest.
func New(rate float64, burst, keys int) *Limiter {
	keys = max(keys, ways)
	shards := max(1, keys/placesPerShard)
	perShard := keys / ways / shards
	l := &Limiter{seed: maphash.MakeSeed(), shards: make([]shard, shards), rate: rate, burst: burst}
	sets := make([]set, shards*perShard) // one piece, so that each starts at a cache line
	for i := range l.shards {
		s := &l.shards[i]
		s.sets = sets[i*perShard : (i+1)*perShard : (i+1)*perShard]
		s.figures = newFigures(rate, float64(burst))
	}
	l.strangers.figures = l.strangersFigures()
	return l
}

func (l *Limiter) strangersFigures() figures {
	n := max(1, float64(len(l.shards)*len(l.shards[0].sets)*ways)/strangersPerKeys)
	return newFigures(l.rate*n, math.Floor(float64(max(1, l.burst))*n))
}

// Grant is what Reserve answers.
type Grant struct {
	// OK: the tokens are taken. Wait is then how long until they are there, which the caller has to wait for.
	// Where it is refused, Wait is when the same is granted at once if nobody takes anything before.
	OK   bool
	Wait time.Duration
	// Remaining is what the bucket has left, in whole tokens.
	Remaining int
	// ByTotal: the bucket of all keys has refused.
	ByTotal bool
}

// Take asks for cost tokens of key's bucket: all of them, or none when there are fewer. A cost above the burst
// takes a full bucket, and the rest as a debt. Whole costs are exact at every rate. Others are rounded up to a
// tick, of which a token has at least 500 for rates up to 1e6 a second. A cost of 0, which is also what a negative
// one and NaN count as, asks without taking.
//
// now is any monotonic clock in nanoseconds, always the same one. Callers may differ in it, as clocks read
// once a loop do: one that is less than a minute behind counts as the latest. One further behind has been
// set, and time goes on from there.
//
// When it is refused, retryAfter is when the same is granted if nobody takes anything before. remaining is what
// the bucket has left, in whole tokens.
func (l *Limiter) Take(key []byte, cost float64, now int64) (ok bool, retryAfter time.Duration, remaining int) {
	g := l.Reserve(key, cost, 0, now, nil)
	return g.OK, g.Wait, g.Remaining
}

// Reserve is Take for a caller that waits for up to most. Those that wait for a bucket get their turns in the
// order in which they asked; one that leaves while it waits gives nothing back. With most Never the cost is
// taken whatever the bucket holds. total, which may be nil, is a bucket of all keys together: the cost is taken
// from both or from none.
func (l *Limiter) Reserve(key []byte, cost float64, most time.Duration, now int64, total *Bucket) (g Grant) {
	hash := maphash.Bytes(l.seed, key)
	top, _ := bits.Mul64(hash, uint64(len(l.shards)))
	s := &l.shards[top]
	s.mu.Lock()
	ticks := s.clock.read(now, &s.figures, s.latest)
	price := s.figures.price(cost)
	p := s.place(hash, ticks, price > 0)
	due := ticks // a bucket that nobody remembers is full
	switch {
	case p.found():
		due = *p.due
	case p.crowded:
		s.crowded++
		burst := s.figures.tokens(ticks, ticks)
		s.mu.Unlock()
		g = l.strangers.reserve(cost, most, now, total)
		g.Remaining = min(g.Remaining, burst)
		return g
	}
	var longest int64
	if most > 0 {
		longest = s.figures.ticks(most)
	}
	next, wait, ok := s.figures.take(due, price, longest, ticks)
	if !ok {
		s.refused++
	} else if total != nil {
		if g = total.reserve(cost, most, now, nil); !g.OK {
			ok, next, g.ByTotal = false, max(due, ticks), true
		}
	}
	if ok && p.found() && price > 0 {
		if *p.word == 0 {
			s.keys++
		}
		*p.due, *p.word = next, p.mark
		s.latest = max(s.latest, next)
	}
	remaining := s.figures.tokens(next, ticks)
	after := max(s.figures.duration(wait), g.Wait)
	s.mu.Unlock()
	return Grant{OK: ok, Wait: after, Remaining: remaining, ByTotal: g.ByTotal}
}

// Configure puts another rate and burst in force at now; New says which. Every key keeps the tokens it has
// used, up to the new burst. Keys are configured some thousands at a time, and Take goes on meanwhile.
func (l *Limiter) Configure(rate float64, burst int, now int64) {
	l.configuring.Lock()
	defer l.configuring.Unlock()
	if rate == l.rate && burst == l.burst {
		return
	}
	l.rate, l.burst = rate, burst
	f := newFigures(rate, float64(burst))
	for i := range l.shards {
		l.shards[i].configure(f, now)
	}
	l.strangers.configure(l.strangersFigures(), now)
}

func (s *shard) configure(f figures, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ticks := s.clock.read(now, &s.figures, s.latest)
	s.clock.restart(s.clock.last)
	s.latest = s.figures.convert(s.latest, ticks, f)
	for i := range s.sets {
		for j := range s.sets[i].due {
			s.sets[i].due[j] = s.figures.convert(s.sets[i].due[j], ticks, f)
		}
	}
	s.figures = f
}

// Keys is how many keys are remembered. Those whose bucket is full again count until another key has
// their place.
func (l *Limiter) Keys() int {
	return int(l.sum(func(s *shard) uint64 { return uint64(s.keys) }))
}

// Refused is how often Take refused, strangers included.
func (l *Limiter) Refused() uint64 {
	n := l.sum(func(s *shard) uint64 { return s.refused })
	return n + l.strangers.Refused()
}

// Crowded is how often a key found all its places in debt and drew on the strangers' bucket, granted or
// not. More than a few a second say that somebody invents keys, or that the table is too small.
func (l *Limiter) Crowded() uint64 {
	return l.sum(func(s *shard) uint64 { return s.crowded })
}

func (l *Limiter) sum(of func(*shard) uint64) uint64 {
	n := uint64(0)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += of(s)
		s.mu.Unlock()
	}
	return n
}
