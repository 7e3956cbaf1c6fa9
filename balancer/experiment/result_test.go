//go:build !race

package experiment

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// world is who comes to a simulated experiment, and what the arms do to them.
type world struct {
	units   int
	heavy   int                            // of them, that make half of all requests
	rate    func(progress float64) float64 // of success, at both arms
	effect  float64                        // of the second arm
	weights [][]float64                    // one after the other, over the same time each
	bad     bool                           // the arms are not met by the weights
}

// run plays a world and returns whether at any of the looks the interval of the effect left out the true one, and left out 0.
func (w *world) run(rng *rand.Rand, looks int) (l *Ledger, missed, found, mismatch bool) {
	p := aPlan()
	p.Expect = w.units / 2
	l = NewLedger(p, w.weights[0], t0)
	requests := 3 * w.units
	at := 0
	arms := make([]int8, w.units) // 1 + arm, 0 unknown
	skill := make([]float64, w.units)
	for i := range skill {
		skill[i] = rng.NormFloat64() * 0.1
	}
	for n := range requests {
		if next := n * len(w.weights) / requests; next != at {
			at = next
			l.Reweigh(w.weights[at], t0)
		}
		who := rng.IntN(w.units)
		if w.heavy > 0 && rng.IntN(2) == 0 {
			who = rng.IntN(w.heavy)
		} else if n < w.units {
			who = n
		}
		share := w.weights[at][1] / (w.weights[at][0] + w.weights[at][1])
		if w.bad {
			share *= 0.9
		}
		arm := 0
		if arms[who] > 0 {
			arm = int(arms[who]) - 1
		} else {
			if rng.Float64() < share {
				arm = 1
			}
			arms[who] = int8(arm) + 1
		}
		id := p.Unit(key(who))
		l.Expose(id, "", arm, t0)
		good := w.rate(float64(n)/float64(requests)) + skill[who]
		if arm == 1 {
			good += w.effect
		}
		v := 0.0
		if rng.Float64() < good {
			v = 1
		}
		l.Observe(id, arm, 0, v)
		if n%(requests/looks) == 0 {
			r := l.Result()
			if o := r.Arms[1].Outcomes[0]; o.Effect != nil {
				missed = missed || w.effect < *o.Low || w.effect > *o.High
				found = found || o.Better || o.Worse
			}
			mismatch = mismatch || r.Mismatch
		}
	}
	return l, missed, found, mismatch
}

func steady(rate float64) func(float64) float64 { return func(float64) float64 { return rate } }

// drifting is a rate that goes up and down by more than any effect.
func drifting(progress float64) float64 { return 0.7 + 0.2*math.Sin(12*progress) }

// TestEffects: looked at fifty times, intervals miss the true effect no more often than alpha says, whatever drifts, whoever
// comes often, and however the weights change; and effects that are there are found.
func TestEffects(t *testing.T) {
	runs, units := 60, 2000
	if os.Getenv("WEIR_PROVE") != "" {
		runs, units = 1000, 4000
	}
	even := [][]float64{{1, 1}}
	ramp := [][]float64{{9, 1}, {7, 3}, {5, 5}, {3, 7}}
	for _, c := range []struct {
		name  string
		world world
		found float64 // of the runs, at least
	}{
		{"no effect", world{rate: steady(0.6), weights: even}, 0},
		{"no effect, hardly ever a failure", world{rate: steady(0.99), weights: even}, 0},
		{"no effect, ramp and drift", world{rate: drifting, weights: ramp}, 0},
		{"no effect, heavy users", world{rate: drifting, weights: even, heavy: 5}, 0},
		{"better", world{rate: steady(0.6), effect: 0.1, weights: even}, 0.9},
		{"worse, ramp and drift", world{rate: drifting, effect: -0.15, weights: ramp}, 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var missed, found, mismatches int
			for range runs {
				w := c.world
				w.units = units
				_, m, f, s := w.run(rng, 50)
				missed, found, mismatches = missed+int(one(m)), found+int(one(f)), mismatches+int(one(s))
			}
			t.Logf("of %d runs %d missed the effect, %d found one, %d reported a mismatch", runs, missed, found, mismatches)
			n := float64(runs)
			if most := 0.05*n + 4*math.Sqrt(0.05*0.95*n); float64(missed) > most {
				t.Errorf("%d of %d runs missed the effect; alpha is 5 %%", missed, runs)
			}
			if float64(found) < c.found*n {
				t.Errorf("%d of %d runs found the effect", found, runs)
			}
			if float64(mismatches) > 0.001*n+4*math.Sqrt(0.001*n)+1 {
				t.Errorf("%d mismatches of none", mismatches)
			}
		})
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// TestMismatch: a tenth of an arm's units that go elsewhere are found.
func TestMismatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	w := world{units: 20_000, rate: steady(0.6), weights: [][]float64{{1, 1}, {3, 2}}, bad: true}
	l, _, _, mismatch := w.run(rng, 50)
	if !mismatch {
		t.Error("nobody noticed")
	}
	if s := l.Result().Sentence; !strings.HasPrefix(s, "do not trust these figures") {
		t.Error(s)
	}
}

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
