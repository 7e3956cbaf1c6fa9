package proxy_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// hedge has the only route hedge like that.
func hedge(h config.Hedge) func(*config.Config) {
	return func(c *config.Config) { c.Routes[0].Hedge = &h }
}

// slowFirst is a pair of endpoints of which each answers every request with its name, the first after so long.
func slowFirst(t *testing.T, latency time.Duration) (slow, fast *backendtest.Server) {
	t.Helper()
	return backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("slow"), Latency: latency}),
		backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("fast")})
}

// TestEdgeHedge: who answers first is delivered, and the loser is cancelled.
func TestEdgeHedge(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 7_000)
	for _, c := range []struct{ name, request string }{
		{"GET", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"small", post("/predict", "x", false)},
		{"large", post("/predict", large, false)},
		{"chunks", post("/predict", large, true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			slow, fast := slowFirst(t, 20*time.Second)
			r := start(t, setup{endpoints: []string{slow.Addr(), fast.Addr()}, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), pool: "outlier: off\n", options: oneLoop})
			cl := r.dial(t)
			for range 6 {
				cl.send(c.request)
				if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "fast" {
					t.Fatalf("%s %q", m.start, m.body)
				}
			}
			eventually(t, "the slow endpoint's requests are cancelled", func() bool { return slow.Counts().Canceled == slow.Counts().Requests })
			if n := slow.Counts().Requests; n == 0 {
				t.Error("the slow endpoint was never asked")
			}
			for _, q := range fast.Requests() {
				if q.Method == "POST" && q.BodySum != digest("x") && q.BodySum != digest(large) {
					t.Errorf("a body of %d bytes arrived that nobody sent", q.BodyBytes)
				}
			}
			p, _ := r.Pool("blue")
			for _, e := range p.Endpoints {
				if e.Inflight != 0 || e.Errors != 0 {
					t.Errorf("%s has %d requests in flight at the end and %d errors", e.Address, e.Inflight, e.Errors)
				}
			}
			// On a busy machine an attempt is cancelled before it has come to the slow endpoint, and the fast one is hedged.
			m, asked := r.metrics(t), float64(slow.Counts().Requests)
			won, all := sum(m, "weir_hedges_total", `outcome="won"`), sum(m, "weir_hedges_total")
			if won == 0 || asked > all || all > 6 {
				t.Errorf("%v hedges of 6 requests, of which %v won; the slow endpoint had %v requests", all, won, asked)
			}
		})
	}
}

// TestEdgeHedgeLoses: the first attempt answers while the second is under way.
func TestEdgeHedgeLoses(t *testing.T) {
	first := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("first"), Latency: 150 * time.Millisecond})
	second := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	r := start(t, setup{endpoints: []string{first.Addr(), second.Addr()}, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), pool: "outlier: off\n", options: oneLoop})
	cl := r.dial(t)
	for range 4 {
		cl.send(post("/predict", "x", false))
		if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "first" {
			t.Fatalf("%s %q", m.start, m.body)
		}
	}
	eventually(t, "the second endpoint's requests are cancelled", func() bool { return second.Counts().Canceled == second.Counts().Requests })
	m := r.metrics(t)
	if won, lost := sum(m, "weir_hedges_total", `outcome="won"`), sum(m, "weir_hedges_total", `outcome="lost"`); won+lost != 4 || won == 4 || lost == 0 {
		t.Errorf("%v hedges won and %v lost", won, lost)
	}
}

// TestEdgeHedgeFails: one of the attempts ends without an answer; the other's counts.
func TestEdgeHedgeFails(t *testing.T) {
	for _, fault := range []backendtest.Fault{backendtest.FaultResetBeforeHead, backendtest.FaultCloseBeforeHead} {
		// The sick one fails after the hedge began, as the first attempt or as the second.
		sick := newEndpoint(t, func(s *served) {
			s.request()
			time.Sleep(60 * time.Millisecond)
			if fault == backendtest.FaultResetBeforeHead {
				_ = s.Conn.(*net.TCPConn).SetLinger(0)
			}
		})
		well := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("well"), Latency: 150 * time.Millisecond})
		r := start(t, setup{endpoints: []string{sick.addr, well.Addr()}, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), route: "retry: off\n", pool: "outlier: off\n", options: oneLoop})
		for range 4 {
			cl := r.dial(t)
			cl.send(post("/predict", "x", false))
			if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "well" {
				t.Errorf("%s %q", m.start, m.body)
			}
		}
		if m := r.metrics(t); sum(m, "weir_hedges_total") != 4 {
			t.Errorf("%v hedges, want 4", sum(m, "weir_hedges_total"))
		}
	}
}

// TestEdgeHedgeBothFail: then the first attempt's failure is the request's, and retries go on as without hedges.
func TestEdgeHedgeBothFail(t *testing.T) {
	var asked atomic.Int64
	dies := func(s *served) {
		s.request()
		asked.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
	a, b := newEndpoint(t, dies), newEndpoint(t, dies)
	r := start(t, setup{endpoints: []string{a.addr, b.addr}, change: hedge(config.Hedge{Delay: 10 * time.Millisecond, BudgetPercent: 100}), route: "retry: {attempts: 2}\n", pool: "outlier: off\n"})
	cl := r.dial(t)
	cl.send(post("/predict", "x", false))
	if m := cl.answer("POST"); m.status() != 502 {
		t.Errorf("%s %s", m.start, m.body)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d attempts, want 2 at once and a retry", n)
	}
}

// TestEdgeHedgeClientGone: both attempts end when the client leaves, and at the end of the request's time.
func TestEdgeHedgeClientGone(t *testing.T) {
	a := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	b := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, change: hedge(config.Hedge{Delay: 10 * time.Millisecond, BudgetPercent: 100}), route: "timeouts: {total: 1s}\n", pool: "outlier: off\n"})
	aborted := func(n int64) func() bool {
		return func() bool {
			return a.Counts().Canceled+b.Counts().Canceled == n && a.Counts().Requests+b.Counts().Requests == n
		}
	}
	cl := r.dial(t)
	cl.send(post("/predict", "x", false))
	eventually(t, "both endpoints are asked", func() bool { return a.Counts().Requests+b.Counts().Requests == 2 })
	_ = cl.Close()
	eventually(t, "both attempts are cancelled", aborted(2))
	cl = r.dial(t)
	cl.send(post("/predict", "x", false))
	if m := cl.answer("POST"); m.status() != 504 {
		t.Errorf("%s %s", m.start, m.body)
	}
	eventually(t, "both attempts are cancelled", aborted(4))
}

// TestEdgeHedgeOnlyWhereSafe: a request that may change something is not sent twice, and one endpoint is never
// asked twice at once.
func TestEdgeHedgeOnlyWhereSafe(t *testing.T) {
	one := backendtest.NewServer(t, backendtest.Behaviour{Latency: 100 * time.Millisecond})
	two := backendtest.NewServer(t, backendtest.Behaviour{Latency: 100 * time.Millisecond})
	both := []string{one.Addr(), two.Addr()}
	for _, c := range []struct {
		request   string
		endpoints []string
	}{{post("/x", "x", false), both}, {"DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n", both}, {post("/predict", "x", false), both[:1]}} {
		r := start(t, setup{endpoints: c.endpoints, change: hedge(config.Hedge{Delay: 1 * time.Millisecond, BudgetPercent: 100})})
		cl := r.dial(t)
		cl.send(c.request)
		if m := cl.answer("POST"); m.status() != 200 {
			t.Errorf("%s", m.start)
		}
		if n := sum(r.metrics(t), "weir_hedges_total"); n != 0 {
			t.Errorf("%.10q to %d endpoints was hedged", c.request, len(c.endpoints))
		}
	}
}

// TestEdgeHedgeBudget: hedges stay within their budget when every attempt is slow.
func TestEdgeHedgeBudget(t *testing.T) {
	a := backendtest.NewServer(t, backendtest.Behaviour{Latency: 10 * time.Millisecond})
	b := backendtest.NewServer(t, backendtest.Behaviour{Latency: 10 * time.Millisecond})
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, change: hedge(config.Hedge{Delay: 1 * time.Millisecond, BudgetPercent: 10})})
	const clients, each = 10, 20
	done := make(chan string)
	for range clients {
		go func() {
			cl := r.dial(t)
			for range each {
				cl.send(post("/predict", "x", false))
				if m := cl.answer("POST"); m.status() != 200 {
					done <- m.start
					return
				}
			}
			done <- ""
		}()
	}
	for range clients {
		if s := <-done; s != "" {
			t.Error(s)
		}
	}
	m := r.metrics(t)
	hedges, refused := sum(m, "weir_hedges_total"), sum(m, "weir_hedge_budget_exhausted_total")
	if hedges < 10 || hedges > clients*each/10 || refused == 0 {
		t.Errorf("%v hedges of %d requests and %v refused, with a budget of a tenth or 10", hedges, clients*each, refused)
	}
}

// TestEdgeHedgePercentile: without a fixed delay, the slowest few are hedged once enough is known.
func TestEdgeHedgePercentile(t *testing.T) {
	var slow sync.Map // the paths of which a copy has come: the first is slow, wherever it goes
	respond := func(q *backendtest.Request) backendtest.Behaviour {
		latency := 5 * time.Millisecond
		if strings.HasPrefix(q.Target, "/slow/") {
			if _, second := slow.LoadOrStore(q.Target, true); !second {
				latency = 2 * time.Second
			}
		}
		return backendtest.Behaviour{Latency: latency}
	}
	var endpoints []string
	for range 2 {
		endpoints = append(endpoints, backendtest.NewServer(t, backendtest.Behaviour{Respond: respond}).Addr())
	}
	r := start(t, setup{endpoints: endpoints, change: hedge(config.Hedge{Percentile: 90, BudgetPercent: 50})})
	cl := r.dial(t)
	_ = cl.SetDeadline(time.Now().Add(12 * patience))
	ask := func(i int) {
		path := "/predict"
		if i%50 == 49 {
			path = fmt.Sprint("/slow/", i)
		}
		cl.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if m := cl.answer("GET"); m.status() != 200 {
			t.Fatal(m.start)
		}
	}
	for i := range 90 { // a percentile is taken of 100
		ask(i)
	}
	time.Sleep(1200 * time.Millisecond) // each second
	if n := sum(r.metrics(t), "weir_hedges_total"); n != 0 {
		t.Errorf("%v hedges before there was a percentile", n)
	}
	won := func() float64 { return sum(r.metrics(t), "weir_hedges_total", `outcome="won"`) }
	for i := 90; won() < 3; {
		if i >= 1000 {
			t.Fatalf("%v hedges won, with %d slow requests", won(), i/50)
		}
		for range 50 {
			ask(i)
			i++
		}
	}
}

// TestEdgeHedgeOverAConnectionThatEnds: an endpoint that ends a kept-alive connection just as a hedge arrives has not
// failed, no more than if that were a first attempt.
func TestEdgeHedgeOverAConnectionThatEnds(t *testing.T) {
	slow := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			time.Sleep(150 * time.Millisecond)
			s.send(okResponse)
		}
	})
	ends := newEndpoint(t, func(s *served) {
		s.request()
		s.send(okResponse)
		s.br.Peek(1) // the next request has arrived
	})
	r := start(t, setup{endpoints: []string{slow.addr, ends.addr}, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), route: "retry: off\n", pool: "outlier: off\n", options: oneLoop})
	cl := r.dial(t)
	for range 8 {
		cl.send(post("/predict", "x", false))
		if m := cl.answer("POST"); m.status() != 200 {
			t.Fatalf("%s %s", m.start, m.body)
		}
	}
	m := r.metrics(t)
	if sum(m, "weir_hedges_total", `outcome="failed"`) == 0 {
		t.Error("no hedge met the end of a connection: this tests nothing")
	}
	if n := sum(m, "weir_attempts_total", `outcome="reset"`); n != 0 {
		t.Errorf("%v attempts count as resets", n)
	}
}
