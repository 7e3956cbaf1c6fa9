package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// Calls of gRPC as they are inside weir: HTTP/1.1 on both sides. That they are so on the wire, too, is for the
// tests of HTTP/2.

const (
	modelInfer = "/inference.GRPCInferenceService/ModelInfer"
	noMessage  = "\x00\x00\x00\x00\x00"
)

// calling is a call with one message, which is empty.
func calling(method, lines string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\n%sContent-Length: %d\r\n\r\n%s", method, lines, len(noMessage), noMessage)
}

// ending is an answer that is nothing but a status.
func ending(status int, lines string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: %d\r\n%sContent-Length: 0\r\n\r\n", status, lines)
}

// trailing is an answer with a message, and its status behind that.
func trailing(status string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + noMessage + "\r\n0\r\n" + status + "\r\n"
}

// called makes a call on a connection of its own.
func (r *running) called(t *testing.T, method, lines string) *message {
	t.Helper()
	c := r.dial(t)
	c.send(calling(method, lines))
	return c.answer("POST")
}

// own checks for an error of weir's own as a call gets it, and returns its message.
func own(t *testing.T, m *message, status int) string {
	t.Helper()
	text, err := url.PathUnescape(m.get("grpc-message"))
	if m.status() != 200 || m.get("Content-Type") != "application/grpc" || m.get("grpc-status") != fmt.Sprint(status) || len(m.body) > 0 || m.get("Content-Length") != "0" || text == "" || err != nil {
		t.Errorf("answer %q %v %q, %v; want nothing but the status %d", m.start, m.fields, m.body, err, status)
	}
	if m.get("X-Request-ID") == "" {
		t.Errorf("no X-Request-ID in %v", m.fields)
	}
	return text
}

// TestEdgeCallOwnErrors: a call gets weir's errors as statuses of gRPC. They count as what they would be with HTTP.
func TestEdgeCallOwnErrors(t *testing.T) {
	alongside(t)
	ok := newEndpoint(t, serveBytes(trailing("grpc-status: 0\r\n")))
	hang := newEndpoint(t, func(s *served) { s.request(); s.head() })
	garbage := newEndpoint(t, serveBytes("SSH-2.0-OpenSSH\r\n"))
	closes := newEndpoint(t, func(s *served) { s.request() })
	for _, c := range []struct {
		name, route, lines string
		endpoint           string
		status, code       int
		variant            bool // chosen
	}{
		{"no route", "match: {path: /x}\n", "", ok.addr, 12, 404, false},
		{"not allowed", "allow: [10.0.0.0/8]\n", "", ok.addr, 7, 403, false},
		{"too large", "limits: {body: 4}\n", "", ok.addr, 8, 413, false},
		{"expectation", "", "Expect: more\r\n", ok.addr, 13, 417, false},
		{"no time", "", "grpc-timeout: 0n\r\n", ok.addr, 4, 504, false},
		{"bad timeout", "", "grpc-timeout: 1s\r\n", ok.addr, 13, 400, false},
		{"empty timeout", "", "grpc-timeout:\r\n", ok.addr, 13, 400, false},
		{"long timeout", "", "grpc-timeout: 123456789m\r\n", ok.addr, 13, 400, false},
		{"connect", "retry: off\n", "", backendtest.Refused(t), 14, 502, true},
		{"garbage", "retry: off\n", "", garbage.addr, 13, 502, true},
		{"closed", "retry: off\n", "", closes.addr, 14, 502, true},
		{"hangs", "retry: off\ntimeouts: {attempt: 100ms}\n", "", hang.addr, 4, 504, true},
		{"no time left", "retry: off\n", "grpc-timeout: 100m\r\n", hang.addr, 4, 504, true},
		{"total", "retry: off\ntimeouts: {total: 100ms, attempt: 100ms}\n", "", hang.addr, 4, 504, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log lockedBuffer
			r := start(t, setup{endpoints: []string{c.endpoint}, route: c.route, pool: "outlier: off\n", log: &log})
			m := r.called(t, modelInfer, c.lines)
			own(t, m, c.status)
			if chosen := m.get("X-Weir-Variant") == "blue"; chosen != c.variant {
				t.Errorf("X-Weir-Variant %q", m.get("X-Weir-Variant"))
			}
			ms := r.metrics(t)
			if sum(ms, "weir_requests_total", fmt.Sprintf(`code="%d"`, c.code)) != 1 || sum(ms, "weir_grpc_requests_total", `status="`+statusNames[c.status]+`"`) != 1 || sum(ms, "weir_grpc_requests_total") != 1 {
				t.Errorf("counted %v", ms)
			}
			eventually(t, "the line of the log", func() bool { return log.String() != "" })
			var line struct {
				Status     int
				GRPCStatus string `json:"grpc_status"`
			}
			if err := json.Unmarshal([]byte(log.String()), &line); err != nil || line.Status != c.code || line.GRPCStatus != statusNames[c.status] {
				t.Errorf("logged %s, %v", log.String(), err)
			}
		})
	}
	t.Run("rate limit", func(t *testing.T) {
		r := start(t, setup{endpoints: []string{ok.addr}, route: "rate_limit: {rate: 1/h}\nheaders: {response: {set: {X-Set: y}}}\n"})
		if m := r.called(t, modelInfer, ""); valuesOf(m.trailers, "grpc-status")[0] != "0" {
			t.Errorf("%+v", m)
		}
		c := r.dial(t)
		for range 2 { // the connection stays
			c.send(calling(modelInfer, ""))
			m := c.answer("POST")
			own(t, m, 8)
			if m.get("Retry-After") != "3600" || !regexp.MustCompile(`^3[56]\d{5}$`).MatchString(m.get("grpc-retry-pushback-ms")) || m.get("X-Set") != "y" {
				t.Errorf("%v", m.fields)
			}
		}
	})
	t.Run("not a call", func(t *testing.T) { // whatever its Content-Type
		r := start(t, setup{endpoints: []string{ok.addr}, route: "match: {path: /x}\n"})
		for _, request := range []string{
			strings.Replace(calling("/y", ""), "POST", "PUT", 1),
			strings.Replace(calling("/y", ""), "grpc+proto", "grpc-web", 1),
			post("/y", "x", false),
		} {
			c := r.dial(t)
			c.send(request)
			c.refused(c.answer("POST"), 404)
		}
		if n := sum(r.metrics(t), "weir_grpc_requests_total"); n != 0 {
			t.Errorf("%v calls counted", n)
		}
	})
}

var statusNames = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// TestEdgeCallStatus: what a status says of the variant and of the endpoint, in the head or behind the body.
func TestEdgeCallStatus(t *testing.T) {
	var answer atomic.Value
	ep := newEndpoint(t, func(s *served) {
		for s.request() != nil {
			s.send(answer.Load().(string))
		}
	})
	for _, c := range []struct {
		status int
		lines  string // of the call
		errors float64
		// outcome of the attempt
		outcome string
	}{
		{0, "", 0, "success"}, {1, "", 0, "success"}, {2, "", 1, "status"}, {3, "", 0, "success"},
		{4, "", 1, "status"}, {4, "grpc-timeout: 5S\r\n", 1, "canceled"}, {4, "grpc-timeout: 1H\r\n", 1, "status"},
		{5, "", 0, "success"}, {8, "", 0, "success"}, {12, "", 0, "success"}, {13, "", 1, "status"}, {14, "", 1, "status"}, {15, "", 1, "status"},
		{16, "", 0, "success"}, {99, "", 1, "status"},
	} {
		for form, text := range map[string]string{
			"head": ending(c.status, "x-other: 1\r\n"), "trailers": trailing(fmt.Sprintf("Grpc-Status: %d\r\nx-other: 1\r\n", c.status)),
		} {
			r := start(t, setup{endpoints: []string{ep.addr}, pool: "outlier: off\n"})
			answer.Store(text)
			m := r.called(t, modelInfer, c.lines)
			got := m.fields
			if form == "trailers" {
				got = m.trailers
			}
			if v := valuesOf(got, "grpc-status"); m.status() != 200 || len(v) != 1 || v[0] != fmt.Sprint(c.status) || len(valuesOf(got, "x-other")) != 1 {
				t.Errorf("%+v in the %s: %+v", c, form, m)
			}
			if form == "trailers" && !bytes.Equal(m.body, []byte(noMessage)) {
				t.Errorf("%+v: body %q", c, m.body)
			}
			name := "UNKNOWN"
			if c.status < len(statusNames) {
				name = statusNames[c.status]
			}
			ms := r.metrics(t) // at once: an answer in one piece is counted before it is sent
			route, _ := r.Route("all")
			if sum(ms, "weir_requests_total", `code="200"`) != 1 || sum(ms, "weir_grpc_requests_total", `variant="blue"`, `status="`+name+`"`) != 1 ||
				sum(ms, "weir_attempts_total", `outcome="`+c.outcome+`"`) != 1 || float64(route.Variants[0].Errors) != c.errors {
				t.Errorf("%+v in the %s: errors %d, %v", c, form, route.Variants[0].Errors, ms)
			}
		}
	}
	// What is no answer of gRPC.
	for text, want := range map[string]string{
		okResponse: "UNKNOWN", trailing(""): "UNKNOWN", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n": "UNIMPLEMENTED",
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n": "UNAVAILABLE",
	} {
		r := start(t, setup{endpoints: []string{ep.addr}, pool: "outlier: off\n"})
		answer.Store(text)
		m := r.called(t, modelInfer, "")
		ms := r.metrics(t)
		outcome := "status"
		if m.status() == 404 {
			outcome = "success"
		}
		if sum(ms, "weir_grpc_requests_total", `status="`+want+`"`) != 1 || sum(ms, "weir_attempts_total", `outcome="`+outcome+`"`) != 1 {
			t.Errorf("%q: %v", text, ms)
		}
	}
}

// TestEdgeCallEjected: statuses of gRPC eject an endpoint as 5xx do, a client's mistakes do not.
func TestEdgeCallEjected(t *testing.T) {
	for status, ejected := range map[int]bool{3: false, 12: false, 14: true, 13: true} {
		sick := newEndpoint(t, serveBytes(trailing(fmt.Sprintf("grpc-status: %d\r\n", status))))
		well := newEndpoint(t, serveBytes(trailing("grpc-status: 0\r\n")))
		r := start(t, setup{endpoints: []string{sick.addr, well.addr}, pool: "outlier: {consecutive_failures: 3, ejection: 1m}\n", route: "retry: off\n"})
		for range 20 {
			r.called(t, modelInfer, "")
		}
		state := func() (first, second bool) {
			p, _ := r.Pool("blue")
			return p.Endpoints[0].Ejected, p.Endpoints[1].Ejected
		}
		if ejected {
			eventually(t, "the ejection", func() bool { first, _ := state(); return first })
		}
		if first, second := state(); first != ejected || second {
			t.Errorf("status %d: ejected %v, %v", status, first, second)
		}
	}
}

// TestEdgeCallRetry: which calls are sent again after which statuses.
func TestEdgeCallRetry(t *testing.T) {
	for _, c := range []struct {
		name, retry, method, sick string
		again                     bool
	}{
		{"unavailable", "{on: [unavailable]}", modelInfer, ending(14, ""), true},
		{"one of several", "{on: [unavailable, resource_exhausted, cancelled]}", modelInfer, ending(8, ""), true},
		{"of another kind", "{on: [unavailable]}", modelInfer, ending(8, ""), false},
		{"by default", "{}", modelInfer, ending(14, ""), false},
		{"of a status of HTTP", "{on: [5xx]}", modelInfer, ending(14, ""), false},
		{"a status of HTTP", "{on: [5xx, internal]}", modelInfer, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", true},
		{"behind a message", "{on: [unavailable]}", modelInfer, trailing("grpc-status: 14\r\n"), false},
		{"ok", "{on: [unavailable]}", modelInfer, ending(0, ""), false},
		{"a check", "{on: [unavailable]}", "/grpc.health.v1.Health/Check", ending(14, ""), true},
		{"what may change something", "{on: [unavailable]}", "/inference.GRPCInferenceService/RepositoryModelLoad", ending(14, ""), false},
		{"what may change something, always", "{on: [unavailable], idempotent: always}", "/a.B/C", ending(14, ""), true},
		{"never", "{on: [unavailable], idempotent: never}", modelInfer, ending(14, ""), false},
		{"asked not to", "{on: [unavailable]}", modelInfer, ending(14, "grpc-retry-pushback-ms: -1\r\n"), false},
		{"nonsense", "{on: [unavailable]}", modelInfer, ending(14, "grpc-retry-pushback-ms: soon\r\n"), false},
		{"later, and there is another", "{on: [unavailable]}", modelInfer, ending(14, "grpc-retry-pushback-ms: 3600000\r\n"), true},
		{"reset", "{on: [reset]}", modelInfer, "", true},
		{"not a call", "{on: [unavailable]}", "/predict", ending(14, ""), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sick := newEndpoint(t, func(s *served) {
				for s.request() != nil && c.sick != "" {
					s.send(c.sick)
				}
			})
			well := newEndpoint(t, serveBytes(trailing("grpc-status: 0\r\nx-well: 1\r\n")))
			r := start(t, setup{endpoints: []string{sick.addr, well.addr}, pool: "outlier: off\n", route: "retry: " + c.retry + "\n", options: oneLoop})
			request := calling(c.method, "")
			if c.name == "not a call" {
				request = post(c.method, "x", false)
			}
			answers := 0
			for range 4 {
				cl := r.dial(t)
				cl.send(request)
				if m := cl.answer("POST"); len(valuesOf(m.trailers, "x-well")) == 1 {
					answers++
				}
			}
			if want := map[bool]int{true: 4, false: 2}[c.again]; answers != want {
				t.Errorf("%d good answers, want %d", answers, want)
			}
			for _, m := range well.requests {
				if string(m.body) != noMessage && string(m.body) != "x" {
					t.Errorf("body %q", m.body)
				}
			}
			ms := r.metrics(t)
			if c.again && sum(ms, "weir_retries_total") == 0 || !c.again && sum(ms, "weir_retries_total") != 0 {
				t.Errorf("%v", ms)
			}
			if c.again && strings.Contains(c.sick, "tatus: 8") && sum(ms, "weir_attempts_total", `outcome="status"`) != 0 {
				t.Errorf("what was sent again without a fault counts as one: %v", ms)
			}
		})
	}
	t.Run("pushback of the only endpoint", func(t *testing.T) {
		var times []time.Time
		ep := newEndpoint(t, func(s *served) {
			for s.request() != nil {
				if times = append(times, time.Now()); len(times) == 1 {
					s.send(ending(14, "grpc-retry-pushback-ms: 300\r\n"))
				} else {
					s.send(ending(0, ""))
				}
			}
		})
		r := start(t, setup{endpoints: []string{ep.addr}, pool: "outlier: off\n", route: "retry: {on: [unavailable], backoff: 0s}\n"})
		if m := r.called(t, modelInfer, ""); m.get("grpc-status") != "0" {
			t.Fatalf("%+v", m)
		}
		if d := times[1].Sub(times[0]); d < 300*time.Millisecond {
			t.Errorf("sent again after %v", d)
		}
		times = nil // later than the call may last
		if m := r.called(t, modelInfer, "grpc-timeout: 200m\r\n"); m.get("grpc-status") != "14" {
			t.Errorf("%+v", m)
		}
	})
}

// TestEdgeCallTimeout: what the endpoint is told of the time left.
func TestEdgeCallTimeout(t *testing.T) {
	ep := newEndpoint(t, serveBytes(ending(0, "")))
	r := start(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {total: 60s, attempt: 60s}\n"})
	for _, c := range []struct {
		in, out string
	}{
		{"", ""}, {"2S", `(2000|1\d{3})m`}, {"1500m", `1[45]\d\dm`}, {"5000000u", `(5000|4\d{3})m`}, {"5000000000n", ""},
		{"1M", `(60000|59\d{3})m`}, {"1H", `(3600000|3599\d{3})m`}, {"50H", `(180000|17999\d)S`}, {"99999999H", "99999999S"},
	} {
		lines := "grpc-timeout: " + c.in + "\r\nX-Request-Timeout: 7\r\n"
		if c.in == "" {
			lines = ""
		}
		m := r.called(t, modelInfer, lines)
		if c.in == "5000000000n" { // ten digits
			own(t, m, 13)
			continue
		}
		got := ep.last(t)
		if m.get("grpc-status") != "0" || !regexp.MustCompile("^("+c.out+")$").MatchString(got.get("grpc-timeout")) {
			t.Errorf("%s: the endpoint gets %q, want %s; answer %+v", c.in, got.get("grpc-timeout"), c.out, m)
		}
	}
	// One that is no call: the field means nothing.
	c := r.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: h\r\ngrpc-timeout: soon\r\nContent-Length: 0\r\n\r\n")
	if m := c.answer("POST"); m.status() != 200 || ep.last(t).get("grpc-timeout") != "soon" {
		t.Errorf("%+v", m)
	}
}

// TestEdgeCallTimeoutEnds: the route's total ends with the head of an answer, since that may be a stream; what the
// client says holds to the end of it.
func TestEdgeCallTimeoutEnds(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, func(s *served) {
		for s.request() != nil {
			s.send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 10 {
				s.send("5\r\n" + noMessage + "\r\n")
				time.Sleep(100 * time.Millisecond)
			}
			s.send("0\r\ngrpc-status: 0\r\n\r\n")
		}
	})
	r := bounded(t, setup{endpoints: []string{ep.addr}, pool: "outlier: off\n"}, func(cfg *config.Config) {
		cfg.Routes[0].Timeouts.Total, cfg.Routes[0].Timeouts.Attempt = 300*time.Millisecond, 300*time.Millisecond
	})
	for _, c := range []struct {
		lines string
		whole bool
	}{{"", true}, {"grpc-timeout: 1H\r\n", true}, {"grpc-timeout: 99999999H\r\n", true}, {"grpc-timeout: 200m\r\n", false}, {"grpc-timeout: 500m\r\n", false}} {
		cl := r.dial(t)
		cl.send(calling(modelInfer, c.lines))
		m, _, err := cl.readResponse("POST")
		if (err == nil) != c.whole || m == nil || m.status() != 200 || c.whole && len(m.body) != 10*len(noMessage) {
			t.Errorf("%q: %+v, %v; want all of it: %v", c.lines, m, err, c.whole)
		}
	}
	eventually(t, "the account", func() bool {
		return sum(r.metrics(t), "weir_grpc_requests_total", `status="DEADLINE_EXCEEDED"`) == 2
	})
	if n := sum(r.metrics(t), "weir_attempts_total", `outcome="timeout"`); n != 0 {
		t.Errorf("%v attempts timed out: it was the client's time", n)
	}
}

// TestEdgeCallAround: caches and compression leave calls alone; copies are made of them.
func TestEdgeCallAround(t *testing.T) {
	big := strings.Repeat("compressible ", 1000)
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"+
		fmt.Sprintf("%x\r\n%s\r\n", len(big), big)+"0\r\ngrpc-status: 0\r\n\r\n"))
	shadow := newEndpoint(t, serveBytes(trailing("grpc-status: 0\r\n")))
	r := start(t, setup{
		endpoints: []string{ep.addr}, pool: "outlier: off\n",
		route: "cache: {ttl: 60s, methods: [GET, POST]}\ncompress: {types: ['application/*'], min_size: 1}\n",
		change: func(cfg *config.Config) {
			shade := cfg.Pools[0]
			shade.Name, shade.Endpoints = "shadow", []config.Endpoint{{Address: shadow.addr, Weight: 1}}
			cfg.Pools = append(cfg.Pools, shade)
			m := config.DefaultMirror()
			m.Pool, m.Percent = "shadow", 100
			cfg.Routes[0].Mirror = &m
		},
	})
	for range 3 {
		m := r.called(t, modelInfer, "Accept-Encoding: gzip, br\r\ngrpc-timeout: 9S\r\n")
		if string(m.body) != big || m.get("Content-Encoding") != "" || m.get("X-Weir-Cache") != "" || len(valuesOf(m.trailers, "grpc-status")) != 1 {
			t.Errorf("%v, %d bytes, trailers %v", m.fields, len(m.body), m.trailers)
		}
	}
	if n := len(ep.got()); n != 3 {
		t.Errorf("the endpoint got %d calls, want all three", n)
	}
	eventually(t, "the copies", func() bool { return len(shadow.got()) == 3 })
	if m := shadow.last(t); string(m.body) != noMessage || m.get("Content-Type") != "application/grpc+proto" || m.get("grpc-timeout") != "" {
		t.Errorf("the shadow gets %+v", m)
	}
}
