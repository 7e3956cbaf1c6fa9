package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// twoArms is a proxy with the variants blue and green, and users by X-User. change may add to the experiment.
func twoArms(t *testing.T, blue, green backendtest.Behaviour, log *lockedBuffer, change func(*config.Experiment)) (*running, *backendtest.Server, *backendtest.Server) {
	t.Helper()
	s, a, b := armsSetup(t, blue, green, change)
	if log != nil {
		s.log = log
	}
	return start(t, s), a, b
}

func armsSetup(t *testing.T, blue, green backendtest.Behaviour, change func(*config.Experiment)) (setup, *backendtest.Server, *backendtest.Server) {
	t.Helper()
	a, b := backendtest.NewServer(t, blue), backendtest.NewServer(t, green)
	return setup{endpoints: []string{a.Addr()}, change: func(c *config.Config) {
		second := c.Pools[0]
		second.Name, second.Endpoints = "green", []config.Endpoint{{Address: b.Addr(), Weight: 1}}
		c.Pools = append(c.Pools, second)
		r := &c.Routes[0]
		r.Split = []config.Variant{{Pool: "blue", Weight: 1}, {Pool: "green", Weight: 1}}
		r.Affinity = &config.Affinity{Source: config.AffinityHeader, Name: "X-User", Fallback: config.FallbackRandom, Salt: r.Name}
		e := config.DefaultExperiment()
		e.Force, e.Expect = "X-Arm", 500
		e.Outcomes = []config.ExperimentOutcome{
			{Name: "success", From: config.OutcomeStatus, Goal: config.GoalIncrease},
			{Name: "latency", From: config.OutcomeLatency, Goal: config.GoalDecrease},
			{Name: "score", From: config.OutcomeJSON, Path: "output.score", Goal: config.GoalIncrease},
			{Name: "bought", From: config.OutcomeAPI, Goal: config.GoalIncrease, Window: time.Hour},
		}
		if change != nil {
			change(&e)
		}
		r.Experiment = &e
	}}, a, b
}

// restarted is twoArms after a restart that left this of the experiment.
func restarted(t *testing.T, left proxy.ExperimentRecord, change func(*config.Experiment)) *running {
	t.Helper()
	text, err := json.Marshal(left)
	if err != nil {
		t.Fatal(err)
	}
	doc := &state.Document{Format: state.Format, Routes: map[string]state.Route{"all": {Experiment: text}}}
	s, _, _ := armsSetup(t, answering(1), answering(1), change)
	s.options = func(o *proxy.Options) { o.Remembered = doc }
	return start(t, s)
}

// answering is an endpoint whose answers hold a score.
func answering(score float64) backendtest.Behaviour {
	return backendtest.Behaviour{Body: fmt.Appendf(nil, `{"output":{"score":%g}}`, score)}
}

// askAs sends a request of a user and returns the variant that answered.
func askAs(t *testing.T, cl *client, user, id string, more ...string) string {
	t.Helper()
	lines := ""
	if user != "" {
		lines += "X-User: " + user + "\r\n"
	}
	cl.send("GET /x HTTP/1.1\r\nHost: h\r\nX-Request-ID: " + id + "\r\n" + lines + strings.Join(more, "") + "\r\n")
	m := cl.answer("GET")
	if m.status() != 200 {
		t.Fatalf("%s %q", m.start, m.body)
	}
	return m.get("X-Weir-Variant")
}

// TestEdgeExperiment has many users meet two arms of which one is better, and looks at all that is told of it.
func TestEdgeExperiment(t *testing.T) {
	log := new(lockedBuffer)
	r, blue, green := twoArms(t, answering(0.2), answering(0.7), log, nil)
	const users = 600
	arms := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			cl := r.dial(t)
			for n := g; n < users; n += 4 {
				user := fmt.Sprint("user-", n)
				for i := range 2 {
					arm := askAs(t, cl, user, fmt.Sprintf("%s.%d", user, i))
					mu.Lock()
					if was, ok := arms[user]; ok && was != arm {
						t.Errorf("%s met %s and %s", user, was, arm)
					}
					arms[user] = arm
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	cl := r.dial(t)
	if arm := askAs(t, cl, "user-1", "forced", "X-Arm: green\r\n"); arm != "green" {
		t.Errorf("the forced arm is %s", arm)
	}
	if other := askAs(t, cl, "user-1", "forced", "X-Arm: blue\r\n"); other != "blue" {
		t.Errorf("the forced arm is %s", other)
	}
	askAs(t, cl, "", "nobody")
	bought := 0
	for user, arm := range arms {
		if arm == "green" {
			if err := r.ReportOutcome("all", user+".0", "bought", 1); err != nil {
				t.Fatal(err)
			}
			bought++
		}
	}
	if err := r.ReportOutcome("all", "forced", "bought", 1); err == nil {
		t.Error("an outcome of a tester is taken")
	}
	met := map[string]uint64{}
	for _, arm := range arms {
		met[arm]++
	}
	eventually(t, "all requests have ended", func() bool {
		e, err := r.Experiment("all")
		if err != nil {
			t.Fatal(err)
		}
		return e.Arms[0].Outcomes[0].Units+e.Arms[1].Outcomes[0].Units == users
	})
	e, _ := r.Experiment("all")
	if e.Mismatch || e.Excluded["forced"] != 2 || e.Excluded["fallback"] != 1 || e.Switched != 0 {
		t.Errorf("%+v", e)
	}
	for i, name := range []string{"blue", "green"} {
		a := e.Arms[i]
		if a.Name != name || a.Units != met[name] || a.Requests != 2*met[name] || *a.Outcomes[0].Mean != 1 || *a.Outcomes[1].Mean <= 0 || a.Outcomes[3].Units != a.Units {
			t.Errorf("%s: %+v, want %d units", name, a, met[name])
		}
	}
	score, sold := e.Arms[1].Outcomes[2], e.Arms[1].Outcomes[3]
	if math.Abs(*score.Mean-0.7) > 1e-9 || !score.Better || *sold.Mean != 1 || !sold.Better || *e.Arms[0].Outcomes[3].Mean != 0 {
		t.Errorf("score %+v, bought %+v", score, sold)
	}
	if n := blue.Counts().Requests + green.Counts().Requests; n != 2*users+3 {
		t.Errorf("%d requests arrived", n)
	}
	m := r.metrics(t)
	if sum(m, "weir_experiment_exposures_total") != users || sum(m, "weir_experiment_excluded_total") != 3 || sum(m, "weir_experiment_sample_ratio_mismatch") != 0 ||
		sum(m, "weir_experiment_effect_lower", `outcome="bought"`) <= 0 {
		t.Error("the metrics say otherwise")
	}
	exposures := func() (n int) {
		lines := bufio.NewScanner(strings.NewReader(log.String()))
		for lines.Scan() {
			var line struct{ Logger, Arm, Unit, Route string }
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			if line.Logger == "weir.exposure" {
				n++
				if line.Unit == "" || strings.Contains(lines.Text(), "user-") == strings.HasPrefix(line.Unit, "user") && line.Route != "all" {
					t.Errorf("%s", lines.Text())
				}
			}
		}
		return n
	}
	eventually(t, "each exposure is logged, once", func() bool { return exposures() == users })
}

// TestEdgeExperimentLeavesOut: who is held out, or of another experiment of the layer, gets the control and is in no
// comparison.
func TestEdgeExperimentLeavesOut(t *testing.T) {
	r, _, _ := twoArms(t, answering(1), answering(1), nil, func(e *config.Experiment) {
		e.HoldOut, e.Layer = 0.3, &config.Layer{Name: "ranking", From: 0.5, To: 1}
	})
	cl := r.dial(t)
	const users = 400
	for n := range users {
		askAs(t, cl, fmt.Sprint("user-", n), fmt.Sprint(n))
	}
	e, err := r.Experiment("all")
	if err != nil {
		t.Fatal(err)
	}
	in := e.Arms[0].Units + e.Arms[1].Units
	if e.Excluded["layer"]+e.Excluded["holdout"]+in != users || e.Excluded["layer"] < users/3 || e.Excluded["holdout"] < users/12 || e.Arms[1].Units < users/12 {
		t.Errorf("%v are left out, %d take part", e.Excluded, in)
	}
	m := r.metrics(t)
	if n := sum(m, "weir_requests_total", `variant="green"`); n != float64(e.Arms[1].Units) {
		t.Errorf("green had %v requests, and %d units take part there", n, e.Arms[1].Units)
	}
}

// TestEdgeExperimentSwitchedOff: a control of weight 0 takes no traffic, of those who are left out neither; a tester may
// still have it.
func TestEdgeExperimentSwitchedOff(t *testing.T) {
	r, blue, _ := twoArms(t, answering(1), answering(1), nil, func(e *config.Experiment) {
		e.HoldOut, e.Layer = 0.5, &config.Layer{Name: "ranking", To: 0.5}
	})
	if _, err := r.Update(proxy.Update{Kind: "switch", Weights: map[string]map[string]float64{"all": {"blue": 0, "green": 1}}}); err != nil {
		t.Fatal(err)
	}
	cl := r.dial(t)
	const users = 60
	for n := range users {
		if arm := askAs(t, cl, fmt.Sprint("user-", n), fmt.Sprint(n)); arm != "green" {
			t.Errorf("user %d meets %s, which was switched off", n, arm)
		}
	}
	if n := blue.Counts().Requests; n != 0 {
		t.Errorf("%d requests reached what was switched off", n)
	}
	e, err := r.Experiment("all")
	if err != nil {
		t.Fatal(err)
	}
	if out := e.Excluded["layer"] + e.Excluded["holdout"]; out == 0 || out+e.Arms[1].Units != users {
		t.Errorf("%v are left out, and %d take part, of %d", e.Excluded, e.Arms[1].Units, users)
	}
	if arm := askAs(t, cl, "user-1", "tester", "X-Arm: blue\r\n"); arm != "blue" {
		t.Errorf("a tester gets %s", arm)
	}
}

// TestEdgeExperimentMismatch: where an arm serves less users than its weight says, because it was away for a while, that is
// said before anything else.
func TestEdgeExperimentMismatch(t *testing.T) {
	r, _, _ := twoArms(t, answering(1), answering(1), nil, nil)
	drain := func(on bool) {
		t.Helper()
		if _, err := r.Update(proxy.Update{Kind: "drain", Drains: []state.DrainChange{{Pool: "green", Draining: on}}}); err != nil {
			t.Fatal(err)
		}
	}
	cl := r.dial(t)
	ask := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			askAs(t, cl, fmt.Sprint("user-", n), fmt.Sprint(n))
		}
	}
	ask(0, 200)
	if e, _ := r.Experiment("all"); e.Mismatch || strings.HasPrefix(e.Sentence, "do not trust") {
		t.Errorf("units went where they should, and it says: %s", e.Sentence)
	}
	drain(true)
	ask(200, 500)
	drain(false)
	e, err := r.Experiment("all")
	if err != nil {
		t.Fatal(err)
	}
	if !e.Mismatch || !strings.HasPrefix(e.Sentence, "do not trust") || e.Excluded["spill"] == 0 {
		t.Errorf("%d and %d units, %v left out: %s", e.Arms[0].Units, e.Arms[1].Units, e.Excluded, e.Sentence)
	}
	if sum(r.metrics(t), "weir_experiment_sample_ratio_mismatch") != 1 {
		t.Error("the metric does not say so")
	}
}

// TestEdgeExperimentGoesOn: weights begin an epoch, a reload of something else changes nothing, one of the experiment begins
// anew, and a record goes over a restart.
func TestEdgeExperimentGoesOn(t *testing.T) {
	var change *config.Config
	r, _, _ := twoArms(t, answering(1), answering(1), nil, nil)
	change = r.Config()
	cl := r.dial(t)
	ask := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			askAs(t, cl, fmt.Sprint("user-", n), fmt.Sprint(n))
		}
	}
	units := func() (n uint64, epochs int) {
		t.Helper()
		e, err := r.Experiment("all")
		if err != nil {
			t.Fatal(err)
		}
		return e.Arms[0].Units + e.Arms[1].Units, e.Epochs
	}
	ask(0, 50)
	if _, err := r.Update(proxy.Update{Kind: "weights", Weights: map[string]map[string]float64{"all": {"blue": 3, "green": 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(proxy.Update{Kind: "weights", DryRun: true, Weights: map[string]map[string]float64{"all": {"blue": 9, "green": 1}}}); err != nil {
		t.Fatal(err)
	}
	ask(50, 100)
	if n, epochs := units(); n != 100 || epochs != 2 {
		t.Errorf("%d units in %d epochs after other weights", n, epochs)
	}
	other := *change
	other.Routes = append([]config.Route(nil), change.Routes...)
	other.Routes[0].Timeouts.Total = 77 * time.Second
	if _, _, err := r.Apply(&other); err != nil {
		t.Fatal(err)
	}
	ask(0, 100)
	if n, epochs := units(); n != 100 || epochs != 2 {
		t.Errorf("%d units in %d epochs after a reload of something else", n, epochs)
	}
	left := r.ExperimentRecords()["all"]
	for name, c := range map[string]struct {
		change func(*config.Experiment)
		units  uint64
	}{
		"the same":             {nil, 100},
		"another hold-out":     {func(e *config.Experiment) { e.HoldOut = 0.5 }, 0},
		"another control":      {func(e *config.Experiment) { e.Control = "green" }, 0},
		"another field":        {func(e *config.Experiment) { e.Outcomes[2].Path = "output.rank" }, 0},
		"an allocation beside": {func(e *config.Experiment) { a := config.DefaultAllocation(); e.Allocation = &a }, 0},
	} {
		next := restarted(t, left, c.change)
		if e, _ := next.Experiment("all"); e.Arms[0].Units+e.Arms[1].Units != c.units {
			t.Errorf("%s: %d units after the restart, want %d", name, e.Arms[0].Units+e.Arms[1].Units, c.units)
		}
	}
	again := other
	again.Routes = append([]config.Route(nil), other.Routes...)
	changed := *again.Routes[0].Experiment
	changed.Alpha = 0.01
	again.Routes[0].Experiment = &changed
	if _, changes, err := r.Apply(&again); err != nil || !strings.Contains(strings.Join(changes, "\n"), "begins anew") {
		t.Fatalf("%q, %v", changes, err)
	}
	if n, _ := units(); n != 0 {
		t.Errorf("%d units of another experiment", n)
	}
	if _, err := r.Experiment("nope"); err == nil {
		t.Error("an unknown route has an experiment")
	}
	none := again
	none.Routes = append([]config.Route(nil), again.Routes...)
	none.Routes[0].Experiment = nil
	if _, _, err := r.Apply(&none); err != nil {
		t.Fatal(err)
	}
	if err := r.ReportOutcome("all", "1", "bought", 1); err == nil || err.(*proxy.ControlError).Status != http.StatusNotFound {
		t.Errorf("an outcome of no experiment: %v", err)
	}
}
