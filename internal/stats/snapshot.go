package stats

import (
	"math"
	"time"
)

// Snapshot is what a Histogram or a Window held at one moment. Its figures agree with each
// other: the counts of Cumulative never exceed Count.
type Snapshot struct {
	sum    time.Duration
	count  uint64
	counts [buckets]uint64
}

func (s *Snapshot) add(bucket int, n uint64) {
	s.counts[bucket] += n
	s.count += n
}

// Merge adds what o holds.
func (s *Snapshot) Merge(o *Snapshot) {
	s.sum, s.count = s.sum+o.sum, s.count+o.count
	for i, n := range o.counts {
		s.counts[i] += n
	}
}

// Since returns what was recorded after before, an earlier snapshot of the same Histogram.
func (s *Snapshot) Since(before *Snapshot) *Snapshot {
	d := &Snapshot{sum: s.sum - before.sum, count: s.count - before.count}
	for i := range d.counts {
		d.counts[i] = s.counts[i] - before.counts[i]
	}
	return d
}

// Count returns how many durations it holds.
func (s *Snapshot) Count() uint64 { return s.count }

// Sum returns their sum. A Window keeps none: the Sum of its snapshot is 0.
func (s *Snapshot) Sum() time.Duration { return s.sum }

// Quantile returns the duration that the share q (0 to 1) of the recorded ones does not
// exceed (nearest rank), within 1.6 % from 1 µs up. It reports false when nothing was recorded.
func (s *Snapshot) Quantile(q float64) (time.Duration, bool) {
	if s.count == 0 {
		return 0, false
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(s.count)))
	rank = min(max(rank, 1), s.count)
	var seen uint64
	for i, n := range s.counts {
		seen += n
		if seen >= rank {
			return middle(i), true
		}
	}
	return middle(buckets - 1), true
}

// Cumulative returns, for each of the ascending bounds in seconds, how many recorded
// durations do not exceed it: the buckets of a classic Prometheus histogram, whose +Inf
// bucket is Count. A duration within 1.6 % of a bound may count on the other side of it,
// always on the same one.
func (s *Snapshot) Cumulative(bounds []float64) []uint64 {
	out := make([]uint64, len(bounds))
	var seen uint64
	i := 0
	for k, bound := range bounds {
		for i < buckets && middle(i).Seconds() <= bound {
			seen += s.counts[i]
			i++
		}
		out[k] = seen
	}
	return out
}

// Above returns how many recorded durations are longer than all that count as d does: than any within 3 % of it.
func (s *Snapshot) Above(d time.Duration) (n uint64) {
	for _, c := range s.counts[bucketOf(d)+1:] {
		n += c
	}
	return n
}

// AboveOrAt is Above, with those that count as d does.
func (s *Snapshot) AboveOrAt(d time.Duration) uint64 { return s.Above(d) + s.counts[bucketOf(d)] }
