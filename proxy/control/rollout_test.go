package control

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/balancer/rollout"
	"weir/config"
	"weir/proxy"
)

// rollingSite is a route from blue to green, whose endpoints behave as told, with what stands under rollout.
type rollingSite struct {
	blue, green *backendtest.Server
	yaml        string
}

// quickSteps are steps that a test can wait for.
const quickSteps = "steps: [{weight: 30, hold: 300ms}, {weight: 60, hold: 300ms}, {weight: 100, hold: 200ms}], "

func newRollingSite(t *testing.T, green backendtest.Behaviour, rollout string) *rollingSite {
	s := &rollingSite{blue: backendtest.NewServer(t, backendtest.Behaviour{}), green: backendtest.NewServer(t, green)}
	s.yaml = fmt.Sprintf(`listeners: [{address: '127.0.0.1:0'}]
log: {access: {output: off}}
pools:
  blue: {endpoints: [%q], probe: off, outlier: off}
  green: {endpoints: [%q], probe: off, outlier: off}
routes:
  - name: predict
    split: {blue: 100, green: 0}
    rollout: {%s}
`, s.blue.Addr(), s.green.Addr(), rollout)
	return s
}

func (s *rollingSite) parse(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse("", []byte(s.yaml))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.yaml)
	}
	return cfg
}

// traffic sends requests as fast as answers come, over four connections, until the test ends.
type traffic struct {
	done   chan struct{}
	ended  sync.WaitGroup
	failed atomic.Int64 // answers other than 200
}

func (w *weir) traffic() *traffic {
	tr := &traffic{done: make(chan struct{})}
	url := "http://" + w.Proxy().Addrs()[0].String() + "/predict"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	for range 4 {
		tr.ended.Go(func() {
			for {
				select {
				case <-tr.done:
					return
				default:
				}
				r, err := client.Post(url, "application/json", strings.NewReader("{}"))
				if err != nil {
					tr.failed.Add(1)
					continue
				}
				_ = r.Body.Close()
				if r.StatusCode != 200 {
					tr.failed.Add(1)
				}
			}
		})
	}
	w.t.Cleanup(tr.stop)
	return tr
}

func (tr *traffic) stop() {
	select {
	case <-tr.done:
	default:
		close(tr.done)
	}
	tr.ended.Wait()
}

// roll begins a rollout to green.
func (w *weir) roll() {
	w.t.Helper()
	if _, err := w.StartRollout("predict", RolloutOptions{To: "green"}, by); err != nil {
		w.t.Fatal(err)
	}
}

// becomes waits for the rollout to be in a phase, and returns it.
func (w *weir) becomes(phase rollout.Phase) RolloutStatus {
	w.t.Helper()
	var s RolloutStatus
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s, _ = w.Rollout("predict"); s.Phase == phase {
			return s
		}
		if s.Phase.Ended() {
			break
		}
	}
	w.t.Fatalf("it is %s at step %d (%s), not %s; analysis %+v", s.Phase, s.Step, s.Why, phase, s.Analysis)
	return s
}

// The judgement of tests: alpha is generous, since there are few requests.
const judged = "analysis: {interval: 100ms, alpha: 0.05, min_requests: 50, error_rate: {max_ratio: 1.5, tolerate: 5%}}, "

func TestRolloutOfAGoodVersion(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, quickSteps+judged)
	x := run(t, newStore(), s.parse(t))
	_, events, cancel := x.Subscribe("")
	defer cancel()
	tr := x.traffic()
	x.roll()
	done := x.becomes(rollout.Succeeded)
	tr.stop()
	eventually(t, "the new version has all requests", func() bool { return x.weights() == "blue=0 green=100" }) // soon after the phase
	if n := tr.failed.Load(); n > 0 {
		t.Errorf("%d requests failed", n)
	}
	if a := done.Analysis; a == nil || a.Canary.Requests < 50 || a.Stable.Requests < 50 || a.Verdict != rollout.Pass {
		t.Errorf("analysis: %+v", a)
	}
	if kinds := fmt.Sprint(x.kinds(3)); kinds != "[rollout rollout rollout]" { // the end has the weights of the last step
		t.Errorf("history: %s", kinds)
	}
	told := map[string]bool{}
	for !told["succeeded"] {
		e := <-events
		if e.Type == "rollout" {
			told[string(e.Data[len(`{"event":"`):][:strings.Index(string(e.Data[len(`{"event":"`):]), `"`)])] = true
		}
	}
	if !told["started"] || !told["advance"] {
		t.Errorf("events: %v", told)
	}
}

// TestRolloutOfABadVersion: more errors, latency and a disaster are each found, and the old version has all requests
// again.
func TestRolloutOfABadVersion(t *testing.T) {
	long := "steps: [{weight: 30, hold: 1h}, {weight: 100, hold: 1h}], "
	for _, c := range []struct{ name, rollout, why string }{
		{"errors", long + "tripwire: off, " + judged, "errors"},
		{"latency", long + "analysis: {interval: 100ms, alpha: 0.05, min_requests: 50, latency: {quantile: 0.9, max_ratio: 1.5}}", "p90"},
		{"disaster", long + "analysis: off, tripwire: {errors: 5%, requests: 10, window: 5s}", "failed within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			green := backendtest.Behaviour{ErrorRate: 0.3}
			if c.name == "latency" {
				green = backendtest.Behaviour{Latency: 100 * time.Millisecond}
			}
			s := newRollingSite(t, green, c.rollout)
			x := run(t, newStore(), s.parse(t))
			x.traffic()
			x.roll()
			end := x.becomes(rollout.Aborted)
			eventually(t, "the old version has all requests", func() bool { return x.weights() == "blue=100 green=0" }) // soon after the phase
			if !strings.Contains(end.Why, c.why) {
				t.Errorf("why: %s", end.Why)
			}
		})
	}
}

// TestRolloutWithoutTrafficWaits: nothing is no evidence.
func TestRolloutWithoutTrafficWaits(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, quickSteps+judged)
	x := run(t, newStore(), s.parse(t))
	x.roll()
	at := x.becomes(rollout.Progressing)
	time.Sleep(1500 * time.Millisecond) // five times the hold
	if s, _ := x.Rollout("predict"); s.Step != 1 || s.Phase != rollout.Progressing || s.Analysis == nil || s.Analysis.Verdict != rollout.Inconclusive {
		t.Errorf("after its hold: %+v, before %+v", s, at)
	}
}

// TestRolloutChecks: a version that is not fit gets no traffic.
func TestRolloutChecks(t *testing.T) {
	for _, c := range []struct{ name, checks, why string }{
		{"answer", `checks: {requests: [{path: /predict, body: "{}", json: {prediction: 3}}]}, `, "prediction"},
		{"status", `checks: {requests: [{path: /broken}]}, `, "500"},
		{"latency", `checks: {requests: [{path: /slow, max_latency: 50ms}]}, `, "at most 50 ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			green := backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
				switch q.Path() {
				case "/broken":
					return backendtest.Behaviour{Status: 500}
				case "/slow":
					return backendtest.Behaviour{Latency: 200 * time.Millisecond}
				}
				return backendtest.Behaviour{Body: []byte(`{"prediction": 4}`)}
			}}
			s := newRollingSite(t, green, c.checks+quickSteps+"analysis: off")
			x := run(t, newStore(), s.parse(t))
			x.roll()
			if end := x.becomes(rollout.Aborted); !strings.Contains(end.Why, c.why) || end.Step != 0 {
				t.Errorf("it ended at step %d: %s", end.Step, end.Why)
			}
			if got := x.weights(); got != "blue=100 green=0" {
				t.Errorf("weights: %s", got)
			}
		})
	}
}

// TestRolloutOrders: pause, resume, promote and abort do what they say; and nobody else sets the weights meanwhile, unless
// by force.
func TestRolloutOrders(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, "steps: [{weight: 10, hold: 1h}, {weight: 50, hold: 1h}, {weight: 100, hold: 1h}], analysis: off")
	x := run(t, newStore(), s.parse(t))
	order := func(o rollout.Command) RolloutStatus {
		t.Helper()
		return must[RolloutStatus](t)(x.CommandRollout("predict", o, by))
	}
	refused := func(code string, err error) {
		t.Helper()
		if e, ok := err.(*proxy.ControlError); !ok || e.Code != code {
			t.Errorf("want %s, got %v", code, err)
		}
	}
	_, err := x.CommandRollout("predict", rollout.Pause, by)
	refused("no_rollout", err)
	x.roll()
	x.becomes(rollout.Progressing)
	_, err = x.SetWeights("predict", map[string]float64{"blue": 50, "green": 50}, by)
	refused("rollout", err)
	_, err = x.Switch("predict", "green", by)
	refused("rollout", err)
	_, err = x.Ramp("predict", map[string]float64{"blue": 50, "green": 50}, time.Minute, by)
	refused("rollout", err)
	_, err = x.Rollback(1, by)
	refused("rollout", err)
	_, err = x.StartRollout("predict", RolloutOptions{To: "green"}, by)
	refused("rollout", err)
	if s := order(rollout.Pause); s.Phase != rollout.Paused || s.Why != "paused by tester: a test" {
		t.Errorf("paused: %+v", s)
	}
	if s := order(rollout.Resume); s.Phase != rollout.Progressing || s.Step != 1 {
		t.Errorf("resumed: %+v", s)
	}
	if s := order(rollout.Promote); s.Step != 2 || x.weights() != "blue=50 green=50" {
		t.Errorf("promoted: %+v, %s", s, x.weights())
	}
	if s := order(rollout.Abort); s.Phase != rollout.Aborted || x.weights() != "blue=100 green=0" {
		t.Errorf("aborted: %+v, %s", s, x.weights())
	}
	x.roll()
	x.becomes(rollout.Progressing)
	forced := by
	forced.Force = true
	_, err = x.SetWeights("predict", map[string]float64{"blue": 20, "gren": 80}, forced)
	refused("invalid_weights", err)
	if s, _ := x.Rollout("predict"); s.Phase != rollout.Progressing {
		t.Errorf("by weights that cannot be: %+v", s)
	}
	if _, err := x.SetWeights("predict", map[string]float64{"blue": 20, "green": 80}, forced); err != nil {
		t.Fatal(err)
	}
	if s, _ := x.Rollout("predict"); s.Phase != rollout.Aborted || x.weights() != "blue=20 green=80" {
		t.Errorf("by force: %+v, %s", s, x.weights())
	}
}

// TestRolloutAcrossRestart: it goes on at its step, with what it knows.
func TestRolloutAcrossRestart(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, "steps: [{weight: 40, hold: 1h}, {weight: 100, hold: 1h}], "+judged)
	store := newStore()
	x := run(t, store, s.parse(t))
	tr := x.traffic()
	x.roll()
	eventually(t, "something is counted", func() bool {
		s, _ := x.Rollout("predict")
		return s.Analysis != nil && s.Analysis.Canary.Requests > 50
	})
	tr.stop()
	x.stop()
	before, _ := x.Rollout("predict")

	x = run(t, store, s.parse(t))
	after, ok := x.Rollout("predict")
	if !ok || after.Phase != rollout.Progressing || after.Step != 1 || after.Analysis == nil || after.Analysis.Canary.Requests < before.Analysis.Canary.Requests || !after.Begun.Equal(before.Begun) {
		t.Fatalf("after the restart: %+v, before %+v", after, before)
	}
	if x.weights() != "blue=60 green=40" {
		t.Errorf("weights: %s", x.weights())
	}
	x.traffic()
	eventually(t, "it counts on", func() bool {
		s, _ := x.Rollout("predict")
		return s.Analysis.Canary.Requests > before.Analysis.Canary.Requests+50
	})
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Abort, by))
	x.stop()
	x = run(t, store, s.parse(t))
	if s, ok := x.Rollout("predict"); !ok || s.Phase != rollout.Aborted {
		t.Errorf("the one that has ended: %+v", s)
	}
}

// TestRolloutAndReload: another split ends a rollout, and says so; one that is the same does not.
func TestRolloutAndReload(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, "steps: [{weight: 40, hold: 1h}, {weight: 100, hold: 1h}], analysis: off")
	x := run(t, newStore(), s.parse(t))
	x.roll()
	x.becomes(rollout.Progressing)
	reload := func(from, to string) {
		t.Helper()
		s.yaml = strings.Replace(s.yaml, from, to, 1)
		if _, _, err := x.Apply(s.parse(t), proxy.Cause{By: "file"}); err != nil {
			t.Fatal(err)
		}
	}
	reload("log:", "trusted_proxies: [10.0.0.0/8]\nlog:")
	time.Sleep(5 * lookEvery)
	if now, _ := x.Rollout("predict"); now.Phase != rollout.Progressing || x.weights() != "blue=60 green=40" {
		t.Errorf("after a reload of something else: %+v, %s", now, x.weights())
	}
	reload("blue: 100, green: 0", "blue: 95, green: 5")
	if end := x.becomes(rollout.Aborted); !strings.Contains(end.Why, "weights are") || x.weights() != "blue=95 green=5" {
		t.Errorf("after a reload of the split: %s, %s", end.Why, x.weights())
	}
}

// TestRolloutOfThree: a third variant keeps its share.
func TestRolloutOfThree(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, "steps: [{weight: 50, hold: 1h}, {weight: 100, hold: 1h}], analysis: off")
	s.yaml = strings.Replace(s.yaml, "routes:", fmt.Sprintf("  red: {endpoints: [%q], probe: off}\nroutes:", s.blue.Addr()), 1)
	s.yaml = strings.Replace(s.yaml, "blue: 100, green: 0", "blue: 80, green: 0, red: 20", 1)
	x := run(t, newStore(), s.parse(t))
	x.roll()
	x.becomes(rollout.Progressing)
	if x.weights() != "blue=30 green=50 red=20" {
		t.Errorf("at 50 %%: %s", x.weights())
	}
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Promote, by))
	if x.weights() != "blue=0 green=80 red=20" {
		t.Errorf("at the last step: %s", x.weights())
	}
}

// TestBlueGreen: all at once, and back when it fails.
func TestBlueGreen(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{}, "strategy: blue_green, steps: [{weight: 100, hold: 1h}]")
	x := run(t, newStore(), s.parse(t))
	x.traffic()
	x.roll()
	x.becomes(rollout.Progressing)
	if x.weights() != "blue=0 green=100" {
		t.Errorf("after the switch: %s", x.weights())
	}
	s.green.SetBehaviour(backendtest.Behaviour{ErrorRate: 0.5})
	x.becomes(rollout.Aborted)
	if x.weights() != "blue=100 green=0" {
		t.Errorf("after the failure: %s", x.weights())
	}
}

// TestRolloutNotifies: a webhook is told of each change, also when it first refuses.
func TestRolloutNotifies(t *testing.T) {
	hook := backendtest.NewServer(t, backendtest.Behaviour{Status: 503})
	s := newRollingSite(t, backendtest.Behaviour{}, fmt.Sprintf("steps: [{weight: 10, hold: 1h}, {weight: 100, hold: 1h}], analysis: off, notify: 'http://%s/hook'", hook.Addr()))
	x := run(t, newStore(), s.parse(t))
	x.roll()
	hook.Await("the first try", func(c backendtest.Counts) bool { return c.Requests > 0 })
	hook.SetBehaviour(backendtest.Behaviour{})
	x.becomes(rollout.Progressing)
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Abort, by))
	hook.Await("all of them", func(c backendtest.Counts) bool { return c.Requests >= 4 })
	last := hook.Last()
	if want := `{"text":"weir: route predict, rollout from blue to green: aborted. aborted by tester: a test","event":"aborted","rollout":{"route":"predict"`; !strings.HasPrefix(string(last.Body), want) || last.Method != "POST" {
		t.Errorf("%s %s", last.Method, last.Body)
	}
}
