//go:build !race

package experiment

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestNoSimpson: an arm that is worse by ten points in either epoch looks better in the sum of both, because it had most of
// the units when everything was easy. The comparison by epochs knows.
func TestNoSimpson(t *testing.T) {
	p := aPlan()
	l := NewLedger(p, []float64{9, 1}, t0)
	rng := rand.New(rand.NewPCG(5, 6))
	n := 0
	play := func(green float64, rate float64) {
		for range 4000 {
			arm := int(one(rng.Float64() < green))
			id := p.Unit(key(n))
			n++
			l.Expose(id, "", arm, t0)
			l.Observe(id, arm, 0, one(rng.Float64() < rate-0.1*float64(arm)))
		}
	}
	play(0.1, 0.5)
	l.Reweigh([]float64{1, 9}, t0)
	play(0.9, 0.9)
	r := l.Result()
	green := r.Arms[1].Outcomes[0]
	if *green.Mean <= *r.Arms[0].Outcomes[0].Mean {
		t.Fatal("the sums do not show the paradox")
	}
	if !green.Worse || math.Abs(*green.Effect+0.1) > 0.04 {
		t.Errorf("the effect is %v (%v to %v)", *green.Effect, *green.Low, *green.High)
	}
	if !strings.HasPrefix(r.Sentence, "green is worse than blue: success is ") || !strings.HasSuffix(r.Sentence, "it is safe to stop now") {
		t.Error(r.Sentence)
	}
}

// TestAllocate: the better arm gets the cap, the others the floor, and arms that are alike keep their shares about.
func TestAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		name   string
		rates  []float64
		less   bool
		least  uint64
		want   []float64 // 0: anything
		refuse bool
	}{
		{"the second is better", []float64{0.5, 0.7, 0.5}, false, 100, []float64{0.1, 0.8, 0.1}, false},
		{"less is better", []float64{0.5, 0.7, 0.3}, true, 100, []float64{0.1, 0.1, 0.8}, false},
		{"alike", []float64{0.5, 0.5, 0.5}, false, 100, nil, false},
		{"too early", []float64{0.5, 0.7, 0.5}, false, 5000, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := aPlan(Outcome{Name: "x", Source: FromJSON, Decrease: c.less})
			p.Arms = []string{"a", "b", "c"}
			p.Allocation = &Allocation{Floor: 0.1, Cap: 0.8, Least: c.least}
			l := NewLedger(p, []float64{1, 1, 1}, t0)
			for i := range 6000 {
				arm := rng.IntN(3)
				id := p.Unit(key(i))
				l.Expose(id, "", arm, t0)
				l.Observe(id, arm, 0, one(rng.Float64() < c.rates[arm]))
			}
			got, ok := l.Allocate(rng)
			if ok == c.refuse {
				t.Fatalf("allocated: %v", ok)
			}
			sum := 0.0
			for i, s := range got {
				sum += s
				if s < 0.1-1e-6 || s > 0.8+1e-6 || c.want != nil && math.Abs(s-c.want[i]) > 0.01 {
					t.Errorf("the shares are %.3f", got)
				}
			}
			if ok && math.Abs(sum-1) > 1e-6 {
				t.Errorf("the shares add up to %v", sum)
			}
		})
	}
}

// TestWithin: shares stay within their bounds and add up, also at the edges of what can be.
func TestWithin(t *testing.T) {
	for _, c := range []struct {
		shares      []float64
		floor, most float64
	}{
		{[]float64{1, 0}, 0.1, 0.9}, {[]float64{1, 0}, 0, 0.9}, {[]float64{1, 0, 0}, 0, 0.5}, {[]float64{0.5, 0.5}, 0.5, 0.5}, {[]float64{1, 0, 0}, 0.9, 0.2}, {[]float64{0.01, 0.99}, 0.05, 1},
	} {
		got, sum := within(c.shares, c.floor, c.most), 0.0
		n := float64(len(got))
		for _, s := range got {
			sum += s
			if s < min(c.floor, 1/n)-1e-6 || s > max(c.most, 1/n)+1e-6 {
				t.Errorf("%+v: %.3f", c, got)
			}
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("%+v: %.3f", c, got)
		}
	}
}
