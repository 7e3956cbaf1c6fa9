package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBucketsCoverEveryDurationOnce(t *testing.T) {
	for i := range buckets {
		low, high := lowerEdge(i), lowerEdge(i+1)
		if low >= high {
			t.Fatalf("bucket %d: edges %v and %v do not ascend", i, low, high)
		}
		for _, d := range []time.Duration{low, middle(i), high - 1} {
			if got := bucketOf(d); got != i {
				t.Fatalf("bucketOf(%d ns) = %d, want %d [%d, %d)", d, got, i, low, high)
			}
		}
	}
	if got := lowerEdge(buckets); got < 1000*time.Second {
		t.Errorf("the last bucket ends at %v, want more than 1000s", got)
	}
}

func TestBucketOfClampsWhatIsOutOfRange(t *testing.T) {
	for d, want := range map[time.Duration]int{
		math.MinInt64:       0,
		-time.Second:        0,
		0:                   0,
		lowerEdge(buckets):  buckets - 1,
		math.MaxInt64:       buckets - 1,
		100 * time.Hour:     buckets - 1,
		lowerEdge(1024) - 1: buckets - 1,
	} {
		if got := bucketOf(d); got != want {
			t.Errorf("bucketOf(%v) = %d, want %d", d, got, want)
		}
	}
}

// exactQuantile is the nearest-rank quantile of sorted.
func exactQuantile(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func TestQuantilesAreWithinThreePercentOfExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	distributions := map[string]func() time.Duration{
		"log-uniform 1µs to 1000s": func() time.Duration {
			return time.Duration(float64(time.Microsecond) * math.Pow(1e9, r.Float64()))
		},
		"exponential 5ms": func() time.Duration {
			return time.Microsecond + time.Duration(r.ExpFloat64()*float64(5*time.Millisecond))
		},
		"normal 200µs": func() time.Duration {
			return time.Duration(max(1e3, 200e3+r.NormFloat64()*30e3))
		},
		"constant": func() time.Duration { return 7301 * time.Nanosecond },
		"two modes": func() time.Duration {
			if r.Float64() < 0.95 {
				return 2 * time.Millisecond
			}
			return 3 * time.Second
		},
	}
	for name, draw := range distributions {
		t.Run(name, func(t *testing.T) {
			var h Histogram
			var all []time.Duration
			var sum time.Duration
			for range 20_000 {
				d := draw()
				h.Record(d)
				all = append(all, d)
				sum += d
			}
			slices.Sort(all)
			for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1} {
				got, ok := h.Quantile(q)
				want := exactQuantile(all, q)
				if off := math.Abs(float64(got-want)) / float64(want); !ok || off > 0.03 {
					t.Errorf("Quantile(%v) = %v, %v; exact is %v, off by %.1f %%", q, got, ok, want, 100*off)
				}
			}
			if h.Count() != uint64(len(all)) || h.Sum() != sum {
				t.Errorf("Count, Sum = %d, %v; want %d, %v", h.Count(), h.Sum(), len(all), sum)
			}
		})
	}
}

func TestEmptyHistogramHasNoQuantile(t *testing.T) {
	var h Histogram
	if d, ok := h.Quantile(0.5); ok || d != 0 {
		t.Errorf("Quantile of nothing = %v, %v; want 0, false", d, ok)
	}
	if diff := cmp.Diff([]uint64{0, 0}, h.Cumulative([]float64{0.1, 1})); diff != "" {
		t.Errorf("Cumulative of nothing (-want +got):\n%s", diff)
	}
}

func TestCumulativeCountsUpToEachBound(t *testing.T) {
	var h Histogram
	for _, ms := range []int{1, 2, 3, 40, 40, 600, 5000} {
		h.Record(time.Duration(ms) * time.Millisecond)
	}
	got := h.Cumulative([]float64{0.0005, 0.0025, 0.005, 0.05, 0.5, 1, 10})
	if diff := cmp.Diff([]uint64{0, 2, 3, 5, 5, 6, 7}, got); diff != "" {
		t.Errorf("Cumulative (-want +got):\n%s", diff)
	}
}

func TestRecordIsSafeForConcurrentUse(t *testing.T) {
	var h Histogram
	var w Window
	const writers, each = 4, 5_000
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			for range each {
				h.Record(time.Duration(i+1) * time.Millisecond)
				w.Record(time.Duration(i+1) * time.Millisecond)
			}
		})
	}
	running.Go(func() {
		start := time.Now()
		for i := range 100 {
			w.Tick(start.Add(time.Duration(i) * 100 * time.Millisecond))
			h.Snapshot()
			w.Snapshot()
		}
	})
	running.Wait()
	if h.Count() != writers*each || w.Count() != writers*each {
		t.Errorf("counted %d and %d, want %d", h.Count(), w.Count(), writers*each)
	}
	if want := each * (1 + 2 + 3 + 4) * time.Millisecond; h.Sum() != want {
		t.Errorf("Sum = %v, want %v", h.Sum(), want)
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	var h Histogram
	var w Window
	if n := testing.AllocsPerRun(100, func() { h.Record(time.Millisecond); w.Record(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHistogramRecord(b *testing.B) {
	var h Histogram
	d := 100 * time.Microsecond
	for b.Loop() {
		h.Record(d)
		d = d*5/4%time.Second + time.Microsecond
	}
}

func BenchmarkHistogramRecordParallel(b *testing.B) {
	var h Histogram
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Record(time.Millisecond)
		}
	})
}

func BenchmarkWindowRecord(b *testing.B) {
	var w Window
	for b.Loop() {
		w.Record(time.Millisecond)
	}
}

func BenchmarkWindowSnapshot(b *testing.B) {
	var w Window
	for b.Loop() {
		w.Snapshot()
	}
}

func ExampleHistogram() {
	var h Histogram
	for ms := range 100 {
		h.Record(time.Duration(ms+1) * time.Millisecond)
	}
	s := h.Snapshot()
	p95, _ := s.Quantile(0.95)
	fmt.Println(s.Count(), s.Sum(), p95.Round(time.Millisecond))
	// Output: 100 5.05s 95ms
}

func TestSince(t *testing.T) {
	var h Histogram
	h.Record(time.Second)
	before := h.Snapshot()
	for range 3 {
		h.Record(time.Millisecond)
	}
	d := h.Snapshot().Since(before)
	if q, ok := d.Quantile(1); d.Count() != 3 || d.Sum() != 3*time.Millisecond || !ok || q > 2*time.Millisecond {
		t.Errorf("%d, %v, greatest %v", d.Count(), d.Sum(), q)
	}
	if _, ok := before.Since(before).Quantile(0.5); ok {
		t.Error("there is a quantile of nothing")
	}
}
