package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/balancer"
	"weir/config"
)

func TestProbeHoldsJSON(t *testing.T) {
	body := `{"checks":{"gpu":{"healthy":false,"name":"a \"b\""}},"n":1.50,"list":[{"x":null},"two"],"a*":1,"count":"1"}`
	for _, test := range []struct{ path, value, want string }{
		{"checks.gpu.healthy", "false", ""},
		{"checks.gpu.healthy", "true", "checks.gpu.healthy is false; want true"},
		{"checks.gpu.healthy", `"false"`, `checks.gpu.healthy is false; want "false"`},
		{"checks.gpu.name", `"a \"b\""`, ""},
		{"n", "1.5", ""},
		{"n", "15e-1", ""},
		{"n", "2", "n is 1.50; want 2"},
		{"count", "1", `count is "1"; want 1`},
		{"list.0.x", "null", ""},
		{"list.1", `"two"`, ""},
		{"list.2", "1", "list.2 is absent; want 1"},
		{"list.-1", "1", "list.-1 is absent; want 1"},
		{"list.x", "1", "list.x is absent; want 1"},
		{"list", "1", `list is [{"x":null},"two"]; want 1`},
		{"checks.gpu.healthy.more", "true", "checks.gpu.healthy.more is absent; want true"},
		{"a*", "1", ""},
		{"c*", "1", "c* is absent; want 1"},
		{"list.#", "2", "list.# is absent; want 2"},
	} {
		got := ""
		if err := holds([]byte(body), []config.Assertion{{Path: test.path, Value: test.value}}, 0); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %s: %q, want %q", test.path, test.value, got, test.want)
		}
	}
	for _, bad := range []string{"", "ok", `{"n":1`, `{"n":1} x`} {
		if err := holds([]byte(bad), []config.Assertion{{Path: "n", Value: "1"}}, 0); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestProbeReadsTheAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.UserAgent() != "weir-probe" {
			t.Errorf("%s by %q", r.Method, r.UserAgent())
		}
		switch r.URL.Path {
		case "/health", "/v2/models/m/ready":
			_, _ = io.WriteString(w, `{"ready":true}`)
		case "/v2/models/m/versions/3/ready":
			_, _ = io.WriteString(w, `{"name":"m","ready":false}`)
		case "/v2/models/empty/ready": // the protocol asks for the status only
		case "/endless":
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/long":
			_, _ = fmt.Fprintf(w, `{"ready":true,"x":"%s"}`, strings.Repeat("x", maxProbeBody))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	e := &balancer.Endpoint{Address: s.Listener.Addr().String()}
	ready := []config.Assertion{{Path: "ready", Value: "true"}}
	for _, test := range []struct {
		name string
		p    config.Probe
		want string
	}{
		{"a status", config.Probe{Path: "/health"}, ""},
		{"a field", config.Probe{Path: "/health", JSON: ready}, ""},
		{"another value", config.Probe{Path: "/health", JSON: []config.Assertion{{Path: "ready", Value: "false"}}},
			"GET /health: ready is true; want false"},
		{"too long, and nobody reads it", config.Probe{Path: "/long"}, ""},
		{"too long", config.Probe{Path: "/long", JSON: ready}, "GET /long: the body of the answer: longer than 1 MiB"},
		{"a status whose body never ends", config.Probe{Path: "/endless"}, "GET /endless answered 503, want 200-299"},
		{"a model", config.Probe{Model: "m"}, ""},
		{"a model without a body", config.Probe{Model: "empty"}, ""},
		{"a version that is not ready", config.Probe{Model: "m", ModelVersion: "3"},
			"GET /v2/models/m/versions/3/ready: ready is false; want true"},
		{"an unknown model", config.Probe{Model: "n"}, "GET /v2/models/n/ready answered 404, want 200-299"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.p.Status = config.StatusRange{Low: 200, High: 299}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			began, got := time.Now(), ""
			if err := probe(ctx, e, tcpAddr(e.Address), test.p); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it waited %v for what nobody reads", took)
			}
		})
	}
}
