package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/balancer/rollout"
	"weir/internal/mlflowtest"
)

// moved is a site whose rollout moves by itself, in steps of 20 %.
func moved(t *testing.T, green backendtest.Behaviour, auto, analysis string) *rollingSite {
	return newRollingSite(t, green, fmt.Sprintf("strategy: auto, tripwire: off, auto: {step: 20, hold: 200ms, %s}, analysis: {interval: 100ms, alpha: 0.05, min_requests: 30, %s}", auto, analysis))
}

const moderateErrors = "error_rate: {max_ratio: 1.5, tolerate: 5%}"

// TestAutoGoesUpAndDown: it climbs while the version is good, goes back while it is bad, and climbs again from evidence anew.
func TestAutoGoesUpAndDown(t *testing.T) {
	s := moved(t, backendtest.Behaviour{}, "max: 80, keep: true", moderateErrors)
	x := run(t, newStore(), s.parse(t))
	_, events, cancel := x.Subscribe("")
	defer cancel()
	x.traffic()
	x.roll()
	reaches := func(weight float64) RolloutStatus {
		t.Helper()
		var at RolloutStatus
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if at, _ = x.Rollout("predict"); at.Weight == weight && at.Phase == rollout.Progressing || at.Phase.Ended() {
				break
			}
		}
		if at.Weight != weight {
			t.Fatalf("it is at %v %%, %s: %s; want %v", at.Weight, at.Phase, at.Why, weight)
		}
		return at
	}
	top := reaches(80)
	if top.Step != 5 || len(top.Steps) != 5 || top.Steps[0].Weight != 0 || top.Steps[1].Weight != 20 {
		t.Errorf("at the top: %+v", top)
	}
	since := top.Since
	eventually(t, "it is judged anew at the top", func() bool {
		at, _ := x.Rollout("predict")
		return at.Weight == 80 && at.Since.After(since) && at.Analysis != nil && at.Analysis.Verdict != ""
	})
	s.green.SetBehaviour(backendtest.Behaviour{ErrorRate: 0.4})
	back := reaches(60)
	if !strings.HasPrefix(back.Why, "a step back: ") || !strings.Contains(back.Why, "errors") {
		t.Errorf("why: %s", back.Why)
	}
	if back.Analysis != nil && back.Analysis.Verdict == rollout.Fail && back.Analysis.Canary.Requests > 20000 {
		t.Errorf("its evidence is old: %+v", back.Analysis)
	}
	reaches(40)
	s.green.SetBehaviour(backendtest.Behaviour{})
	reaches(80)
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Abort, by))
	if x.weights() != "blue=100 green=0" {
		t.Errorf("weights: %s", x.weights())
	}
	seen := map[string]bool{}
	for !seen["aborted"] {
		if e := <-events; e.Type == "rollout" {
			what, _, _ := strings.Cut(strings.TrimPrefix(string(e.Data), `{"event":"`), `"`)
			seen[what] = true
		}
	}
	if !seen["advance"] || !seen["back"] || seen["renew"] {
		t.Errorf("events: %v", seen)
	}
}

// TestAutoSucceeds: at its greatest weight it is over, and the old version keeps the rest.
func TestAutoSucceeds(t *testing.T) {
	s := moved(t, backendtest.Behaviour{}, "min: 20, max: 60", moderateErrors)
	x := run(t, newStore(), s.parse(t))
	x.traffic()
	x.roll()
	if end := x.ended(); end.Phase != rollout.Succeeded || end.Strategy != "auto" || len(end.Steps) != 3 || x.weights() != "blue=40 green=60" {
		t.Errorf("it is %s (%s), %s", end.Phase, end.Why, x.weights())
	}
}

// TestAutoAtItsLeast: a version that is bad from the beginning is given up, or held.
func TestAutoAtItsLeast(t *testing.T) {
	for _, c := range []struct {
		auto, weights string
		want          rollout.Phase
	}{
		{"min: 0", "blue=100 green=0", rollout.Aborted},
		{"min: 20", "blue=100 green=0", rollout.Aborted},
		{"min: 0, at_min: hold", "blue=100 green=0", rollout.Paused},
		{"min: 20, at_min: hold", "blue=80 green=20", rollout.Paused},
	} {
		t.Run(c.auto, func(t *testing.T) {
			s := moved(t, backendtest.Behaviour{ErrorRate: 0.5}, c.auto, moderateErrors)
			x := run(t, newStore(), s.parse(t))
			x.traffic()
			x.roll()
			at := x.becomes(c.want)
			if x.weights() != c.weights || !strings.Contains(at.Why, "errors") {
				t.Errorf("it is %s (%s), %s", at.Phase, at.Why, x.weights())
			}
			if c.want == rollout.Paused {
				s.green.SetBehaviour(backendtest.Behaviour{})
				must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Resume, by))
				if end := x.ended(); end.Phase != rollout.Succeeded || x.weights() != "blue=0 green=100" {
					t.Errorf("once it is good it is %s (%s), %s", end.Phase, end.Why, x.weights())
				}
			}
		})
	}
}

// TestAutoByAFigure: what is read elsewhere moves the weight, too, and the registry follows.
func TestAutoByAFigure(t *testing.T) {
	good, bad := scalar("0.1"), scalar("0.9")
	p, m := newPrometheus(t, good), mlflowtest.New(t)
	s := moved(t, backendtest.Behaviour{}, "max: 60, keep: true", fmt.Sprintf(`prometheus: [{name: refunds, url: '%s', query: 'sum(rate(refunds_total{version="2"}[1m]))', max: 0.5}]`, p.URL))
	s.yaml = strings.Replace(s.yaml, "rollout: {", fmt.Sprintf("rollout: {checks: {gates: [{mlflow: {url: '%s', model: digits, version: 2, set_alias: champion}}]}, ", m.URL), 1)
	x := run(t, newStore(), s.parse(t))
	x.traffic()
	x.roll()
	champion := func(version string) {
		t.Helper()
		eventually(t, "the champion is "+version, func() bool { return strings.Contains(m.State(), "champion="+version) })
	}
	champion("2")
	p.answer.Store(&bad)
	end := x.ended() // all the way down
	if end.Phase != rollout.Aborted || !strings.Contains(end.Why, "prometheus refunds: it is 0.9") || x.weights() != "blue=100 green=0" {
		t.Errorf("it is %s (%s), %s", end.Phase, end.Why, x.weights())
	}
	champion("1")
}
