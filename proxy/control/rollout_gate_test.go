package control

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/balancer/rollout"
	"weir/internal/mlflowtest"
)

// ended waits for the end of the rollout, and returns it.
func (w *weir) ended() RolloutStatus {
	w.t.Helper()
	var s RolloutStatus
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s, _ = w.Rollout("predict"); s.Phase.Ended() {
			return s
		}
	}
	w.t.Fatalf("it has not ended: %+v", s)
	return s
}

// gated is a site whose rollout is over soon where its gates agree.
func gated(t *testing.T, gates string) *rollingSite {
	return newRollingSite(t, backendtest.Behaviour{}, "analysis: off, steps: [{weight: 100, hold: 0s}], checks: {gates: ["+gates+"]}")
}

// TestWebhookGate: what the answer says decides, and what it was asked stands in the request.
func TestWebhookGate(t *testing.T) {
	for _, c := range []struct {
		name string
		hook backendtest.Behaviour
		pass bool
		why  string
	}{
		{"agrees", backendtest.Behaviour{Status: 204}, true, "it answered 204"},
		{"agrees in words", backendtest.Behaviour{Body: []byte(`{"pass": true, "reason": "ticket 42"}`)}, true, "it answered 200: ticket 42"},
		{"says nothing of it", backendtest.Behaviour{Body: []byte(`[1]`)}, true, "it answered 200"},
		{"refuses", backendtest.Behaviour{Body: []byte("{\"pass\": false, \"reason\": \"frozen\\nuntil Monday\"}")}, false, "frozen until Monday"},
		{"refuses without a reason", backendtest.Behaviour{Body: []byte(`{"pass": false}`)}, false, "it refuses, without a reason"},
		{"refuses by status", backendtest.Behaviour{Status: 403, Body: []byte("not you")}, false, "it answered 403: not you"},
		{"is elsewhere", backendtest.Behaviour{Status: 302, Header: []backendtest.Field{{Name: "Location", Value: "http://127.0.0.1:1/"}}}, false, "it answered 302"},
		{"takes too long", backendtest.Behaviour{Latency: time.Minute}, false, "not done after 300ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hook := backendtest.NewServer(t, c.hook)
			timeout := "20s"
			if c.hook.Latency > 0 {
				timeout = "300ms"
			}
			s := gated(t, fmt.Sprintf("{webhook: 'http://%s/gate?key=secret', timeout: %s}", hook.Addr(), timeout))
			s.yaml = strings.Replace(s.yaml, "green: {", "green: {version: v2, ", 1)
			x := run(t, newStore(), s.parse(t))
			x.roll()
			end := x.ended()
			if len(end.Gates) != 1 || end.Gates[0].Name != "webhook "+hook.Addr() || !strings.HasPrefix(end.Gates[0].Why, c.why) {
				t.Fatalf("gates: %+v", end.Gates)
			}
			want, weights := rollout.Succeeded, "blue=0 green=100"
			if !c.pass {
				want, weights = rollout.Aborted, "blue=100 green=0"
			}
			if end.Phase != want || x.weights() != weights || (end.Gates[0].Verdict == rollout.Pass) != c.pass {
				t.Errorf("it is %s (%s), %s; gates %+v", end.Phase, end.Why, x.weights(), end.Gates)
			}
			if !c.pass && (!strings.Contains(end.Why, c.why) || strings.Contains(end.Why, "secret")) {
				t.Errorf("why: %s", end.Why)
			}
			asked := hook.Last()
			var p proposal
			if err := json.Unmarshal(asked.Body, &p); err != nil || asked.Method != "POST" || p.Route != "predict" || p.From != "blue" || p.To != "green" ||
				p.ToVersion != "v2" || p.Strategy != "canary" || len(p.Steps) != 1 || p.By != "tester" || p.Reason != "a test" {
				t.Errorf("asked: %s %s (%v)", asked.Method, asked.Body, err)
			}
		})
	}
}

// TestWebhookGateIsGone: nobody there is no agreement.
func TestWebhookGateIsGone(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	x := run(t, newStore(), gated(t, "{webhook: '"+gone.URL+"/?key=secret'}").parse(t))
	x.roll()
	if end := x.ended(); end.Phase != rollout.Aborted || !strings.Contains(end.Why, "refused") || strings.Contains(end.Why, "secret") {
		t.Errorf("it is %s: %s", end.Phase, end.Why)
	}
}

// TestCommandGate: the exit status decides, the end of the output is shown, and nothing is left of what takes too long.
func TestCommandGate(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	for _, c := range []struct {
		name, gate string
		pass       bool
		why        string
	}{
		{"agrees", `{command: [sh, -c, 'echo $WEIR_ROUTE $WEIR_FROM $WEIR_TO "$WEIR_FROM_VERSION" $WEIR_VERSION $WEIR_STRATEGY $WEIR_BY $WEIR_REASON']}`, true, "exit status 0: predict blue green v2 canary tester a test"},
		{"silent", `{command: ["true"]}`, true, "exit status 0"},
		{"no shell", `{command: [echo, '$HOME; exit 1']}`, true, "exit status 0: $HOME; exit 1"},
		{"refuses", `{command: [sh, -c, 'echo looking; echo "too bad: 0.81" >&2; exit 3']}`, false, "exit status 3: looking too bad: 0.81"},
		{"is not there", `{command: [/nowhere/release.sh]}`, false, "no such file or directory"},
		{"says much", `{command: [sh, -c, 'i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; exit 1']}`, false, "line 2998 line 2999"},
		{"takes too long", `{timeout: 500ms, command: [sh, -c, 'sleep 1000 & echo $! $$$$ > ` + pids + `; echo begun; wait']}`, false, "not done after 500ms: signal: killed: begun"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := gated(t, c.gate)
			s.yaml = strings.Replace(s.yaml, "green: {", "green: {version: v2, ", 1)
			x := run(t, newStore(), s.parse(t))
			x.roll()
			end := x.ended()
			if len(end.Gates) != 1 || !strings.Contains(end.Gates[0].Why, c.why) || len(end.Gates[0].Why) > 500 {
				t.Errorf("gates: %+v", end.Gates)
			}
			if (end.Phase == rollout.Succeeded) != c.pass || (x.weights() == "blue=0 green=100") != c.pass {
				t.Errorf("it is %s (%s), %s", end.Phase, end.Why, x.weights())
			}
		})
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "process "+pid+" of the command is gone", func() bool { return gone(n) })
	}
}

// gone reports whether a process has ended: one that nobody waits for may stay as a zombie.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

// TestCommandGateLeavesSomebodyBehind: who holds on to the output does not hold up the rollout.
func TestCommandGateLeavesSomebodyBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	x := run(t, newStore(), gated(t, `{command: [sh, -c, 'sleep 1000 & echo $! > `+file+`']}`).parse(t))
	x.roll()
	if end := x.ended(); end.Phase != rollout.Succeeded {
		t.Errorf("it is %s: %s", end.Phase, end.Why)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return gone(pid) })
}

// TestGatesInOrder: each is asked once the one before it has agreed, and an abort meanwhile asks no more.
func TestGatesInOrder(t *testing.T) {
	var asked [3]atomic.Int64
	release := make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.URL.Path[1:])
		asked[i].Add(1)
		if i == 1 {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(hook.Close)
	gates := ""
	for i := range asked {
		gates += fmt.Sprintf("{webhook: '%s/%d'}, ", hook.URL, i)
	}
	x := run(t, newStore(), gated(t, gates).parse(t))
	x.roll()
	eventually(t, "the second is asked", func() bool { return asked[1].Load() == 1 })
	s, _ := x.Rollout("predict")
	if s.Phase != rollout.Preparing || len(s.Gates) != 3 || s.Gates[0].Verdict != rollout.Pass || s.Gates[1].Verdict != rollout.Inconclusive || s.Gates[2].Why != "not asked yet" {
		t.Errorf("meanwhile: %+v", s)
	}
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Abort, by))
	close(release)
	x.stop()
	if n := asked[2].Load(); n != 0 || x.weights() != "blue=100 green=0" {
		t.Errorf("the third was asked %d times; %s", n, x.weights())
	}
}

// TestMLflowGate: the version has to be there, ready and good.
func TestMLflowGate(t *testing.T) {
	secret := func(text string) string {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("weir:a:b"))
	for _, c := range []struct {
		name, gate, auth string
		down             bool
		pass             bool
		why              string
	}{
		{name: "by alias", gate: `model: digits, alias: challenger, metrics: {accuracy: ">= 0.93", recall: "> 0.8"}`, pass: true, why: "version 2, challenger: accuracy 0.93, recall 0.88"},
		{name: "by number", gate: `model: digits, version: 1, metrics: {accuracy: "< 0.92"}`, pass: true, why: "version 1: accuracy 0.91"},
		{name: "by the pool", gate: `model: digits`, pass: true, why: "version 2"},
		{name: "not good enough", gate: `model: digits, version: 2, metrics: {accuracy: ">= 0.95", recall: ">= 0.9"}`, why: "version 2: accuracy 0.93, want >= 0.95; recall 0.88, want >= 0.9"},
		{name: "no such metric", gate: `model: digits, version: 1, metrics: {accuracy: ">= 0.9", recall: ">= 0.8"}`, why: "version 1: recall is missing, want >= 0.8"},
		{name: "not a number", gate: `model: digits, version: 5, metrics: {accuracy: ">= 0"}`, why: "version 5: accuracy NaN, want >= 0"},
		{name: "no run", gate: `model: digits, version: 4, metrics: {accuracy: ">= 0"}`, why: "version 4 comes from no run"},
		{name: "not ready", gate: `model: digits, version: 3`, why: "version 3 is FAILED_REGISTRATION, not READY: no artifacts"},
		{name: "no such version", gate: `model: digits, version: 9`, why: "MLflow answered 404 RESOURCE_DOES_NOT_EXIST: Model Version (name=digits, version=9) not found"},
		{name: "no such model", gate: `model: letters, version: 1`, why: "MLflow answered 404 RESOURCE_DOES_NOT_EXIST: Registered Model with name=letters not found"},
		{name: "no such alias", gate: `model: digits, alias: best`, why: "MLflow answered 400 INVALID_PARAMETER_VALUE: Registered model alias best not found."},
		{name: "down", gate: `model: digits, version: 1`, down: true, why: "MLflow answered 503: upstream connect error"},
		{name: "token", gate: `model: digits, version: 1, token_file: ` + secret("s3cret\n"), auth: "Bearer s3cret", pass: true, why: "version 1"},
		{name: "password", gate: `model: digits, version: 1, token_file: ` + secret("weir:a:b"), auth: basic, pass: true, why: "version 1"},
		{name: "wrong token", gate: `model: digits, version: 1, token_file: ` + secret("other"), auth: "Bearer s3cret", why: "MLflow answered 401: You are not authenticated."},
		{name: "no token", gate: `model: digits, version: 1, token_file: ` + secret(" \n"), auth: "Bearer s3cret", why: "is empty"},
		{name: "no file", gate: `model: digits, version: 1, token_file: /nowhere/token`, why: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mlflowtest.New(t)
			m.Auth, m.Down = c.auth, c.down
			s := gated(t, fmt.Sprintf("{mlflow: {url: '%s/', %s}}", m.URL, c.gate))
			s.yaml = strings.Replace(s.yaml, "green: {", `green: {version: "2", `, 1)
			x := run(t, newStore(), s.parse(t))
			x.roll()
			end := x.ended()
			if len(end.Gates) != 1 || !strings.Contains(end.Gates[0].Why, c.why) || strings.Contains(end.Gates[0].Why, "s3cret") {
				t.Errorf("gates: %+v", end.Gates)
			}
			if (end.Phase == rollout.Succeeded) != c.pass || (x.weights() == "blue=0 green=100") != c.pass {
				t.Errorf("it is %s (%s), %s", end.Phase, end.Why, x.weights())
			}
			if len(m.Changes) > 0 {
				t.Errorf("it changed %v", m.Changes)
			}
		})
	}
}

// TestRegistryFollowsWhatServes: alias and stage are moved when the rollout has succeeded, and back when the version loses
// its requests again; not before, and not over what somebody else has set.
func TestRegistryFollowsWhatServes(t *testing.T) {
	const before = "Production=1 Staging=2 challenger=2 champion=1"
	const after = "Archived=1 Production=2 challenger=2 champion=2"
	m := mlflowtest.New(t)
	s := gated(t, fmt.Sprintf("{mlflow: {url: '%s', model: digits, alias: challenger, set_alias: champion, set_stage: Production}}", m.URL))
	s.yaml = strings.Replace(s.yaml, "steps: [{weight: 100, hold: 0s}]", "steps: [{weight: 50, hold: 1h}, {weight: 100, hold: 0s}]", 1)
	store := newStore()
	x := run(t, store, s.parse(t))
	is := func(what, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s: %s", what, want), func() bool { return m.State() == want })
	}
	x.roll()
	x.becomes(rollout.Progressing)
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Abort, by))
	time.Sleep(4 * registryEvery)
	is("after an abort before anything was moved", before)

	x.roll()
	x.becomes(rollout.Progressing)
	m.Set(func() { m.Down = true })
	must[RolloutStatus](t)(x.CommandRollout("predict", rollout.Promote, by))
	x.becomes(rollout.Succeeded)
	eventually(t, "the failure is shown", func() bool {
		s, _ := x.Rollout("predict")
		return len(s.Registry) == 1 && !s.Registry[0].Moved && strings.Contains(s.Registry[0].Why, "503")
	})
	m.Set(func() { m.Down = false })
	x.stop()
	x = run(t, store, s.parse(t)) // tries at once
	is("after it has succeeded, and a restart", after)
	eventually(t, "the move is shown", func() bool {
		s, _ := x.Rollout("predict")
		return s.Registry[0] == RegistryStatus{Model: "digits", Version: "2", Alias: "champion", Stage: "Production", Moved: true}
	})

	must[any](t)(x.SetWeights("predict", map[string]float64{"blue": 100, "green": 0}, by))
	is("rolled back", before)
	must[any](t)(x.SetWeights("predict", map[string]float64{"blue": 50, "green": 50}, by))
	is("serves again", after)
	m.Set(func() {
		m.Aliases["champion"], m.Versions[1].Stage, m.Versions[4].Stage = "5", "Archived", "Production"
	})
	must[any](t)(x.SetWeights("predict", map[string]float64{"blue": 100, "green": 0}, by))
	eventually(t, "it is not moved any more", func() bool { s, _ := x.Rollout("predict"); return !s.Registry[0].Moved })
	is("what somebody else has set stays", "Archived=1 Archived=2 Production=5 challenger=2 champion=5")
}

// TestRegistryWithoutAnAlias: where there was no such alias, there is none again.
func TestRegistryWithoutAnAlias(t *testing.T) {
	m := mlflowtest.New(t)
	m.Aliases = map[string]string{}
	x := run(t, newStore(), gated(t, fmt.Sprintf("{mlflow: {url: '%s', model: digits, version: 2, set_alias: champion}}", m.URL)).parse(t))
	x.roll()
	x.becomes(rollout.Succeeded)
	eventually(t, "it is moved", func() bool { s, _ := x.Rollout("predict"); return s.Registry[0].Moved })
	must[any](t)(x.Switch("predict", "blue", by))
	eventually(t, "it is moved back", func() bool { s, _ := x.Rollout("predict"); return !s.Registry[0].Moved })
	if got := strings.Join(m.Changes, ", "); got != "alias champion 2, no alias champion" {
		t.Errorf("changes: %s", got)
	}
}
