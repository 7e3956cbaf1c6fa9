package proxy_test

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/config"
)

func timed(t *testing.T, ep *endpoint, header string, total time.Duration) *running {
	t.Helper()
	return bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Timeouts.Header, cfg.Routes[0].Timeouts.Total = header, total
	})
}

// TestEdgeTimeoutField: what the client says, and what the endpoint is told.
func TestEdgeTimeoutField(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	for _, header := range []string{"X-Request-Timeout", "X-Budget"} {
		r := timed(t, ep, header, 30*time.Second)
		for _, c := range []struct{ in, out string }{
			{"", ""},
			{"2", `(2\.000|1\.\d{3})`},
			{"2.5", `2\.[45]\d\d`},
			{"1500ms", `1[45]\d\dms`},
			{"2s", `(2\.000|1\.\d{3})s`},
			{"0.2m", `1[12]\.\d{3}s`},
			{"1h", `(30\.000|29\.\d{3})s`}, // never longer than the route
			{"1000000000000000000000", `(30\.000|29\.\d{3})`},
			{"soon", "soon"}, {"1e3", "1e3"}, {"1.2.3", `1\.2\.3`}, {".5", `\.5`}, {"5 s", "5 s"}, {"NaN", "NaN"}, {"--1", "--1"}, {"1_0", "1_0"},
			{"+1", `\+1`}, {"0x10", "0x10"}, {"ms", "ms"}, {"-", "-"},
		} {
			line := strings.ToLower(header) + ": " + c.in + "\r\n"
			if c.in == "" {
				line = ""
			}
			r.asked(t, "/", line).ok()
			if got := ep.last(t).get(header); !regexp.MustCompile("^(" + c.out + ")$").MatchString(got) {
				t.Errorf("%s: %s: the endpoint gets %q, want %s", header, c.in, got, c.out)
			}
			if n := len(ep.last(t).values(header)); n != min(len(c.in), 1) {
				t.Errorf("%s: %s: the endpoint gets %d fields", header, c.in, n)
			}
		}
		before := len(ep.got())
		for _, v := range []string{"0", "-1", "0ms", "-0.5s", "0.0"} {
			cl := r.asked(t, "/", header+": "+v+"\r\n")
			cl.late()
			cl.send(getting("/", "")) // the connection stays
			cl.ok()
		}
		if n := len(ep.got()) - before; n != 5 {
			t.Errorf("the endpoint got %d requests, want those with time", n)
		}
	}
	// Another name, or none: nothing is read and nothing changed.
	for _, header := range []string{"X-Budget", ""} {
		r := timed(t, ep, header, 30*time.Second)
		r.asked(t, "/", "X-Request-Timeout: 0\r\n").ok()
		if got := ep.last(t).get("X-Request-Timeout"); got != "0" {
			t.Errorf("header %q: the endpoint gets %q", header, got)
		}
	}
}

// TestEdgeTimeoutFieldEnds: the time that the client gives ends the request, and is no fault of the endpoint's.
func TestEdgeTimeoutFieldEnds(t *testing.T) {
	ep, _ := reluctant(t)
	r := timed(t, ep, "X-Request-Timeout", 30*time.Second)
	began := time.Now()
	r.asked(t, "/", "X-Request-Timeout: 200ms\r\n").late()
	if d := time.Since(began); d < 150*time.Millisecond || d > time.Second {
		t.Errorf("it ended after %v", d)
	}
	m := r.metrics(t)
	if sum(m, "weir_attempts_total", `outcome="timeout"`) != 0 || sum(m, "weir_attempts_total", `outcome="canceled"`) != 1 {
		t.Errorf("attempts %v", m)
	}
}

// TestEdgeTimeoutOfEvents: the time of a request ends with the head where the answer is an event stream, and else with
// its last byte.
func TestEdgeTimeoutOfEvents(t *testing.T) {
	alongside(t)
	for kind, whole := range map[string]bool{"text/event-stream": true, "Text/Event-Stream ; charset=utf-8": true, "text/event-streams": false, "application/json": false} {
		ep := newEndpoint(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				s.send("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nTransfer-Encoding: chunked\r\n\r\n")
				for range 8 {
					s.send("9\r\ndata: x\n\n\r\n")
					time.Sleep(100 * time.Millisecond)
				}
				s.send("0\r\n\r\n")
			}
		})
		r := timed(t, ep, "X-Request-Timeout", 300*time.Millisecond)
		for _, lines := range []string{"", "X-Request-Timeout: 200ms\r\n"} {
			m, _, err := r.asked(t, "/", lines).readResponse("GET")
			if (err == nil) != whole || m == nil || m.status() != 200 {
				t.Errorf("%s: %+v, %v; want all of it: %v", kind, m, err, whole)
			}
		}
		if n := sum(r.metrics(t), "weir_attempts_total", `outcome="timeout"`); whole && n != 0 {
			t.Errorf("%s: %v attempts timed out", kind, n)
		}
	}
}

// TestEdgeTimeoutFieldRetry: an attempt later is told how much less time is left, also where the body is sent again
// from the buffer of the first, and also behind a queue.
func TestEdgeTimeoutFieldRetry(t *testing.T) {
	for _, body := range []string{"small", strings.Repeat("large body ", 4000)} {
		var mu sync.Mutex
		var told []string
		ep := newEndpoint(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				mu.Lock()
				told = append(told, m.get("X-Request-Timeout"))
				n := len(told)
				mu.Unlock()
				if string(m.body) != body {
					t.Errorf("attempt %d: a body of %d bytes, want %d", n, len(m.body), len(body))
				}
				if n < 3 {
					time.Sleep(150 * time.Millisecond)
					return
				}
				s.send(okResponse)
			}
		})
		r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
			cfg.Routes[0].Timeouts.Header = "X-Request-Timeout"
			cfg.Routes[0].Retry = config.Retry{Attempts: 3, On: []string{config.RetryReset}, Idempotent: config.IdempotentAlways, BudgetPercent: 100}
		})
		cl := r.dial(t)
		cl.send("POST / HTTP/1.1\r\nHost: h\r\nX-Request-Timeout: 10.1\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
		if m := cl.answer("POST"); m.status() != 200 {
			t.Fatalf("answer %q %s", m.start, m.body)
		}
		last := 10.1
		for i, v := range told {
			left, err := strconv.ParseFloat(v, 64)
			if lost := last - left; err != nil || i == 0 && (lost < 0 || lost > 1) || i > 0 && (lost < 0.149 || lost > 1.5) {
				t.Errorf("attempt %d is told %q, the one before %.3f", i+1, v, last)
			}
			last = left
		}
		if len(told) != 3 {
			t.Errorf("%d attempts", len(told))
		}
	}
}

// TestEdgeTimeoutFieldQueue: time spent in the pool's queue, after the head was built, is taken off.
func TestEdgeTimeoutFieldQueue(t *testing.T) {
	ep, turns := reluctant(t)
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Timeouts.Header = "X-Request-Timeout"
		cfg.Pools[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 1}}
	})
	first := r.asked(t, "/", "")
	eventually(t, "the first request", func() bool { return len(ep.got()) == 1 })
	second := r.asked(t, "/", "X-Request-Timeout: 10100ms\r\n")
	eventually(t, "the second in the queue", func() bool { p, _ := r.Pool("blue"); return p.Concurrency.Queued == 1 })
	time.Sleep(200 * time.Millisecond)
	r.asked(t, "/", "").shed("at this variant")
	turns <- struct{}{}
	turns <- struct{}{}
	first.ok()
	second.ok()
	ms, err := strconv.Atoi(strings.TrimSuffix(ep.last(t).get("X-Request-Timeout"), "ms"))
	if err != nil || ms > 9900 || ms < 8000 {
		t.Errorf("the endpoint is told %q", ep.last(t).get("X-Request-Timeout"))
	}
}
