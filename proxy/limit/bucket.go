package limit

import (
	"sync"
	"time"
)

// Bucket is one bucket that many keys draw on: those that found no place, or all of them together. It is safe for
// concurrent use.
type Bucket struct {
	mu      sync.Mutex
	figures figures
	clock   clock
	due     int64
	refused uint64
}

// NewBucket returns a full bucket. New says which rates and bursts there are.
func NewBucket(rate float64, burst int) *Bucket {
	return &Bucket{figures: newFigures(rate, float64(burst))}
}

func (b *Bucket) reserve(cost float64, most time.Duration, now int64, total *Bucket) (g Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ticks := b.clock.read(now, &b.figures, b.due)
	next, wait, ok := b.figures.take(b.due, b.figures.price(cost), b.figures.ticks(most), ticks)
	g = Grant{OK: ok, Wait: b.figures.duration(wait)}
	if !ok {
		b.refused++
	} else if total != nil {
		all := total.reserve(cost, most, now, nil)
		g.OK, g.ByTotal, g.Wait = all.OK, !all.OK, max(g.Wait, all.Wait)
	}
	if g.OK {
		b.due = next
	}
	g.Remaining = b.figures.tokens(b.due, ticks)
	return g
}

// Configure puts another rate and burst in force at now. What was used stays used, up to the new burst, and so
// does a debt.
func (b *Bucket) Configure(rate float64, burst int, now int64) {
	b.configure(newFigures(rate, float64(burst)), now)
}

func (b *Bucket) configure(f figures, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f == b.figures {
		return
	}
	ticks := b.clock.read(now, &b.figures, b.due)
	b.clock.restart(b.clock.last)
	b.due = b.figures.convert(b.due, ticks, f)
	b.figures = f
}

// Refused is how often it has refused.
func (b *Bucket) Refused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}
