package bench

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func offsets(p Pacer, n int) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = p.Next()
	}
	return out
}

func TestConstantIsExact(t *testing.T) {
	tests := []struct {
		rate float64
		want []time.Duration
	}{
		{1000, []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond}},
		{0.5, []time.Duration{0, 2 * time.Second, 4 * time.Second}},
		{3, []time.Duration{0, 333333333, 666666666, time.Second}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, offsets(Constant(tt.rate), len(tt.want))); diff != "" {
			t.Errorf("Constant(%v) (-want +got):\n%s", tt.rate, diff)
		}
	}
}

func TestConstantDoesNotDrift(t *testing.T) {
	p := Constant(7)
	var last time.Duration
	for range 7*3600 + 1 {
		last = p.Next()
	}
	if last != time.Hour {
		t.Errorf("request %d at 7/s is due at %v, want %v", 7*3600, last, time.Hour)
	}
}

func TestPoissonSameSeedSameSchedule(t *testing.T) {
	first := offsets(Poisson(1000, 42), 1000)
	if diff := cmp.Diff(first, offsets(Poisson(1000, 42), 1000)); diff != "" {
		t.Errorf("seed 42 drew two schedules (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, offsets(Poisson(1000, 43), 1000)) {
		t.Error("seeds 42 and 43 drew the same schedule")
	}
}

// Exponential gaps have their mean as standard deviation; with 100,000 of them both are known
// to about 0.3 %.
func TestPoissonGaps(t *testing.T) {
	const rate, n = 2500, 100_000
	var sum, squares float64
	last := time.Duration(0)
	for _, due := range offsets(Poisson(rate, 7), n) {
		if due < last {
			t.Fatalf("schedule goes back from %v to %v", last, due)
		}
		gap := (due - last).Seconds()
		sum += gap
		squares += gap * gap
		last = due
	}
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(mean*rate-1) > 0.02 || math.Abs(deviation*rate-1) > 0.02 {
		t.Errorf("gaps have mean %.3g s and deviation %.3g s, want both near %.3g s", mean, deviation, 1.0/rate)
	}
}

func TestNewPacerRefuses(t *testing.T) {
	for _, tt := range []struct {
		arrivals string
		rate     float64
	}{{"poisson", 0}, {"poisson", -1}, {"poisson", math.NaN()}, {"constant", math.Inf(1)}, {"bursts", 10}} {
		if p, err := NewPacer(tt.arrivals, tt.rate, 1); err == nil {
			t.Errorf("NewPacer(%q, %v) = %v, want an error", tt.arrivals, tt.rate, p)
		}
	}
}

func TestDrawIsUniform(t *testing.T) {
	const bound, n = 10, 100_000
	var counts [bound]int
	for i := range uint64(n) {
		counts[draw(1, streamUsers, i, bound)]++
	}
	for v, c := range counts {
		if c < 9_500 || c > 10_500 {
			t.Errorf("value %d was drawn %d times of %d, want about %d", v, c, n, n/bound)
		}
	}
}
