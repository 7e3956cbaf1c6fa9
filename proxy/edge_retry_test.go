package proxy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// post is a request with a body, in one piece or in chunks.
func post(target, body string, chunked bool) string {
	if !chunked {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n", target)
	for len(body) > 0 {
		n := min(len(body), 7001)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\nX-Sum: 42\r\n\r\n")
	return b.String()
}

func digest(body string) string {
	d := sha256.Sum256([]byte(body))
	return hex.EncodeToString(d[:])
}

// sick is an endpoint that fails each request as b says, well one that answers "well".
func sickAndWell(t *testing.T, b backendtest.Behaviour) (sick, well *backendtest.Server) {
	t.Helper()
	return backendtest.NewServer(t, b), backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("well")})
}

// TestEdgeRetry: what is sent again to the other endpoint, and what is not.
func TestEdgeRetry(t *testing.T) {
	alongside(t)
	reset, hang := backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead}, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead}
	closes := backendtest.Behaviour{Fault: backendtest.FaultCloseBeforeHead}
	garbage := backendtest.Behaviour{Raw: []byte("SSH-2.0-OpenSSH\r\n")}
	busy := backendtest.Behaviour{Status: 503, Body: []byte("busy")}
	large, huge := strings.Repeat("0123456789abcdef", 7_000), strings.Repeat("0123456789abcdef", 70_000)
	get := "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct {
		name, retry string
		sick        backendtest.Behaviour
		request     string
		status      int // where the sick endpoint is asked first
	}{
		{"GET, reset", "", reset, get, 200},
		{"GET, closed", "", closes, get, 200},
		{"predict, reset", "", reset, post("/v1/predict", "x", false), 200},
		{"infer, reset", "", reset, post("/v2/models/m/infer", "x", false), 200},
		{"POST, reset", "", reset, post("/x", "x", false), 502},
		{"POST, reset, always", "{idempotent: always}", reset, post("/x", "x", false), 200},
		{"predict, reset, never", "{idempotent: never}", reset, post("/predict", "x", false), 502},
		{"predict, reset, off", "off", reset, post("/predict", "x", false), 502},
		{"predict, reset, only connect", "{on: [connect]}", reset, post("/predict", "x", false), 502},
		{"large predict, reset", "", reset, post("/predict", large, false), 200},
		{"large predict in chunks, reset", "", reset, post("/predict", large, true), 200},
		{"small predict in chunks, reset", "", reset, post("/predict", "x", true), 200},
		{"huge predict, reset", "", reset, post("/predict", huge, false), 502},
		{"huge predict in chunks, reset", "", reset, post("/predict", huge, true), 502},
		{"GET, status", "{on: [\"503\"]}", busy, get, 200},
		{"predict, status", "{on: [5xx]}", busy, post("/predict", large, false), 200},
		{"predict, status, not asked for", "", busy, post("/predict", "x", false), 503},
		{"POST, status", "{on: [5xx]}", busy, post("/x", "x", false), 503},
		{"GET, timeout", "{on: [timeout]}", hang, get, 200},
		{"GET, timeout, not asked for", "", hang, get, 504},
		{"GET, not HTTP", "{on: [protocol]}", garbage, get, 200},
		{"predict, not HTTP", "{on: [protocol]}", garbage, post("/predict", large, false), 200},
		{"GET, not HTTP, not asked for", "", garbage, get, 502},
		{"predict, timeout", "{on: [timeout]}", hang, post("/predict", large, true), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			sick, well := sickAndWell(t, c.sick)
			route := "timeouts: {total: 10s, attempt: 300ms}\n"
			if c.retry != "" {
				route += "retry: " + c.retry + "\n"
			}
			r := start(t, setup{endpoints: []string{sick.Addr(), well.Addr()}, route: route, options: oneLoop, pool: "outlier: off\n"})
			seen := map[int]int{}
			for range 4 {
				cl := r.dial(t)
				cl.send(c.request)
				m := cl.answer("POST")
				seen[m.status()]++
				if m.status() == 200 && string(m.body) != "well" {
					t.Errorf("body %q", m.body)
				}
			}
			if c.status == 200 {
				if seen[200] != 4 {
					t.Errorf("answers %v, want 200 four times", seen)
				}
			} else if seen[200] != 2 || seen[c.status] != 2 {
				t.Errorf("answers %v, want 200 and %d, as the endpoints take turns", seen, c.status)
			}
			if n := sick.Counts().Requests; n == 0 {
				t.Error("the sick endpoint was never asked")
			}
			for _, q := range well.Requests() {
				if q.Method == "POST" && q.BodySum != digest("x") && q.BodySum != digest(large) && q.BodySum != digest(huge) {
					t.Errorf("a body of %d bytes arrived that nobody sent", q.BodyBytes)
				}
				if q.Chunked && (len(q.Trailer) != 1 || q.Trailer[0].Value != "42") {
					t.Errorf("trailers %v", q.Trailer)
				}
			}
			if c := append(sick.Complaints(), well.Complaints()...); len(c) > 0 {
				t.Error(c)
			}
			p, _ := r.Pool("blue")
			for _, e := range p.Endpoints {
				if e.Inflight != 0 {
					t.Errorf("%s has %d requests in flight at the end", e.Address, e.Inflight)
				}
			}
		})
	}
}

// TestEdgeRetryConnect: nothing has reached an endpoint, so any request, of any size, may be sent to another.
func TestEdgeRetryConnect(t *testing.T) {
	well := backendtest.NewServer(t, backendtest.Behaviour{})
	r := start(t, setup{endpoints: []string{backendtest.Refused(t), well.Addr()}, pool: "outlier: off\n"})
	body := strings.Repeat("b", 1<<20)
	for _, request := range []string{post("/x", "small", false), post("/x", body, false), post("/x", body, true), "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n"} {
		for range 2 {
			cl := r.dial(t)
			cl.send(request)
			if m := cl.answer("POST"); m.status() != 200 {
				t.Errorf("%.20q: %s %s", request, m.start, m.body)
			}
		}
	}
}

// TestEdgeRetryLast: the answer of the last attempt is the client's, whatever it is.
func TestEdgeRetryLast(t *testing.T) {
	a := backendtest.NewServer(t, backendtest.Behaviour{Status: 503, Body: []byte("busy")})
	b := backendtest.NewServer(t, backendtest.Behaviour{Status: 503, Body: []byte("busy")})
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, route: "retry: {attempts: 3, on: [5xx], backoff: 1ms}\n", pool: "outlier: off\n"})
	cl := r.dial(t)
	if m := cl.get("/"); m.status() != 503 || string(m.body) != "busy" {
		t.Errorf("%s %q", m.start, m.body)
	}
	if n := a.Counts().Requests + b.Counts().Requests; n != 3 || a.Counts().Requests == 0 || b.Counts().Requests == 0 {
		t.Errorf("%d attempts, %d at one endpoint; want 3 at both", n, a.Counts().Requests)
	}
	if m := cl.get("/"); m.status() != 503 { // and the connection goes on
		t.Error(m.start)
	}
}

// TestEdgeRetryBudget: when everything fails, what is sent again stays a part of what comes in.
func TestEdgeRetryBudget(t *testing.T) {
	a := backendtest.NewServer(t, backendtest.Behaviour{Status: 500})
	b := backendtest.NewServer(t, backendtest.Behaviour{Status: 500})
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, route: "retry: {attempts: 5, on: [5xx], backoff: 0s, budget_percent: 10}\n", pool: "outlier: off\n"})
	cl := r.dial(t)
	const requests = 300
	for range requests {
		if m := cl.get("/"); m.status() != 500 {
			t.Fatal(m.start)
		}
	}
	extra := int(a.Counts().Requests+b.Counts().Requests) - requests
	if extra < 10 || extra > requests/10 {
		t.Errorf("%d retries of %d requests, want 10 to %d", extra, requests, requests/10)
	}
}

// TestEdgeRetryAfter: where there is no other endpoint, it is asked again when it wants to be.
func TestEdgeRetryAfter(t *testing.T) {
	for _, c := range []struct {
		after   string
		timeout string
		status  int
		atLeast time.Duration
	}{{"1", "10s", 200, time.Second}, {"30", "2s", 503, 0}, {"soon", "10s", 200, 0}} {
		var n atomic.Int32
		ep := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour {
			if n.Add(1) == 1 {
				return backendtest.Behaviour{Status: 503, Header: []backendtest.Field{{Name: "Retry-After", Value: c.after}}}
			}
			return backendtest.Behaviour{}
		}})
		r := start(t, setup{endpoints: []string{ep.Addr()}, route: "timeouts: {total: " + c.timeout + ", attempt: 1s}\nretry: {on: [\"503\"]}\n"})
		began := time.Now()
		if m := r.dial(t).get("/"); m.status() != c.status || time.Since(began) < c.atLeast {
			t.Errorf("Retry-After %s within %s: %s after %v", c.after, c.timeout, m.start, time.Since(began))
		}
	}
}

// TestEdgeRetryAfterAtAll: where every endpoint wants to be left alone for longer than there is time, the client is
// told so, once all were asked.
func TestEdgeRetryAfterAtAll(t *testing.T) {
	busy := backendtest.Behaviour{Status: 503, Body: []byte("busy"), Header: []backendtest.Field{{Name: "Retry-After", Value: "30"}}}
	a, b := backendtest.NewServer(t, busy), backendtest.NewServer(t, busy)
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, route: "timeouts: {total: 2s, attempt: 1s}\nretry: {attempts: 4, on: [\"503\"], backoff: 0s}\n", pool: "outlier: off\n"})
	const requests = 5
	for range requests {
		if m := r.dial(t).get("/"); m.status() != 503 || m.get("Retry-After") != "30" {
			t.Errorf("%s %s", m.start, m.body)
		}
	}
	if a, b := a.Counts().Requests, b.Counts().Requests; a != requests || b != requests {
		t.Errorf("%d and %d attempts of %d requests, want one each", a, b, requests)
	}
}

// TestEdgeRetryNotAfterAnInterimAnswer: the client has got something of the first attempt.
func TestEdgeRetryNotAfterAnInterimAnswer(t *testing.T) {
	sick, well := sickAndWell(t, backendtest.Behaviour{Status: 503, Interim: []backendtest.Interim{{Status: 103}}})
	r := start(t, setup{endpoints: []string{sick.Addr(), well.Addr()}, route: "retry: {on: [5xx]}\n", options: oneLoop, pool: "outlier: off\n"})
	seen := map[int]int{}
	for range 4 {
		seen[r.dial(t).get("/").status()]++
	}
	if seen[503] != 2 || seen[200] != 2 {
		t.Errorf("answers %v", seen)
	}
}

// TestEdgeRetryOfAClientThatLeft: nobody waits for another attempt.
func TestEdgeRetryOfAClientThatLeft(t *testing.T) {
	alongside(t)
	ep := backendtest.NewServer(t, backendtest.Behaviour{Status: 503, Header: []backendtest.Field{{Name: "Retry-After", Value: "2"}}})
	r := start(t, setup{endpoints: []string{ep.Addr()}, route: "retry: {on: [\"503\"]}\n"})
	cl := r.dial(t)
	cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	ep.Await("the first attempt", func(c backendtest.Counts) bool { return c.Requests == 1 })
	cl.Close()
	eventually(t, "the request ends", func() bool {
		s, _ := r.Route("all")
		return s.Variants[0].Requests == 1
	})
	time.Sleep(2500 * time.Millisecond)
	if n := ep.Counts().Requests; n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// TestEdgeRetryCounts: requests are counted once, attempts each.
func TestEdgeRetryCounts(t *testing.T) {
	sick, well := sickAndWell(t, backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead})
	r := start(t, setup{endpoints: []string{sick.Addr(), well.Addr()}, options: oneLoop, pool: "outlier: off\n"})
	for range 4 {
		r.dial(t).get("/")
	}
	s, _ := r.Route("all")
	if v := s.Variants[0]; v.Requests != 4 || v.Errors != 0 {
		t.Errorf("%+v", v)
	}
	p, _ := r.Pool("blue")
	retries := p.Endpoints[0].Errors // by turns, so that it depends on what was sent again
	if retries < 2 || p.Endpoints[1].Requests != 4 || p.Endpoints[1].Errors != 0 {
		t.Errorf("%+v", p.Endpoints)
	}
	if n := sum(r.metrics(t), "weir_retries_total", `reason="reset"`); n != float64(retries) {
		t.Errorf("weir_retries_total: %v, want %d", n, retries)
	}
}

// TestEdgeRetryOfAnEndpointThatDied: the end of a kept-alive connection is tried again at the same endpoint, and
// where nobody listens there any more, at another. The first is no attempt that counts.
func TestEdgeRetryOfAnEndpointThatDied(t *testing.T) {
	well := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("well")})
	dead := newEndpoint(t, func(s *served) {
		if s.n > 1 {
			return // refused: below
		}
		s.request()
		s.send(okResponse)
		s.br.Peek(1) // the next request has arrived
	})
	r := start(t, setup{endpoints: []string{dead.addr, well.Addr()}, options: oneLoop, pool: "outlier: off\n"})
	for range 6 {
		cl := r.dial(t)
		cl.send(post("/predict", "x", false))
		if m := cl.answer("POST"); m.status() != 200 {
			t.Errorf("%s %s", m.start, m.body)
		}
	}
}

// TestEdgeRetryPauseBlamesNobody: a request whose time is over while it waits for its next attempt is answered with
// 504, and the endpoint that it would have asked has done nothing.
func TestEdgeRetryPauseBlamesNobody(t *testing.T) {
	r := start(t, setup{endpoints: []string{backendtest.Refused(t)}, pool: "outlier: off\n",
		route: "timeouts: {total: 300ms, attempt: 200ms}\nretry: {backoff: 1m}\n"})
	cl := r.dial(t)
	cl.refused(cl.get("/"), 504, 502) // 502 where the pause happened to be short
	m := r.metrics(t)
	if n := sum(m, "weir_attempts_total", `outcome="timeout"`); n != 0 {
		t.Errorf("%v attempts are said to have timed out", n)
	}
	if n := sum(m, "weir_attempts_total", `outcome="connect"`); n < 1 {
		t.Errorf("%v attempts failed to connect", n)
	}
	if n := sum(m, "weir_endpoint_inflight"); n != 0 {
		t.Errorf("%v in flight", n)
	}
}
