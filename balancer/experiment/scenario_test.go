//go:build !race

package experiment

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// scene is an experiment as it is run: units that come and come again, and arms that follow the weights as those of a split
// do, so that a unit meets another one when its bucket moves.
type scene struct {
	source  string  // of the outcome; "" for status
	rate    float64 // of what is counted, at the control
	effect  float64
	swing   float64     // by how much the rate drifts up and down, for everybody
	rise    float64     // by how much it goes up from the beginning to the end
	skill   float64     // how much users differ
	tenure  float64     // how much better those of the first half are than the others
	weights [][]float64 // one after the other, each for as long
	value   func(*rand.Rand, float64) float64
	follow  bool // the weights are what the ledger asks for
	restart bool // after each change of weights
	heavy   bool // one user makes half of the requests
	bad     bool // a tenth of an arm's units go elsewhere
	units   int
	more    int // times as many units; 0: 1
	each    int // requests of a unit
	looks   int
}

// end is how a scene ended. All but the last are about any of the looks.
type end struct {
	missed, found, mismatch bool
	last                    Result
	weights                 []float64
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func yesNo(rng *rand.Rand, p float64) float64 { return one(rng.Float64() < p) }

func (s scene) play(rng *rand.Rand) (e end) {
	p := aPlan()
	p.Expect = s.units / 2
	if s.source != "" {
		p.Outcomes[0].Source = s.source
	}
	if s.follow {
		p.Allocation = &Allocation{Floor: 0.1, Cap: 0.9, Least: 100}
	}
	if s.value == nil {
		s.value = yesNo
	}
	weights := s.weights[0]
	l := NewLedger(p, weights, t0)
	skill := make([]float64, s.units)
	for i := range skill {
		skill[i] = s.skill * rng.NormFloat64()
		if i < s.units/2 {
			skill[i] += s.tenure
		}
	}
	salt := rng.Uint64()
	requests, at := s.units*s.each, 0
	for n := range requests {
		progress := float64(n) / float64(requests)
		if next := int(progress * float64(len(s.weights))); next != at {
			at = next
			weights = s.weights[at]
			if s.follow {
				if w, ok := l.Allocate(rng); ok {
					weights = w
				}
			}
			if s.restart {
				l = Restore(p, l.Save(), weights, t0.Add(time.Duration(n)*time.Second))
			}
			l.Reweigh(weights, t0.Add(time.Duration(n)*time.Second))
		}
		// More come as time goes on, and all that have come go on coming.
		who := rng.IntN(1 + int(float64(s.units-1)*min(1, 0.3+0.7*progress)))
		if s.heavy && rng.IntN(2) == 0 {
			who = 0
		}
		share := weights[1] / (weights[0] + weights[1])
		h := xxhash.Sum64(append(key(who), key(int(salt>>1))...))
		arm := int(one(float64(h>>11)/(1<<53) < share))
		if s.bad && arm == 1 && h%10 == 0 {
			arm = 0
		}
		l.Expose(p.Unit(key(who)), "", arm, t0)
		rate := s.rate + s.swing*math.Sin(9*progress) + s.rise*progress + skill[who] + s.effect*float64(arm)
		l.Observe(p.Unit(key(who)), arm, 0, s.value(rng, rate))
		if n%(requests/s.looks) == 0 {
			r := l.Result()
			if o := r.Arms[1].Outcomes[0]; o.Effect != nil {
				e.missed = e.missed || s.effect < *o.Low || s.effect > *o.High
				e.found = e.found || o.Better || o.Worse
			}
			e.mismatch = e.mismatch || r.Mismatch
		}
	}
	e.last, e.weights = l.Result(), weights
	return e
}

// many repeats a scene.
func (s scene) many(runs int) (missed, found, mismatches int, ends []end) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range runs {
		e := s.play(rng)
		missed, found, mismatches = missed+int(one(e.missed)), found+int(one(e.found)), mismatches+int(one(e.mismatch))
		ends = append(ends, e)
	}
	return missed, found, mismatches, ends
}

func prove() bool { return os.Getenv("WEIR_PROVE") != "" }

// rarely is a purchase of always the same price by one in a hundred.
func rarely(rng *rand.Rand, rate float64) float64 { return 49.9 * one(rng.Float64() < rate) }

// long is a time with a long tail, such as a latency, of that mean.
func long(rng *rand.Rand, rate float64) float64 { return rate * math.Exp(1.2*rng.NormFloat64()-0.72) }

// TestNothingIsFound: arms that do the same differ, at any of the looks, no more often than alpha says, and no fault of the
// assignment is reported: whoever comes when, whatever drifts, and however weights change meanwhile.
func TestNothingIsFound(t *testing.T) {
	runs, units := 40, 1000
	if prove() {
		runs, units = 1000, 2000
	}
	even, ramp := [][]float64{{1, 1}}, [][]float64{{9, 1}, {7, 3}, {5, 5}, {3, 7}}
	same := slices.Repeat([][]float64{{1, 1}}, 12)
	for _, c := range []struct {
		name  string
		scene scene
	}{
		{"even", scene{rate: 0.6, skill: 0.1, weights: even, each: 4}},
		{"everybody comes again and again", scene{rate: 0.6, skill: 0.05, weights: even, each: 30}},
		{"a ramp while the rate drifts, and users move", scene{rate: 0.6, swing: 0.25, skill: 0.1, weights: ramp, each: 6}},
		{"a ramp while the rate goes up, and users move", scene{rate: 0.3, rise: 0.6, skill: 0.1, weights: ramp, each: 12}},
		{"the first are the best", scene{rate: 0.4, tenure: 0.4, weights: ramp, each: 6}},
		{"a restart at every step", scene{rate: 0.6, skill: 0.3, weights: same, restart: true, each: 12}},
		{"failures are rare, and few get it", scene{rate: 0.99, weights: [][]float64{{19, 1}}, each: 1, more: 6}},
		{"few buy, and few get it", scene{source: FromJSON, rate: 0.01, value: rarely, weights: [][]float64{{19, 1}}, each: 1, more: 6}},
		{"long tails", scene{source: FromLatency, rate: 0.1, value: long, weights: ramp, each: 4}},
		{"one makes half of the requests", scene{rate: 0.6, swing: 0.25, skill: 0.3, heavy: true, weights: ramp, each: 6}},
		{"weights that follow", scene{rate: 0.6, swing: 0.25, skill: 0.2, follow: true, weights: same, each: 12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.scene
			s.units, s.looks = units*max(1, s.more), 50
			_, found, mismatches, _ := s.many(runs)
			t.Logf("of %d runs %d found an effect, %d reported a mismatch", runs, found, mismatches)
			n := float64(runs)
			if most := 0.05*n + 3*math.Sqrt(0.05*0.95*n); float64(found) > most {
				t.Errorf("%d of %d runs found an effect; alpha is 5 %%", found, runs)
			}
			if float64(mismatches) > 0.001*n+3*math.Sqrt(0.001*n)+1 {
				t.Errorf("%d of %d runs reported a mismatch", mismatches, runs)
			}
		})
	}
}

// TestEffectsAreFound: in the same scenes what is there is found, and the interval has it.
func TestEffectsAreFound(t *testing.T) {
	runs, units := 20, 1000
	if prove() {
		runs, units = 400, 2000
	}
	ramp := [][]float64{{9, 1}, {7, 3}, {5, 5}, {3, 7}}
	same := slices.Repeat([][]float64{{1, 1}}, 12)
	for _, c := range []struct {
		name  string
		scene scene
		least float64 // of the runs must find it
	}{
		{"better, even", scene{rate: 0.6, effect: 0.15, skill: 0.1, weights: same[:1], each: 4}, 0.9},
		{"better, a ramp while the rate drifts", scene{rate: 0.5, effect: 0.15, swing: 0.2, skill: 0.1, weights: ramp, each: 6}, 0.9},
		{"worse, weights that follow", scene{rate: 0.6, effect: -0.15, swing: 0.2, skill: 0.1, follow: true, weights: same, each: 12}, 0.9},
		{"slower", scene{source: FromLatency, rate: 0.1, effect: 0.05, value: long, weights: ramp, each: 6}, 0.9},
		{"one makes half of the requests", scene{rate: 0.6, effect: 0.15, heavy: true, weights: ramp, each: 8}, 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.scene
			s.units, s.looks = units, 50
			missed, found, mismatches, _ := s.many(runs)
			t.Logf("of %d runs %d found the effect, %d missed it, %d reported a mismatch", runs, found, missed, mismatches)
			n := float64(runs)
			if float64(found) < c.least*n {
				t.Errorf("%d of %d runs found the effect", found, runs)
			}
			if most := 0.05*n + 3*math.Sqrt(0.05*0.95*n); float64(missed) > most {
				t.Errorf("%d of %d runs missed the effect; alpha is 5 %%", missed, runs)
			}
		})
	}
}

// TestMismatch: a tenth of an arm's units that go elsewhere are found, and the sentence begins with it, whatever else
// there is to say.
func TestMismatch(t *testing.T) {
	runs, units := 10, 10_000
	if prove() {
		runs = 200
	}
	s := scene{rate: 0.5, effect: 0.2, weights: [][]float64{{1, 1}, {3, 2}}, each: 2, bad: true, units: units, looks: 50}
	_, _, mismatches, ends := s.many(runs)
	if mismatches != runs {
		t.Errorf("nobody noticed in %d of %d runs", runs-mismatches, runs)
	}
	for _, e := range ends {
		if said := e.last.Sentence; !strings.HasPrefix(said, "do not trust these figures") || strings.Contains(said, "safe to stop") {
			t.Fatal(said)
		}
	}
}
