// Package stats holds the figures weir keeps about requests: latency histograms that cost
// one or two atomic additions to record into, and the same over the last minute.
package stats

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets are log-linear: every power of two is cut into 32 equal parts, counted in
// units of 32 ns. A bucket is therefore at most 1/32 of its lower edge wide, and its middle
// is at most 1.6 % away from any duration in it, from 1 µs up. Below 1 µs the error is at
// most 16 ns. 1024 buckets reach 2199 s; longer durations count in the last one.
const (
	unitShift = 5 // 1 << 5 ns is the unit
	subShift  = 5 // 1 << 5 buckets in a power of two
	sub       = 1 << subShift
	buckets   = 1024

	unitMax = 1<<(subShift+buckets/sub-1) - 1 // the longest duration that has a bucket of its own, in units
)

// bucketOf returns the bucket that counts d; a negative duration counts as zero.
func bucketOf(d time.Duration) int {
	u := uint64(max(d, 0)) >> unitShift
	if u < sub {
		return int(u)
	}
	u = min(u, unitMax)
	e := bits.Len64(u) - subShift - 1
	return e<<subShift + int(u>>e)
}

// lowerEdge returns the shortest duration that bucket i counts. lowerEdge(buckets) is the
// upper edge of the last one.
func lowerEdge(i int) time.Duration {
	if i < sub {
		return time.Duration(i) << unitShift
	}
	e := i>>subShift - 1
	return time.Duration(sub+i&(sub-1)) << (e + unitShift)
}

// middle returns the duration that stands for all that bucket i counts.
func middle(i int) time.Duration { return (lowerEdge(i) + lowerEdge(i+1)) / 2 }

// counters are buckets of type C. The 32 of a power of two are made when the first of them is
// needed: durations of one kind fall into few of them, and most kinds never happen at all.
type counters[C any] [buckets / sub]atomic.Pointer[[sub]C]

// at returns the counter of a bucket.
func (c *counters[C]) at(bucket int) *C {
	part := &c[bucket>>subShift]
	counts := part.Load()
	if counts == nil {
		part.CompareAndSwap(nil, new([sub]C))
		counts = part.Load()
	}
	return &counts[bucket&(sub-1)]
}

// each calls f with every counter that was made.
func (c *counters[C]) each(f func(bucket int, count *C)) {
	for k := range c {
		counts := c[k].Load()
		if counts == nil {
			continue
		}
		for i := range counts {
			f(k<<subShift+i, &counts[i])
		}
	}
}

// Histogram counts durations since it was made. Its zero value is empty and ready, it is
// safe for concurrent use, and it must not be copied. An empty one holds 264 bytes, one of
// durations between 1 ms and 1 s about 3 KB.
type Histogram struct {
	sum    atomic.Int64
	counts counters[atomic.Uint64]
}

// Record counts d: two atomic additions. It allocates only for the first duration of its
// power of two.
func (h *Histogram) Record(d time.Duration) {
	h.counts.at(bucketOf(d)).Add(1)
	h.sum.Add(int64(max(d, 0)))
}

// Tally is Record for who asks for quantiles only: one atomic addition, and Sum does not know of it.
func (h *Histogram) Tally(d time.Duration) { h.counts.at(bucketOf(d)).Add(1) }

// Snapshot returns what was recorded so far. Records that run at the same time are in it
// or not, each as a whole except that Sum may be one record ahead or behind.
func (h *Histogram) Snapshot() *Snapshot {
	s := &Snapshot{sum: time.Duration(h.sum.Load())}
	h.counts.each(func(bucket int, count *atomic.Uint64) {
		s.add(bucket, count.Load())
	})
	return s
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.Snapshot().Count() }

// Sum returns the sum of the recorded durations; it is exact.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sum.Load()) }

// Quantile is Snapshot().Quantile(q); take one Snapshot to ask for several.
func (h *Histogram) Quantile(q float64) (time.Duration, bool) { return h.Snapshot().Quantile(q) }

// Cumulative is Snapshot().Cumulative(bounds).
func (h *Histogram) Cumulative(bounds []float64) []uint64 { return h.Snapshot().Cumulative(bounds) }
