package control

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
)

// scored are two arms of which green's answers have the better score, and an experiment that allocates by it.
func scored(t *testing.T) *config.Config {
	t.Helper()
	says := func(score string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, score) }))
		t.Cleanup(s.Close)
		return "[" + quote(s.Listener.Addr().String()) + "]"
	}
	s := site{blue: says(`{"score":0.2}`), green: says(`{"score":0.9}`), split: "blue: 1, green: 1"}
	cfg := s.parse(t)
	e := config.DefaultExperiment()
	e.Outcomes = []config.ExperimentOutcome{{Name: "score", From: config.OutcomeJSON, Path: "score", Goal: config.GoalIncrease}}
	e.Allocation = &config.Allocation{Floor: 0.2, Cap: 0.8, MinUnits: 100, Interval: time.Minute}
	cfg.Routes[0].Experiment = &e
	return cfg
}

// TestExperimentAllocatesAndSurvives: the better arm gets the cap, as a change of the history, once an interval, and not
// during a rollout; what was counted is there after a restart.
func TestExperimentAllocatesAndSurvives(t *testing.T) {
	store, cfg := newStore(), scored(t)
	w := run(t, store, cfg)
	for i := range 400 {
		w.ask("/predict", fmt.Sprint("user-", i))
	}
	units := func() (n uint64) {
		t.Helper()
		e, err := w.Experiment("predict")
		if err != nil {
			t.Fatal(err)
		}
		return e.Arms[0].Outcomes[0].Units + e.Arms[1].Outcomes[0].Units
	}
	for deadline := time.Now().Add(20 * time.Second); units() < 400; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d units have a value", units())
		}
	}
	allocated, now := map[string]time.Time{}, time.Now()
	share := func() float64 {
		set, err := w.Proxy().Weigh("predict", nil)
		if err != nil {
			t.Fatal(err)
		}
		return inPercent(set)[1].Weight
	}
	if _, err := w.StartRollout("predict", RolloutOptions{To: "green"}, Change{}); err != nil {
		t.Fatal(err)
	}
	w.allocate("predict", now, allocated)
	if latest(w).Kind == state.KindExperiment {
		t.Error("weights were changed during a rollout")
	}
	if _, err := w.CommandRollout("predict", "abort", Change{}); err != nil {
		t.Fatal(err)
	}
	w.allocate("predict", now.Add(30*time.Second), allocated)
	before := share()
	w.allocate("predict", now.Add(2*time.Minute), allocated)
	if got := share(); before == got || math.Abs(got-80) > 0.2 {
		t.Errorf("green has %v %% before its time and %v %% after it", before, got)
	}
	last := latest(w)
	if last.Kind != state.KindExperiment || last.By != "experiment" {
		t.Errorf("the history has %+v", last)
	}
	w.stop()

	w = run(t, store, cfg)
	if n := units(); n != 400 {
		t.Errorf("%d units after the restart", n)
	}
	if got := share(); math.Abs(got-80) > 0.2 {
		t.Errorf("green has %v %% after the restart", got)
	}
}

func latest(w *weir) state.Change {
	all := w.History()
	return all[len(all)-1]
}
