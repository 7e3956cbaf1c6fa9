package cache

import (
	"sync"
	"sync/atomic"
)

// Verdict is how a flight ended, for those who waited.
type Verdict uint8

const (
	Landed Verdict = iota // there is an answer
	Alone                 // there is one that is not for others: they ask for themselves
	Failed                // the endpoint has failed: they ask for themselves
	Again                 // who asked has left: one of them asks in its place
	Late                  // it takes too long: of those who wait, who finds it late asks anew
)

// Flight is an answer on its way, which others wait for.
type Flight struct {
	Began   int64
	key     Key
	headAt  atomic.Int64
	landed  atomic.Bool
	verdict Verdict // once landed
	entry   *Entry
	waiters []func() // nil for those that have left
}

// Result is how the flight ended; false while it has not.
func (f *Flight) Result() (e *Entry, v Verdict, ok bool) {
	if !f.landed.Load() {
		return nil, Again, false
	}
	return f.entry, f.verdict, true
}

// Key is that of the requests that wait for it.
func (f *Flight) Key() Key { return f.key }

// Head notes that the answer has begun to come, and HeadAt tells when; 0: not yet.
func (f *Flight) Head(now int64) { f.headAt.Store(now) }

// HeadAt is 0 as long as the answer has not begun to come.
func (f *Flight) HeadAt() int64 { return f.headAt.Load() }

// Flights are those under way.
type Flights struct{ shards [shards]flightShard }

type flightShard struct {
	mu  sync.Mutex
	all map[Key]*Flight
}

func (g *Flights) init() {
	for i := range g.shards {
		g.shards[i].all = map[Key]*Flight{}
	}
}

func (g *Flights) shard(key Key) *flightShard { return &g.shards[key[0]%shards] }

// Join has who asks wait for the flight of that key, which calls wake when it lands: place is what Leave is
// told. With a nil wake it does not wait. Where there is none, or it is late, or began no later than since, the
// caller leads a new one.
func (g *Flights) Join(key Key, now, since int64, late *Flight, wake func()) (f *Flight, place int, leads bool) {
	s := g.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.all[key]; f != nil && f != late && f.Began > since {
		if wake != nil {
			f.waiters = append(f.waiters, wake)
		}
		return f, len(f.waiters) - 1, false
	}
	f = &Flight{Began: now, key: key}
	s.all[key] = f
	return f, -1, true
}

// Leave ends a wait.
func (g *Flights) Leave(f *Flight, place int) {
	s := g.shard(f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if place < len(f.waiters) {
		f.waiters[place] = nil
	}
}

// Land ends a flight and wakes those who wait.
func (g *Flights) Land(f *Flight, v Verdict, e *Entry) {
	s := g.shard(f.key)
	s.mu.Lock()
	if s.all[f.key] == f {
		delete(s.all, f.key)
	}
	f.verdict, f.entry = v, e
	f.landed.Store(true)
	waiters := f.waiters
	f.waiters = nil
	s.mu.Unlock()
	for _, wake := range waiters {
		if wake != nil {
			wake()
		}
	}
}

// part has nobody join the flights that are under way.
func (g *Flights) part() {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		clear(s.all)
		s.mu.Unlock()
	}
}

// UnderWay is the number of flights.
func (g *Flights) UnderWay() (n int) {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		n += len(s.all)
		s.mu.Unlock()
	}
	return n
}
