package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"weir/backend/backendtest"
	"weir/balancer/rollout"
	"weir/internal/stats"
)

// promQL stands in for a Prometheus: it answers instant queries as its HTTP API is documented, with what it is told.
type promQL struct {
	URL    string
	answer atomic.Pointer[string] // of the body; the status follows from errorType
	asked  atomic.Int64
}

func newPrometheus(t *testing.T, answer string) *promQL {
	p := new(promQL)
	p.answer.Store(&answer)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if r.Method != "POST" || r.URL.Path != "/api/v1/query" || r.FormValue("query") != `sum(rate(refunds_total{version="2"}[1m]))` || r.Header.Get("Authorization") != "" {
			t.Errorf("asked: %s %s %s", r.Method, r.URL, r.Form)
		}
		w.Header().Set("Content-Type", "application/json")
		body := *p.answer.Load()
		switch {
		case strings.Contains(body, "bad_data"):
			w.WriteHeader(400)
		case strings.Contains(body, "timeout"):
			w.WriteHeader(503)
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

func scalar(v string) string {
	return `{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"` + v + `"]}}`
}

func vector(values ...string) string {
	var series []string
	for i, v := range values {
		series = append(series, fmt.Sprintf(`{"metric":{"instance":"%d"},"value":[1435781451.781,"%s"]}`, i, v))
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
}

// figured is a site whose rollout goes on until its figures say something.
func figured(t *testing.T, green backendtest.Behaviour, figure string) *rollingSite {
	return newRollingSite(t, green, "tripwire: off, steps: [{weight: 50, hold: 100ms}, {weight: 100, hold: 100ms}], analysis: {interval: 100ms, min_requests: 0, "+figure+"}")
}

func checkOf(s RolloutStatus, name string) (c rollout.Check) {
	if s.Analysis == nil {
		return c
	}
	for _, c := range s.Analysis.Checks {
		if c.Name == name {
			return c
		}
	}
	return c
}

// TestPrometheusFigure: within its bounds the rollout goes on, beyond them it ends, and without data it waits and says why.
func TestPrometheusFigure(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         rollout.Verdict
		why          string
	}{
		{"within", vector("0.25"), rollout.Pass, "it is 0.25"},
		{"a scalar within", scalar("0.5"), rollout.Pass, "it is 0.5"},
		{"above", vector("0.75"), rollout.Fail, "it is 0.75, at most 0.5 is allowed"},
		{"below", scalar("-1"), rollout.Fail, "it is -1, at least 0 is wanted"},
		{"infinite", vector("+Inf"), rollout.Fail, "it is +Inf, at most 0.5 is allowed"},
		{"no series", vector(), rollout.Inconclusive, "no data: the result is empty"},
		{"no traffic", vector("NaN"), rollout.Inconclusive, "no data: the result is NaN"},
		{"several", vector("0.1", "0.2"), rollout.Inconclusive, "no data: the result has 2 series; write a query of one, such as sum(…)"},
		{"a range", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, rollout.Inconclusive, "no data: the result is a matrix"},
		{"wrong", `{"status":"error","errorType":"bad_data","error":"1:5: parse error: unclosed left parenthesis"}`, rollout.Inconclusive, "no data: it answered 400 bad_data: 1:5: parse error"},
		{"slow", `{"status":"error","errorType":"timeout","error":"query timed out"}`, rollout.Inconclusive, "no data: it answered 503 timeout: query timed out"},
		{"something else", "<html>", rollout.Inconclusive, "no data: it answered 200: <html>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPrometheus(t, c.answer)
			s := figured(t, backendtest.Behaviour{}, fmt.Sprintf(`prometheus: [{name: refunds, url: '%s', query: 'sum(rate(refunds_total{version="2"}[1m]))', max: 0.5, min: 0}]`, p.URL))
			x := run(t, newStore(), s.parse(t))
			x.roll()
			var at RolloutStatus
			if c.want == rollout.Inconclusive {
				eventually(t, "it has looked five times", func() bool { return p.asked.Load() >= 5 })
				at, _ = x.Rollout("predict")
				if at.Phase != rollout.Progressing || at.Step != 1 {
					t.Errorf("it is %s at step %d", at.Phase, at.Step)
				}
			} else {
				at = x.ended()
			}
			if got := checkOf(at, "prometheus refunds"); got.Verdict != c.want || !strings.HasPrefix(got.Why, c.why) {
				t.Errorf("check: %+v", got)
			}
			if c.want == rollout.Fail && (p.asked.Load() < 3 || at.Phase != rollout.Aborted || x.weights() != "blue=100 green=0" || !strings.Contains(at.Why, c.why)) {
				t.Errorf("after %d looks it is %s: %s; %s", p.asked.Load(), at.Phase, at.Why, x.weights())
			}
			if c.want == rollout.Pass && (at.Phase != rollout.Succeeded || x.weights() != "blue=0 green=100") {
				t.Errorf("it is %s: %s; %s", at.Phase, at.Why, x.weights())
			}
		})
	}
}

// TestPrometheusFigureComesBack: an outage holds the rollout, and no longer.
func TestPrometheusFigureComesBack(t *testing.T) {
	p := newPrometheus(t, vector())
	s := figured(t, backendtest.Behaviour{}, fmt.Sprintf(`prometheus: [{name: refunds, url: '%s', query: 'sum(rate(refunds_total{version="2"}[1m]))', max: 0.5}]`, p.URL))
	store := newStore()
	x := run(t, store, s.parse(t))
	x.roll()
	eventually(t, "it has looked", func() bool { return p.asked.Load() >= 3 })
	x.stop()
	good := vector("0.1")
	p.answer.Store(&good)
	x = run(t, store, s.parse(t)) // what it looks at survives a restart
	x.becomes(rollout.Succeeded)
}

// TestAgreementFigure: the mirror's comparisons of the old version's answers with the new one's decide, and only those.
func TestAgreementFigure(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong int // of ten of the new version's answers
		want  rollout.Phase
	}{{"agrees", 0, rollout.Succeeded}, {"disagrees", 3, rollout.Aborted}} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int64
			s := figured(t, backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour {
				if int(n.Add(1)%10) < c.wrong {
					return backendtest.Behaviour{Body: []byte(`{"prediction": 4}`)}
				}
				return backendtest.Behaviour{Body: []byte(`{"prediction": 3}`)}
			}}, "agreement: {min: 90%, min_compared: 50}")
			s.blue.SetBehaviour(backendtest.Behaviour{Body: []byte(`{"prediction": 3}`)})
			s.yaml = strings.Replace(s.yaml, "    rollout:", "    mirror: {pool: green, percent: 100}\n    rollout:", 1)
			x := run(t, newStore(), s.parse(t))
			x.roll()
			x.becomes(rollout.Progressing)
			if at, _ := x.Rollout("predict"); at.Step != 1 {
				t.Errorf("it went on without an answer: %+v", at)
			}
			tr := x.traffic()
			end := x.ended()
			tr.stop()
			got := checkOf(end, "agreement")
			if end.Phase != c.want || got.Value == nil || (*got.Value >= 0.9) != (c.wrong == 0) {
				t.Errorf("it is %s (%s), %+v", end.Phase, end.Why, got)
			}
			if c.wrong > 0 && !strings.Contains(end.Why, "answers agree") {
				t.Errorf("why: %s", end.Why)
			}
			// What the new version serves itself would agree with itself.
			m, err := x.Mirror("predict")
			if err != nil {
				t.Fatal(err)
			}
			if share := float64(m.Mirror.Agreed) / float64(m.Mirror.Compared); c.wrong > 0 && share > 0.85 {
				t.Errorf("%v of the pairs agree, of which 0.7 can", share)
			}
		})
	}
}

// scoresBody is what weir-backend tells of the scores of models.
func scoresBody(models map[string]stats.Distribution) []byte {
	type model struct {
		Model   string             `json:"model"`
		Version string             `json:"model_version"`
		Window  stats.Distribution `json:"window"`
	}
	a := map[string][]model{"models": {}}
	for name, d := range models {
		name, version, _ := strings.Cut(name, "/")
		a["models"] = append(a["models"], model{name, version, d})
	}
	text, _ := json.Marshal(a)
	return text
}

// TestDriftFigure: the distance of both versions' scores decides, whatever each is alone.
func TestDriftFigure(t *testing.T) {
	spread := func(n, from, to int) stats.Distribution { // evenly over bins
		d := stats.Distribution{Scale: stats.UnitScale, Counts: map[int]uint64{}}
		for i := range n {
			d.Counts[from+i%(to-from)]++
		}
		return d
	}
	one := func(d stats.Distribution) []byte { return scoresBody(map[string]stats.Distribution{"digits/1": d}) }
	for _, c := range []struct {
		name, figure string
		blue, green  []byte
		want         rollout.Verdict
		why          string
	}{
		{"alike", "max_psi: 0.2", one(spread(2000, 50, 100)), one(spread(1000, 50, 100)), rollout.Pass, "the scores' PSI is 0"},
		{"apart", "max_psi: 0.2, in_a_row: 2", one(spread(2000, 50, 100)), one(spread(2000, 40, 80)), rollout.Fail, "the scores' PSI is "},
		{"apart by distance", "max_ks: 0.2, in_a_row: 2", one(spread(2000, 50, 100)), one(spread(2000, 40, 80)), rollout.Fail, "a distance of 0.2 is allowed"},
		{"within the distance", "max_ks: 0.5", one(spread(2000, 50, 100)), one(spread(2000, 40, 80)), rollout.Pass, "KS distance 0.4"},
		{"few", "max_psi: 0.2", one(spread(2000, 50, 100)), one(spread(100, 40, 80)), rollout.Inconclusive, "the old version has 2000 scores and the new one 100, of the 500 each"},
		{"other scales", "max_psi: 0.2", one(spread(2000, 50, 100)), one(stats.Distribution{Scale: stats.LogScale, Counts: map[int]uint64{1: 1000}}), rollout.Inconclusive, "scale"},
		{"no such page", "max_psi: 0.2", one(spread(2000, 50, 100)), nil, rollout.Inconclusive, "no data of the new version: "},
		{"nonsense", "max_psi: 0.2", []byte(`{"models":[{"model":"digits","window":{"scale":"unit","counts":{"900":1}}}]}`), one(spread(2000, 50, 100)), rollout.Inconclusive, "no data of the old version: "},
		{"two models", "max_psi: 0.2", scoresBody(map[string]stats.Distribution{"digits/1": spread(600, 50, 100), "letters/1": spread(600, 0, 10)}), one(spread(600, 50, 100)), rollout.Inconclusive, "write analysis.drift.model"},
		{"one of two models", "max_psi: 0.2, model: digits", scoresBody(map[string]stats.Distribution{"digits/1": spread(600, 50, 100), "letters/1": spread(600, 0, 10)}), one(spread(600, 50, 100)), rollout.Pass, "PSI"},
		{"beside a model without scores", "max_psi: 0.2", one(spread(600, 50, 100)), []byte(strings.Replace(string(one(spread(600, 50, 100))), "[", `[{"model":"other","model_version":"1","comparisons":[]},`, 1)), rollout.Pass, "PSI"},
		{"the pool's version", "max_psi: 0.2, model: digits", one(spread(600, 50, 100)), scoresBody(map[string]stats.Distribution{"digits/1": spread(600, 0, 10), "digits/2": spread(600, 50, 100)}), rollout.Pass, "PSI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tell := func(body []byte) backendtest.Behaviour {
				return backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
					if q.Path() == "/drift" && body == nil {
						return backendtest.Behaviour{Status: 404}
					}
					return backendtest.Behaviour{Body: body}
				}}
			}
			s := figured(t, tell(c.green), "drift: {"+c.figure+"}")
			s.blue.SetBehaviour(tell(c.blue))
			s.yaml = strings.Replace(s.yaml, "green: {", `green: {version: "2", `, 1)
			x := run(t, newStore(), s.parse(t))
			x.roll()
			var got rollout.Check
			eventually(t, "it has a verdict: "+c.why, func() bool {
				at, _ := x.Rollout("predict")
				got = checkOf(at, "drift")
				return got.Verdict == c.want && strings.Contains(got.Why, c.why)
			})
			if c.want == rollout.Inconclusive {
				return
			}
			if end := x.ended(); (end.Phase == rollout.Succeeded) != (c.want == rollout.Pass) {
				t.Errorf("it is %s: %s", end.Phase, end.Why)
			}
		})
	}
}

// TestGPUFigure: what the new version's endpoints report decides, of the busiest.
func TestGPUFigure(t *testing.T) {
	for _, c := range []struct {
		name, figure, report string
		want                 rollout.Phase
		why                  string
	}{
		{"within", "max_utilization: 90%, max_memory: 90%", `JSON {"memUtilization":0.5,"utilization":{"gpu.0":0.25,"gpu.1":0.75}}`, rollout.Succeeded, ""},
		{"busy", "max_utilization: 90%", `JSON {"utilization":{"gpu.0":0.25,"gpu.1":0.95}}`, rollout.Aborted, "gpu utilization: 95 % of the GPU is in use at 127.0.0.1:"},
		{"full", "max_utilization: 90%, max_memory: 80%", `JSON {"memUtilization":0.85,"utilization":{"gpu":0.1}}`, rollout.Aborted, "gpu memory: 85 % of the memory is in use at 127.0.0.1:"},
		{"says nothing", "max_utilization: 90%", "", rollout.Progressing, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var green backendtest.Behaviour
			if c.report != "" {
				green.Header = []backendtest.Field{{Name: "endpoint-load-metrics", Value: c.report}}
			}
			s := figured(t, green, "gpu: {"+c.figure+"}")
			s.yaml = strings.Replace(s.yaml, "green: {", "green: {load: {}, ", 1)
			x := run(t, newStore(), s.parse(t))
			x.traffic()
			x.roll()
			if c.want == rollout.Progressing {
				eventually(t, "it says that nothing is reported", func() bool {
					at, _ := x.Rollout("predict")
					return at.Phase == c.want && strings.HasPrefix(checkOf(at, "gpu utilization").Why, "no endpoint has reported it within 30s")
				})
				return
			}
			if end := x.ended(); end.Phase != c.want || !strings.Contains(end.Why, c.why) {
				t.Errorf("it is %s: %s", end.Phase, end.Why)
			}
		})
	}
}
