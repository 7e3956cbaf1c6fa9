package control

import (
	"fmt"
	"testing"
	"time"

	"weir/internal/state"
)

// TestExperimentLeavesAlone: an arm that somebody took off the users is not brought back, however good its figures are.
func TestExperimentLeavesAlone(t *testing.T) {
	w := run(t, newStore(), scored(t))
	for i := range 400 {
		w.ask("/predict", fmt.Sprint("user-", i))
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, _, ok := w.Proxy().AllocateArms("predict"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the experiment asks for no weights")
		}
	}
	if _, err := w.SetWeights("predict", map[string]float64{"blue": 1, "green": 0}, Change{}); err != nil {
		t.Fatal(err)
	}
	w.allocate("predict", time.Now(), map[string]time.Time{})
	if last := latest(w); last.Kind != state.KindWeights {
		t.Errorf("green was switched off, and then there was %+v", last)
	}
	if _, err := w.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, Change{}); err != nil {
		t.Fatal(err)
	}
	w.allocate("predict", time.Now(), map[string]time.Time{})
	if last := latest(w); last.Kind != state.KindExperiment {
		t.Errorf("green is back, and the experiment left its weight at %+v", last)
	}
}
