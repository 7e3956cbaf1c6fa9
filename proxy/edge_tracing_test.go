package proxy_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"weir/backend/backendtest"
	"weir/config"
	"weir/internal/tracing/tracingtest"
)

const (
	aTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	aParent = "00f067aa0ba902b7"
)

// spansOf waits for the spans of a trace: that of weir, and those of the attempts in the order of their beginning.
func spansOf(t *testing.T, c *tracingtest.Collector, id string, attempts int) (server *trace.Span, clients []*trace.Span) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d spans of trace %s", 1+attempts, id), func() bool {
		server, clients = nil, nil
		for _, s := range c.Spans() {
			switch {
			case hex.EncodeToString(s.GetTraceId()) != id:
			case s.GetKind() == trace.Span_SPAN_KIND_SERVER:
				server = s
			default:
				clients = append(clients, s)
			}
		}
		return server != nil && len(clients) == attempts
	})
	for _, s := range clients {
		if string(s.GetParentSpanId()) != string(server.GetSpanId()) || s.GetStartTimeUnixNano() < server.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > server.GetEndTimeUnixNano()+uint64(time.Second) {
			t.Errorf("the attempt %v is not within %v", s, server)
		}
	}
	return server, clients
}

// has compares some of a span's attributes.
func has(t *testing.T, s *trace.Span, want map[string]any) {
	t.Helper()
	got := tracingtest.Attributes(s)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %s is %v (%T), want %v", s.GetName(), k, got[k], got[k], v)
		}
	}
}

// TestEdgeTracing follows a request that a client has traced through a retry, with a body of each way of sending: every
// endpoint is told of the span of its own attempt.
func TestEdgeTracing(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 7_000)
	for _, c := range []struct {
		name, body string
		chunked    bool
	}{{"small", "x", false}, {"large", large, false}, {"chunks", large, true}} {
		t.Run(c.name, func(t *testing.T) {
			collector := tracingtest.New(t)
			sick, well := sickAndWell(t, backendtest.Behaviour{Status: 503, Body: []byte("busy")})
			r := start(t, setup{
				endpoints: []string{sick.Addr(), well.Addr()}, pool: "outlier: off\n", options: oneLoop,
				route: "retry: {on: [\"503\"], backoff: 0s}\n", top: fmt.Sprintf("tracing: {otlp: %q, percent: 0}\n", collector.URL),
			})
			cl := r.dial(t)
			id := ""
			for i := range 2 { // one of them meets the sick endpoint first
				id = fmt.Sprintf("%s%x", aTrace[:31], i)
				cl.send(strings.Replace(post("/predict?secret=1", c.body, c.chunked), "\r\n", "\r\ntraceparent: 00-"+id+"-"+aParent+"-01\r\ntracestate: v=1\r\nUser-Agent: test\r\n", 1))
				if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "well" {
					t.Fatalf("%s %q", m.start, m.body)
				}
				if seen := sick.Requests(); len(seen) > 0 {
					break
				}
			}
			server, attempts := spansOf(t, collector, id, 2)
			if server.GetName() != "POST all" || hex.EncodeToString(server.GetParentSpanId()) != aParent || server.GetTraceState() != "v=1" || server.GetStatus().GetCode() != trace.Status_STATUS_CODE_UNSET {
				t.Errorf("the request's span is %v", server)
			}
			has(t, server, map[string]any{
				"http.request.method": "POST", "http.response.status_code": int64(200), "url.path": "/predict", "url.scheme": "http", "server.address": "h",
				"user_agent.original": "test", "network.protocol.version": "1.1", "weir.route": "all", "weir.variant": "blue", "http.request.body.size": int64(len(c.body)),
			})
			has(t, attempts[0], map[string]any{"http.response.status_code": int64(503), "weir.outcome": "status", "error.type": "status", "weir.pool": "blue", "server.address": "127.0.0.1"})
			has(t, attempts[1], map[string]any{"http.response.status_code": int64(200), "weir.outcome": "success", "http.request.resend_count": int64(1)})
			if attempts[0].GetStatus().GetCode() != trace.Status_STATUS_CODE_ERROR || attempts[1].GetStatus().GetCode() != trace.Status_STATUS_CODE_UNSET {
				t.Error("the attempts' statuses are not failed, then well")
			}
			for i, s := range []*backendtest.Server{sick, well} {
				seen := s.Requests()
				last := seen[len(seen)-1]
				want := "00-" + id + "-" + hex.EncodeToString(attempts[i].GetSpanId()) + "-01"
				if got := last.Get("traceparent"); got != want {
					t.Errorf("endpoint %d was told %s, want %s", i, got, want)
				}
				if last.BodySum != digest(c.body) {
					t.Errorf("endpoint %d got another body", i)
				}
			}
		})
	}
}

// TestEdgeTracingHedge: both of two attempts have a span, and the one that lost says so.
func TestEdgeTracingHedge(t *testing.T) {
	collector := tracingtest.New(t)
	slow, fast := slowFirst(t, 20*time.Second)
	r := start(t, setup{
		endpoints: []string{slow.Addr(), fast.Addr()}, pool: "outlier: off\n", options: oneLoop,
		top: fmt.Sprintf("tracing: {otlp: %q}\n", collector.URL), change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}),
	})
	cl := r.dial(t)
	id := ""
	for i := range 2 {
		id = fmt.Sprintf("%s%x", aTrace[:31], i)
		cl.send("GET /x HTTP/1.1\r\nHost: h\r\ntraceparent: 00-" + id + "-" + aParent + "-01\r\n\r\n")
		if m := cl.answer("GET"); m.status() != 200 || string(m.body) != "fast" {
			t.Fatalf("%s %q", m.start, m.body)
		}
		if len(slow.Requests()) > 0 {
			break
		}
	}
	_, attempts := spansOf(t, collector, id, 2)
	has(t, attempts[0], map[string]any{"weir.outcome": "canceled"})
	has(t, attempts[1], map[string]any{"weir.outcome": "success", "weir.attempt": "hedge", "http.response.status_code": int64(200)})
	seen := fast.Requests()
	if got, want := seen[len(seen)-1].Get("traceparent"), "00-"+id+"-"+hex.EncodeToString(attempts[1].GetSpanId())+"-01"; got != want {
		t.Errorf("the second endpoint was told %s, want %s", got, want)
	}
}

// TestEdgeTracingDecides: who decides whether a request is traced, and what endpoints are told.
func TestEdgeTracingDecides(t *testing.T) {
	alongside(t)
	for _, c := range []struct {
		settings, given string
		traced, kept    bool   // kept: the endpoint gets the client's field as it is
		flags           string // that it gets otherwise
	}{
		{"percent: 100", "", true, false, "01"},
		{"percent: 0", "", false, false, "00"},
		{"percent: 100", "00-" + aTrace + "-" + aParent + "-00", false, true, ""},
		{"percent: 0", "00-" + aTrace + "-" + aParent + "-01", true, false, "01"},
		{"percent: 0, ignore_parent: true", "00-" + aTrace + "-" + aParent + "-01", false, true, ""},
		{"percent: 100, ignore_parent: true", "00-" + aTrace + "-" + aParent + "-00", true, false, "01"},
		{"percent: 100", "cc-" + aTrace + "-" + aParent + "-01-later", true, false, "01"},
		{"percent: 100", "00-" + aTrace + "-0000000000000000-01", true, false, "01"},
	} {
		t.Run(c.settings+" "+c.given, func(t *testing.T) {
			collector := tracingtest.New(t)
			ep := newEndpoint(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}, top: fmt.Sprintf("tracing: {otlp: %q, %s}\n", collector.URL, c.settings)})
			cl := r.dial(t)
			line := ""
			if c.given != "" {
				line = "traceparent: " + c.given + "\r\n"
			}
			cl.send("GET / HTTP/1.1\r\nHost: h\r\n" + line + "\r\n")
			if m := cl.answer("GET"); m.status() != 200 {
				t.Fatal(m.start)
			}
			got := ep.last(t).get("traceparent")
			switch {
			case c.kept != (got == c.given):
				t.Errorf("%q became %q; kept: want %v", c.given, got, c.kept)
			case !c.kept && (len(got) != 55 || got[:3] != "00-" || got[53:] != c.flags):
				t.Errorf("%q became %q; want flags %s", c.given, got, c.flags)
			}
			if c.traced {
				spansOf(t, collector, got[3:35], 1)
			} else if err := r.stop(); err != nil { // which sends what there is
				t.Error(err)
			} else if n := len(collector.Spans()); n > 0 {
				t.Errorf("%d spans of a request that is not traced", n)
			}
		})
	}
}

// TestEdgeTracingReload: the collector changes, and ends, without a request that notices.
func TestEdgeTracingReload(t *testing.T) {
	first, second := tracingtest.New(t), tracingtest.New(t)
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, top: fmt.Sprintf("tracing: {otlp: %q, percent: 100}\n", first.URL)})
	cl := r.dial(t)
	ask := func() string {
		if m := cl.get("/"); m.status() != 200 {
			t.Fatal(m.start)
		}
		return ep.last(t).get("traceparent")[3:35]
	}
	spansOf(t, first, ask(), 1)
	if _, _, err := r.Apply(parse(t, strings.Replace(r.yaml, first.URL, second.URL, 1))); err != nil {
		t.Fatal(err)
	}
	spansOf(t, second, ask(), 1)
	if _, _, err := r.Apply(parse(t, strings.Replace(r.yaml, "tracing: ", "# ", 1))); err != nil {
		t.Fatal(err)
	}
	ask()
	if n := len(first.Spans()) + len(second.Spans()); n != 4 {
		t.Errorf("%d spans, want those of two requests", n)
	}
	if m := r.metrics(t); sum(m, "weir_trace_spans_total", `outcome="exported"`) != 4 || sum(m, "weir_trace_spans_total") != 4 {
		t.Errorf("weir_trace_spans_total is %v", sum(m, "weir_trace_spans_total"))
	}
}
