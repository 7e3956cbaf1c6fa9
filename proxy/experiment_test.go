package proxy

import (
	"testing"

	"weir/balancer/experiment"
	"weir/config"
)

// measured is a request of a user over a route with an experiment.
func measured(tb testing.TB, user string, change func(*config.Experiment)) *request {
	tb.Helper()
	a := &config.Affinity{Source: config.AffinityHeader, Name: "X-User-ID", Fallback: config.FallbackRandom, Salt: "predict"}
	r := aRequest(tb, "/predict", "Host: h\r\nX-User-ID: "+user+"\r\n", a)
	e := config.DefaultExperiment()
	e.Outcomes = []config.ExperimentOutcome{{Name: "success", From: config.OutcomeStatus, Goal: config.GoalIncrease}}
	if change != nil {
		change(&e)
	}
	r.route.cfg.Experiment = &e
	r.route.experiment, _ = newExperimenting(&r.route.cfg, r.route.split.Variants(), nil, nil)
	return r
}

// TestExperimentCountsARequestOnce: however often the variant is chosen, because its endpoint was gone when it should be
// picked or another table was in force by then.
func TestExperimentCountsARequestOnce(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Experiment)
		want   experiment.Reason
	}{
		"takes part":  {nil, experiment.ReasonHash},
		"is held out": {func(e *config.Experiment) { e.HoldOut = 0.999999 }, experiment.ReasonHoldOut},
	} {
		r := measured(t, "user-1", c.change)
		x := r.route.experiment
		for range 3 {
			chosen, intended := r.pickVariant()
			x.meet(r, intended, chosen)
		}
		got := x.ledger.Result()
		requests := got.Arms[0].Requests + got.Arms[1].Requests
		for _, n := range got.Excluded {
			requests += n
		}
		if requests != 1 || r.part.reason != c.want || (r.part.of == x) != (c.want == experiment.ReasonHash) {
			t.Errorf("%s: one request counts as %d, for %v: %+v", name, requests, r.part.reason, got)
		}
	}
}
