package admin

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/internal/state"
	"weir/proxy"
)

const predict = "/api/v1/routes/predict"

func weightsOf(r proxy.RouteStatus) string {
	var s []string
	for _, v := range r.Variants {
		s = append(s, fmt.Sprintf("%s=%v", v.Pool, v.Weight))
	}
	return strings.Join(s, " ")
}

func (a *api) weights() string {
	r, _ := a.Route("predict")
	return weightsOf(r)
}

func TestSetWeights(t *testing.T) {
	a := start(t)
	r, resp := must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":99.5,"green":0.5},"reason":"a first look"}`,
		"Content-Type", "application/json; charset=utf-8")
	if resp.Header.Get("ETag") != `"2"` || r.Generation != 2 || !r.Overlay || weightsOf(r) != "blue=99.5 green=0.5" {
		t.Errorf("%s %+v", resp.Header.Get("ETag"), r)
	}
	if resp.Header.Get("Warning") != "" {
		t.Errorf("a warning: %s", resp.Header.Get("Warning"))
	}
	h := a.lastChange()
	if h.Kind != state.KindWeights || h.Reason != "a first look" || h.By != "api 127.0.0.1" {
		t.Errorf("%+v", h)
	}
}

func TestRamp(t *testing.T) {
	a := start(t)
	r, resp := must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":0,"green":1},"ramp":"1h30m","reason":"slowly"}`)
	if r.Ramp == nil || r.Ramp.By != "api 127.0.0.1" || r.Ramp.Reason != "slowly" || resp.Header.Get("ETag") != `"2"` {
		t.Fatalf("%+v", r)
	}
	if left := time.Until(r.Ramp.Ends); left < 89*time.Minute || left > 91*time.Minute {
		t.Errorf("it ends in %s", left)
	}
	if diff := cmp.Diff([]state.Weight{{Pool: "blue"}, {Pool: "green", Weight: 1}}, r.Ramp.To); diff != "" {
		t.Error(diff)
	}
	if h := a.lastChange(); h.Kind != state.KindRamp {
		t.Errorf("%+v", h)
	}
	r, resp = must[proxy.RouteStatus](a, "DELETE", predict+"/ramp", `{"reason":"enough"}`)
	if r.Ramp != nil || weightsOf(r) != a.weights() || resp.Header.Get("ETag") != `"2"` {
		t.Errorf("after its end: %+v", r)
	}
	resp, body := a.write("DELETE", predict+"/ramp", "")
	checkFailure(t, resp, body, 409, "no_ramp", "predict")
}

func TestSwitch(t *testing.T) {
	a := start(t)
	r, resp := must[proxy.RouteStatus](a, "POST", predict+"/switch", `{"to":"green","reason":"release"}`)
	if weightsOf(r) != "blue=0 green=100" || resp.Header.Get("ETag") != `"2"` {
		t.Errorf("%+v", r)
	}
	if h := a.lastChange(); h.Kind != state.KindSwitch || h.Reason != "release" {
		t.Errorf("%+v", h)
	}
	r, _ = must[proxy.RouteStatus](a, "POST", predict+"/switch", `{"back":true}`)
	if weightsOf(r) != "blue=90 green=10" || r.Generation != 3 {
		t.Errorf("back: %+v", r)
	}
	r, _ = must[proxy.RouteStatus](a, "POST", predict+"/switch", `{"to":"blue","back":false}`)
	if weightsOf(r) != "blue=100 green=0" {
		t.Errorf("%+v", r)
	}
}

// TestDrainOnUnixSocket: the slashes of a socket's path are escaped in that of a request.
func TestDrainOnUnixSocket(t *testing.T) {
	a := start(t)
	const address = "unix:/run/model a.sock"
	if _, _, err := a.Apply(parse(t, strings.Replace(site, "'[::1]:8001'", "'"+address+"'", 1)), proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"drain", "undrain"} {
		p, _ := must[proxy.PoolStatus](a, "POST", "/api/v1/pools/blue/endpoints/"+url.PathEscape(address)+"/"+verb, "")
		if e := p.Endpoints[1]; e.Address != address || e.Draining != (verb == "drain") {
			t.Errorf("after %s: %+v", verb, e)
		}
	}
	p, _ := must[proxy.PoolStatus](a, "GET", "/api/v1/pools/blue", "")
	if p.Endpoints[1].Address != address {
		t.Errorf("the status says %s", p.Endpoints[1].Address)
	}
}

func TestDrain(t *testing.T) {
	a := start(t)
	draining := func(p proxy.PoolStatus) (s string) {
		s = fmt.Sprint(p.Draining)
		for _, e := range p.Endpoints {
			s += fmt.Sprint(" ", e.Draining)
		}
		return s
	}
	for i, tt := range []struct{ path, want string }{
		{"blue/drain", "true true true"},
		{"blue/undrain", "false false false"},
		{"blue/endpoints/127.0.0.1:8001/drain", "false true false"},
		{"blue/endpoints/127.0.0.1%3A8001/undrain", "false false false"},
		{"blue/endpoints/[::1]:8001/drain", "false false true"},
		{"blue/endpoints/%5B%3A%3A1%5D%3A8001/undrain", "false false false"},
		{"blue/endpoints/%5b::1%5d:8001/drain", "false false true"},
	} {
		p, resp := must[proxy.PoolStatus](a, "POST", "/api/v1/pools/"+tt.path, `{"reason":"kernel"}`)
		if got := draining(p); got != tt.want || p.Name != "blue" {
			t.Errorf("%s: draining %s, want %s", tt.path, got, tt.want)
		}
		if etag := resp.Header.Get("ETag"); etag != fmt.Sprintf("%q", fmt.Sprint(i+2)) {
			t.Errorf("%s: ETag %s", tt.path, etag)
		}
		if h := a.lastChange(); h.Reason != "kernel" || h.Kind != tt.path[strings.LastIndexByte(tt.path, '/')+1:] {
			t.Errorf("%s: %+v", tt.path, h)
		}
	}
}

func TestRollback(t *testing.T) {
	a := start(t)
	for i := range 3 { // generations 2 to 4
		must[proxy.RouteStatus](a, "PUT", predict+"/weights", fmt.Sprintf(`{"weights":{"blue":%d,"green":1}}`, i))
	}
	for _, tt := range []struct {
		body           string
		generation, to uint64
		changed        bool
		weights        string
	}{
		{`{"to":2,"reason":"v2 fails"}`, 5, 2, true, "blue=0 green=1"},
		{`{"to":1}`, 6, 1, true, "blue=90 green=10"},
		{``, 7, 5, true, "blue=0 green=1"}, // before the last change
		{`{}`, 8, 6, true, "blue=90 green=10"},
		{`{"to":1}`, 8, 1, false, "blue=90 green=10"}, // where it is
		{`{"to":8}`, 8, 8, false, "blue=90 green=10"},
	} {
		got, resp := must[rolledBack](a, "POST", "/api/v1/rollback", tt.body)
		if got != (rolledBack{tt.generation, tt.to, tt.changed}) || a.weights() != tt.weights || resp.Header.Get("ETag") != fmt.Sprintf("%q", fmt.Sprint(tt.generation)) {
			t.Errorf("%s: %+v, %s, ETag %s; want %+v", tt.body, got, a.weights(), resp.Header.Get("ETag"), tt)
		}
		if tt.generation == 5 && (a.lastChange().Reason != "v2 fails" || a.lastChange().To != 2) {
			t.Errorf("%+v", a.lastChange())
		}
	}
}

func TestWritesRefused(t *testing.T) {
	a := start(t)
	long := strings.Repeat("x", maxReason+1)
	post := func(path string) [2]string { return [2]string{"POST", path} }
	weights, ramp := [2]string{"PUT", predict + "/weights"}, [2]string{"DELETE", predict + "/ramp"}
	turn, rollback, drain := post(predict+"/switch"), post("/api/v1/rollback"), post("/api/v1/pools/blue/drain")
	for _, tt := range []struct {
		name       string
		to         [2]string
		body       string
		status     int
		code, says string
	}{
		{"sum 0", weights, `{"weights":{"blue":0,"green":0}}`, 422, "invalid_weights", "sum"},
		{"unknown variant", weights, `{"weights":{"blue":1,"gren":1}}`, 422, "invalid_weights", "green"},
		{"negative", weights, `{"weights":{"blue":1,"green":-1}}`, 422, "invalid_weights", "-1"},
		{"out of the state's range", weights, `{"weights":{"blue":1,"green":2e9}}`, 422, "invalid_weights", "2e+09"},
		{"unknown route", [2]string{"PUT", "/api/v1/routes/nope/weights"}, `{"weights":{"blue":0}}`, 404, "unknown_route", "have predict"},
		{"empty", weights, ` `, 400, "bad_request", "it is empty"},
		{"cut off", weights, `{"weights":`, 400, "bad_request", "unexpected EOF"},
		{"cut off in an object", weights, `{"weights":{"blue":1}`, 400, "bad_request", "unexpected EOF"},
		{"a list", weights, `[]`, 400, "bad_request", "no JSON object"},
		{"null", rollback, `null`, 400, "bad_request", "no JSON object"},
		{"no JSON", weights, `weights`, 400, "bad_request", "invalid character"},
		{"unknown key", weights, `{"weights":{"blue":1},"resaon":"x"}`, 400, "bad_request", "resaon"},
		{"trailing data", weights, `{"weights":{"blue":1}} {}`, 400, "bad_request", "more after"},
		{"a ramp without a unit", weights, `{"weights":{"blue":1,"green":1},"ramp":5}`, 400, "bad_request", `"ramp" is number: want a string`},
		{"a weight beyond numbers", weights, `{"weights":{"blue":1e999,"green":1}}`, 400, "bad_request", "1e999: want one that is not so large"},
		{"a generation below 0", rollback, `{"to":-1}`, 400, "bad_request", `"to" is -1: want a whole number from 0 up`},
		{"half a generation", rollback, `{"to":1.5}`, 400, "bad_request", `"to" is 1.5: want a whole number`},
		{"weights missing", weights, `{"reason":"x"}`, 400, "bad_request", "missing"},
		{"weights null", weights, `{"weights":null}`, 400, "bad_request", `"weights" is null`},
		{"weights a list", weights, `{"weights":[1]}`, 400, "bad_request", "must be an object"},
		{"weight null", weights, `{"weights":{"blue":null}}`, 400, "bad_request", "must be a number"},
		{"weight text", weights, `{"weights":{"blue":"90"}}`, 400, "bad_request", "must be a number"},
		{"weight nested", weights, `{"weights":{"blue":{"x":1}}}`, 400, "bad_request", "must be a number"},
		{"weight out of range", weights, `{"weights":{"blue":1e999}}`, 400, "bad_request", "1e999"},
		{"NaN", weights, `{"weights":{"blue":NaN}}`, 400, "bad_request", "invalid character"},
		{"weight named twice", weights, `{"weights":{"blue":1,"blue":2}}`, 400, "bad_request", "named twice"},
		{"key named twice", weights, `{"weights":{"blue":1},"weights":{"blue":2}}`, 400, "bad_request", "named twice"},
		{"key named twice in another case", rollback, `{"to":1,"To":2}`, 400, "bad_request", "named twice"},
		{"long reason", weights, `{"weights":{"blue":1},"reason":"` + long + `"}`, 400, "bad_request", "1025 bytes"},
		{"too large", weights, `{"weights":{"blue":1},"reason":"` + strings.Repeat("x", maxBody) + `"}`, 413, "body_too_large", "1048576"},
		{"force text", weights, `{"weights":{"blue":1,"green":1},"force":"yes"}`, 400, "bad_request", "want true or false"},

		{"ramp a number", weights, `{"weights":{"blue":1,"green":1},"ramp":300}`, 400, "bad_request", "number"},
		{"ramp without unit", weights, `{"weights":{"blue":1,"green":1},"ramp":"300"}`, 400, "bad_request", "ramp"},
		{"ramp empty", weights, `{"weights":{"blue":1,"green":1},"ramp":""}`, 400, "bad_request", "ramp"},
		{"ramp null", weights, `{"weights":{"blue":1,"green":1},"ramp":null}`, 400, "bad_request", "null"},
		{"ramp 0", weights, `{"weights":{"blue":1,"green":1},"ramp":"0s"}`, 422, "invalid_ramp", ""},
		{"ramp too long", weights, `{"weights":{"blue":1,"green":1},"ramp":"999h"}`, 422, "invalid_ramp", "at most 7 days"},
		{"ramp to unknown", weights, `{"weights":{"blue":1},"ramp":"1m"}`, 422, "invalid_weights", "green"},
		{"no ramp", ramp, `{}`, 409, "no_ramp", "predict"},
		{"ramp of unknown route", [2]string{"DELETE", "/api/v1/routes/nope/ramp"}, ``, 404, "unknown_route", "nope"},
		{"stop with force", ramp, `{"force":true}`, 400, "bad_request", "force"},

		{"switch to nothing", turn, `{}`, 400, "bad_request", "either"},
		{"switch without body", turn, ``, 415, "unsupported_media_type", "application/json"},
		{"switch to and back", turn, `{"to":"green","back":true}`, 400, "bad_request", "either"},
		{"switch not back", turn, `{"back":false}`, 400, "bad_request", "either"},
		{"switch to unknown", turn, `{"to":"gren"}`, 422, "unknown_variant", "blue, green"},
		{"switch back first", turn, `{"back":true}`, 409, "no_switch", "predict"},
		{"switch of unknown route", post("/api/v1/routes/nope/switch"), `{"to":"green"}`, 404, "unknown_route", "nope"},
		{"switch back of unknown route", post("/api/v1/routes/nope/switch"), `{"back":true}`, 404, "unknown_route", "nope"},
		{"switch with long reason", turn, `{"to":"green","reason":"` + long + `"}`, 400, "bad_request", "1025 bytes"},

		{"unknown pool", post("/api/v1/pools/nope/drain"), ``, 404, "unknown_pool", "blue, green"},
		{"unknown endpoint", post("/api/v1/pools/blue/endpoints/127.0.0.1:8002/drain"), ``, 404, "unknown_endpoint", "127.0.0.1:8001"},
		{"the last endpoint", post("/api/v1/pools/green/drain"), ``, 409, "no_healthy_endpoint", "rank"},
		{"undrain with unknown key", post("/api/v1/pools/blue/undrain"), `{"forse":true}`, 400, "bad_request", "forse"},
		{"drain with long reason", drain, `{"reason":"` + long + `"}`, 400, "bad_request", "1025 bytes"},

		{"rollback of nothing", rollback, ``, 409, "no_history", ""},
		{"rollback to 0", rollback, `{"to":0}`, 422, "unknown_generation", "begin with 1"},
		{"rollback to the future", rollback, `{"to":99}`, 422, "unknown_generation", "99"},
		{"rollback to a fraction", rollback, `{"to":1.5}`, 400, "bad_request", "1.5"},
		{"rollback below 0", rollback, `{"to":-1}`, 400, "bad_request", "-1"},
		{"rollback to null", rollback, `{"to":null}`, 400, "bad_request", "null"},
		{"rollback to text", rollback, `{"to":"5"}`, 400, "bad_request", "string"},

		{"reload with a key", post("/api/v1/reload"), `{"reason":"x"}`, 400, "bad_request", "reason"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := a.write(tt.to[0], tt.to[1], tt.body)
			checkFailure(t, resp, body, tt.status, tt.code, tt.says)
		})
	}
	for _, header := range []string{"", "application/x-www-form-urlencoded", "json", "application/json5"} {
		for _, to := range [][2]string{weights, turn, rollback, drain, ramp} {
			resp, body := do(t, a.url, call{to[0], to[1], `{"to":"green"}`, map[string]string{"Content-Type": header}})
			checkFailure(t, resp, body, 415, "unsupported_media_type", "application/json")
		}
	}
	if g, w := a.Generation(), a.weights(); g != 1 || w != "blue=90 green=10" {
		t.Errorf("after refusals: generation %d, %s", g, w)
	}
}

func TestForce(t *testing.T) {
	a := start(t)
	must[proxy.PoolStatus](a, "POST", "/api/v1/pools/green/drain", `{"force":true}`)
	for _, tt := range []struct{ method, path, body string }{
		{"POST", predict + "/switch", `{"to":"green"}`},
		{"PUT", predict + "/weights", `{"weights":{"blue":0,"green":1}}`},
		{"PUT", predict + "/weights", `{"weights":{"blue":0,"green":1},"ramp":"1h"}`},
		{"POST", "/ab/config", `{"model_a_percentage":0}`},
	} {
		resp, body := a.write(tt.method, tt.path, tt.body)
		checkFailure(t, resp, body, 409, "no_healthy_endpoint", "green")
		if tt.path == "/ab/config" {
			continue
		}
		forced := strings.TrimSuffix(tt.body, "}") + `,"force":true}`
		if r, _ := must[proxy.RouteStatus](a, tt.method, tt.path, forced); weightsOf(r) == "blue=90 green=10" {
			t.Errorf("%s %s: %+v", tt.path, forced, r)
		}
		must[rolledBack](a, "POST", "/api/v1/rollback", `{"to":2}`)
	}
	must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":1,"green":0}}`)
	resp, body := a.write("POST", "/api/v1/rollback", "")
	checkFailure(t, resp, body, 409, "no_healthy_endpoint", "green")
	must[rolledBack](a, "POST", "/api/v1/rollback", `{"force":true}`)
}

func TestReasonsAreKeptPlain(t *testing.T) {
	a := start(t)
	body := `{"to":"green","reason":" line one\r\n\tline\u2028two\u001b[31m\u0000\u202e ümläut \ud83d\udc4d\u200d "}`
	must[proxy.RouteStatus](a, "POST", predict+"/switch", body)
	if got, want := a.lastChange().Reason, "line one   line two[31m ümläut 👍\u200d"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatCannotBeSavedIsWarnedOf(t *testing.T) {
	a := start(t)
	a.store.full.Store(true)
	for i, tt := range []struct{ method, path, body string }{
		{"PUT", predict + "/weights", `{"weights":{"blue":3,"green":1}}`},
		{"PUT", predict + "/weights", `{"weights":{"blue":1,"green":3},"ramp":"1h"}`},
		{"DELETE", predict + "/ramp", ``},
		{"POST", predict + "/switch", `{"to":"green"}`},
		{"POST", "/api/v1/pools/blue/drain", ``},
		{"POST", "/api/v1/pools/blue/undrain", ``},
		{"POST", "/api/v1/rollback", `{"to":1}`},
		{"POST", "/ab/config", `{"model_a_percentage":30}`},
		{"POST", "/api/v1/reload", ``},
	} {
		resp, body := a.write(tt.method, tt.path, tt.body)
		want := `199 weir "what was changed would not survive a restart: cannot write \"weir.state.json\": no space left"`
		if got := resp.Header.Get("Warning"); resp.StatusCode != 200 || got != want {
			t.Errorf("%d %s: %d %s, Warning: %s", i, tt.path, resp.StatusCode, body, got)
		}
	}
	a.store.full.Store(false)
	_, resp := must[proxy.RouteStatus](a, "PUT", predict+"/weights", `{"weights":{"blue":8,"green":1}}`)
	if got := resp.Header.Get("Warning"); got != "" {
		t.Errorf("saved, with Warning: %s", got)
	}
}

func TestWritesOfAStoppingWeir(t *testing.T) {
	a := start(t)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, path, body string }{
		{"PUT", predict + "/weights", `{"weights":{"blue":3,"green":1}}`},
		{"DELETE", predict + "/ramp", ``},
		{"POST", predict + "/switch", `{"to":"green"}`},
		{"POST", "/api/v1/pools/blue/drain", ``},
		{"POST", "/api/v1/rollback", `{"to":1}`},
		{"POST", "/api/v1/reload", ``},
		{"POST", "/ab/config", `{"model_a_percentage":30}`},
		{"GET", "/api/v1/events", ``},
	} {
		resp, body := a.write(tt.method, tt.path, tt.body)
		checkFailure(t, resp, body, 503, "stopping", "stopping")
	}
	if resp, _ := do(t, a.url, call{method: "GET", path: "/api/v1/status"}); resp.StatusCode != 200 {
		t.Errorf("status: %s", resp.Status)
	}
}
