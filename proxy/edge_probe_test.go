package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/proxy"
)

// TestEdgeModelsAreAsked: an endpoint that loads its model, is ready, answers wrongly, and again as it should.
func TestEdgeModelsAreAsked(t *testing.T) {
	var loaded atomic.Bool
	var prediction atomic.Int64
	prediction.Store(3)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !loaded.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/v2/models/iris/ready":
			_, _ = io.WriteString(w, `{"name":"iris","ready":true}`)
		default:
			_, _ = fmt.Fprintf(w, `{"prediction":%d}`, prediction.Load())
		}
	}))
	defer s.Close()
	var told lockedBuffer
	r := start(t, setup{
		endpoints: []string{s.Listener.Addr().String()},
		options: func(o *proxy.Options) {
			o.Health = func(_ *balancer.Endpoint, healthy bool, why string) {
				_, _ = fmt.Fprintf(&told, "%v: %s\n", healthy, why)
			}
		},
		change: func(c *config.Config) {
			c.Pools[0].Probe = &config.Probe{
				Model: "iris", Interval: time.Minute, Timeout: 5 * time.Second, Rise: 1, Fall: 2, Status: config.StatusRange{Low: 200, High: 299},
				Startup: &config.Startup{Budget: time.Minute, Interval: 20 * time.Millisecond, Timeout: 5 * time.Second},
				Inference: &config.Inference{
					Path: "/predict", Body: `{"features":[1]}`, Interval: 20 * time.Millisecond, JSON: []config.Assertion{{Path: "prediction", Value: "3"}},
				},
			}
		},
	})
	state := func() proxy.EndpointStatus { return r.Status().Pools[0].Endpoints[0] }
	c := r.dial(t)
	const ask = "GET /predict HTTP/1.1\r\nHost: h\r\n\r\n"
	status := func() int {
		c.send(ask)
		return c.answer("GET").status()
	}

	eventually(t, "it is probed", func() bool { return strings.Contains(state().Probe, "answered 503") })
	if e, got := state(), status(); got != 503 || !e.Starting || e.Healthy || e.Probe != "starting: GET /v2/models/iris/ready answered 503, want 200-299" {
		t.Errorf("while it starts: status %d, %+v", got, e)
	}
	if strings.Contains(r.logs.String(), "endpoint "+s.Listener.Addr().String()) {
		t.Errorf("it is in the log while it starts:\n%s", r.logs)
	}
	loaded.Store(true)
	became := func(line string) { // the event comes when requests heed it already, unlike the state
		t.Helper()
		eventually(t, line, func() bool { return strings.HasSuffix(told.String(), line+"\n") })
	}
	became("true: its first probe succeeded")
	if e, got := state(), status(); got != 200 || e.Starting || e.Probe != "" {
		t.Errorf("once it has started: status %d, %+v", got, e)
	}
	prediction.Store(4)
	became("false: inference: prediction is 4; want 3")
	if e, got := state(), status(); got != 503 || e.Probe != "inference: prediction is 4; want 3" || e.Ejected {
		t.Errorf("while it answers wrongly: status %d, %+v", got, e)
	}
	prediction.Store(3)
	became("true: its inference succeeds")
	if got := status(); got != 200 {
		t.Errorf("at last: status %d", got)
	}
	const want = "true: its first probe succeeded\nfalse: inference: prediction is 4; want 3\ntrue: its inference succeeds\n"
	if told.String() != want {
		t.Errorf("told %q", told.String())
	}

	m := r.metrics(t)
	for _, line := range []struct {
		kind, result string
		least, most  float64
	}{{"probe", "failure", 1, 1e4}, {"probe", "success", 1, 1}, {"inference", "failure", 1, 1e4}, {"inference", "success", 1, 1e4}} { // the first of all decides alone
		n := sum(m, "weir_probes_total", `kind="`+line.kind+`"`, `result="`+line.result+`"`)
		if n < line.least || n > line.most {
			t.Errorf("%v of %s: %v, want %v to %v", line.result, line.kind, n, line.least, line.most)
		}
	}
	if asked, took := sum(m, "weir_probes_total"), sum(m, "weir_probe_duration_seconds"); took < 4 || took > asked+2 {
		t.Errorf("%v durations of %v questions", took, asked)
	}
	if n := sum(m, "weir_attempts_total"); n != 2 || state().Errors != 0 {
		t.Errorf("%v attempts and %d errors, want the 2 of the client and none", n, state().Errors)
	}
}
