package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Window is a ring of slots of 5 s: what it shows is at most 60 s old, and everything of
// the last 55 s is in it. The recent part is the current slot and the two before it.
const (
	slots       = 12
	slotSpan    = 5 * time.Second
	recentSlots = 2
)

// Window counts the durations of the last 60 s. Its zero value is empty and ready, it is
// safe for concurrent use, and it must not be copied. An empty one holds 3.2 KB, one of
// durations between 1 ms and 1 s about 20 KB.
//
// It has no clock of its own: somebody calls Tick about once a second.
type Window struct {
	current atomic.Uint32
	slots   [slots]counters[atomic.Uint32]
	failed  [slots]atomic.Uint32

	mu     sync.Mutex // held by Tick
	turned time.Time  // when current began; zero before the first Tick
	since  time.Time  // the first Tick
}

// Record counts d: one atomic load and one atomic addition. It allocates only for the first
// duration of its power of two in a slot.
func (w *Window) Record(d time.Duration) {
	w.slots[w.current.Load()].at(bucketOf(d)).Add(1)
}

// RecordFailed counts d, and that what took so long failed.
func (w *Window) RecordFailed(d time.Duration) {
	current := w.current.Load()
	w.slots[current].at(bucketOf(d)).Add(1)
	w.failed[current].Add(1)
}

// Recent is what a Window holds of the last 10 to 15 s.
type Recent struct {
	Span   time.Duration // it covers; 0 before the first Tick
	Failed uint64
	*Snapshot
}

// Recent returns the recent part, at a time not before the last Tick.
func (w *Window) Recent(now time.Time) Recent {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := Recent{Snapshot: &Snapshot{}}
	if w.turned.IsZero() {
		return r
	}
	r.Span = min(max(0, now.Sub(w.turned))+recentSlots*slotSpan, now.Sub(w.since))
	for back := range uint32(recentSlots + 1) {
		k := (w.current.Load() + slots - back) % slots
		w.slots[k].each(func(bucket int, count *atomic.Uint32) {
			r.add(bucket, uint64(count.Load()))
		})
		r.Failed += uint64(w.failed[k].Load())
	}
	return r
}

// Tick tells the window what time it is, and forgets what became older than 60 s.
func (w *Window) Tick(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.turned.IsZero() {
		w.turned, w.since = now, now
		return
	}
	turns := now.Sub(w.turned) / slotSpan
	if turns <= 0 {
		return
	}
	w.turned = w.turned.Add(turns * slotSpan)
	for range min(turns, slots) {
		w.turn()
	}
}

// turn makes the oldest slot the current one. It is cleared first: a Record that still
// holds the index from before writes to a slot that counts for another 55 s.
func (w *Window) turn() {
	next := (w.current.Load() + 1) % slots
	w.slots[next].each(func(_ int, count *atomic.Uint32) { count.Store(0) })
	w.failed[next].Store(0)
	w.current.Store(next)
}

// Snapshot returns what was recorded in the last 60 s.
func (w *Window) Snapshot() *Snapshot {
	s := &Snapshot{}
	for k := range w.slots {
		w.slots[k].each(func(bucket int, count *atomic.Uint32) {
			s.add(bucket, uint64(count.Load()))
		})
	}
	return s
}

// Count returns how many durations were recorded in the last 60 s.
func (w *Window) Count() uint64 { return w.Snapshot().Count() }

// Quantile is Snapshot().Quantile(q): false when the last 60 s are empty. Take one Snapshot
// to ask for several.
func (w *Window) Quantile(q float64) (time.Duration, bool) { return w.Snapshot().Quantile(q) }
