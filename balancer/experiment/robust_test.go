package experiment

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
)

// TestLedgerRefusesWhatIsNoFigure: one value out of a broken answer must not make all the others unreadable, for they are
// sums: what is infinite once is so for ever, and cannot even be saved.
func TestLedgerRefusesWhatIsNoFigure(t *testing.T) {
	p := aPlan(Outcome{Name: "score", Source: FromJSON}, Outcome{Name: "bought", Source: FromAPI})
	for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN(), 1e200, -1e200} {
		l := NewLedger(p, []float64{1, 1}, t0)
		l.Expose(1, "r1", 0, t0)
		l.Observe(1, 0, 0, 0.5)
		l.Observe(1, 0, 0, v)
		if err := l.Report("r1", "bought", v, t0); err == nil {
			t.Errorf("%v is taken from the API", v)
		}
		if err := l.Report("r1", "bought", 2, t0); err != nil {
			t.Errorf("after %v a value that is one: %v", v, err)
		}
		r := l.Result()
		if got := r.Arms[0].Outcomes; *got[0].Mean != 0.5 || *got[1].Mean != 2 {
			t.Errorf("after %v the means are %v and %v", v, *got[0].Mean, *got[1].Mean)
		}
		for _, text := range []any{r, l.Save()} {
			if _, err := json.Marshal(text); err != nil {
				t.Errorf("after %v: %v", v, err)
			}
		}
	}
}

// TestManyEpochs: more changes of weights than are remembered one by one neither look like a fault of the assignment, nor
// like an effect, even where the rate of everything follows the weights (Simpson's paradox), and they lose nobody.
func TestManyEpochs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	l := NewLedger(aPlan(), []float64{1, 1}, t0)
	unit := uint64(0)
	const changes, each = 3 * mostEpochs, 40
	for range changes {
		green := float64(1+rng.IntN(9)) / 10
		l.Reweigh([]float64{1 - green, green}, t0)
		for range each {
			unit++
			id, arm, v := unit*0x9e3779b97f4a7c15, 0, 0.0
			if rng.Float64() < green {
				arm = 1
			}
			if rng.Float64() < 0.1+0.8*green { // the rate is that of the time, not of the arm
				v = 1
			}
			l.Expose(id, "", arm, t0)
			l.Observe(id, arm, 0, v)
		}
	}
	r := l.Result()
	if len(l.epochs) > mostEpochs || r.Arms[0].Units+r.Arms[1].Units != changes*each {
		t.Errorf("%d epochs are remembered, with %d and %d units", len(l.epochs), r.Arms[0].Units, r.Arms[1].Units)
	}
	if o := r.Arms[1].Outcomes[0]; r.Mismatch || o.Better || o.Worse || math.Abs(*o.Effect) > 0.02 {
		t.Errorf("%s (evidence %.3g, effect %.3g)", r.Sentence, r.Evidence, *o.Effect)
	}
	// Units that come again are found where they are by now.
	for u := uint64(1); u <= 100; u++ {
		if l.Expose(u*0x9e3779b97f4a7c15, "", 0, t0) {
			t.Errorf("unit %d is new twice", u)
		}
	}
}
