package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// held answers nothing until the test lets it.
type held struct {
	b       backendtest.Behaviour // after that
	release chan struct{}
}

func newHeld(b backendtest.Behaviour) *held { return &held{b, make(chan struct{})} }

// wait is a latency. It ends with the patience of a test that has failed, whose servers would never stop.
func (h *held) wait() time.Duration {
	select {
	case <-h.release:
	case <-time.After(patience):
	}
	return 0
}

func (h *held) behaviour() backendtest.Behaviour {
	return backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour {
		b := h.b
		b.LatencyFunc = h.wait
		return b
	}}
}

// crowd sends the same request n times at once, and returns the connections.
func (r *running) crowd(t *testing.T, n int, request string) (all []*client) {
	t.Helper()
	for range n {
		c := r.dial(t)
		all = append(all, c)
	}
	for _, c := range all {
		c.send(request)
	}
	return all
}

// settle waits until the endpoint has so many requests, and the others are inside weir.
func (r *running) settle(t *testing.T, s *backendtest.Server, requests int64) {
	t.Helper()
	s.Await("requests", func(n backendtest.Counts) bool { return n.Requests >= requests })
	time.Sleep(200 * time.Millisecond) // the others are in weir by now, wherever that leaves them
}

const getX = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"

// TestEdgeCacheCoalesces: of 100 equal requests at once, one reaches the endpoint.
func TestEdgeCacheCoalesces(t *testing.T) {
	for name, request := range map[string]string{"GET": getX, "POST": post("/predict", strings.Repeat("x", 1000), false)} {
		for _, size := range []int64{10, 300_000} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				h := newHeld(backendtest.Behaviour{BodySize: size})
				s := backendtest.NewServer(t, h.behaviour())
				r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
				all := r.crowd(t, 100, request)
				r.settle(t, s, 1)
				close(h.release)
				got := map[string]int{}
				for _, c := range all {
					m := c.answer(name)
					if m.status() != 200 || m.size != size {
						t.Fatalf("%s, %d bytes", m.start, m.size)
					}
					got[m.get("X-Weir-Cache")]++
				}
				if got["miss"] != 1 || got["coalesced"]+got["hit"] != 99 || got["coalesced"] < 50 {
					t.Errorf("answers %v", got)
				}
				if n := s.Counts().Requests; n != 1 {
					t.Errorf("%d requests reached the endpoint", n)
				}
			})
		}
	}
}

// TestEdgeCacheAlone: who has waited for an answer that turns out not to be kept asks for itself, as soon as that
// is known; and the next ones do not wait.
func TestEdgeCacheAlone(t *testing.T) {
	no := []backendtest.Field{{Name: "Cache-Control", Value: "no-store"}}
	for name, b := range map[string]backendtest.Behaviour{
		"no-store":  {Header: no, Body: []byte("x")},
		"5xx":       {Status: 500, Body: []byte("x")},
		"too large": {BodySize: 2 << 20, Chunked: true},
		"endless":   {Header: no, BodySize: 100_000, Fault: backendtest.FaultHangMidBody, FaultAfter: 100},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeld(b)
			s := backendtest.NewServer(t, h.behaviour())
			r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache()), pool: "outlier: off\n", route: "retry: off\n"})
			all := r.crowd(t, 10, getX)
			r.settle(t, s, 1)
			if n := s.Counts().Requests; n != 1 {
				t.Fatalf("%d requests reached the endpoint at once", n)
			}
			close(h.release)
			s.Await("a request of each", func(n backendtest.Counts) bool { return n.Requests == 10 })
			if name == "endless" {
				return
			}
			for _, c := range all {
				if m := c.answer("GET"); m.get("X-Weir-Cache") != "miss" {
					t.Errorf("%s %v", m.start, m.fields)
				}
			}
			if name == "5xx" {
				return
			}
			h.release = make(chan struct{})
			all = r.crowd(t, 10, getX)
			s.Await("a request of each", func(n backendtest.Counts) bool { return n.Requests == 20 })
			close(h.release)
			for _, c := range all {
				c.answer("GET")
			}
		})
	}
}

// TestEdgeCacheVaryWaits: who waits for an answer that turns out to be another one's gets its own.
func TestEdgeCacheVaryWaits(t *testing.T) {
	h := newHeld(backendtest.Behaviour{})
	s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
		return backendtest.Behaviour{
			Header: []backendtest.Field{{Name: "Vary", Value: "X-Lang"}}, Body: []byte(q.Get("X-Lang")),
			LatencyFunc: h.wait,
		}
	}})
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	all := map[*client]string{}
	for i := range 60 {
		lang := fmt.Sprint("l", i%3)
		for _, c := range r.crowd(t, 1, "GET /x HTTP/1.1\r\nHost: h\r\nX-Lang: "+lang+"\r\n\r\n") {
			all[c] = lang
		}
	}
	r.settle(t, s, 1)
	close(h.release)
	for c, lang := range all {
		if m := c.answer("GET"); string(m.body) != lang {
			t.Errorf("%q instead of %q", m.body, lang)
		}
	}
	if n := s.Counts().Requests; n != 3 {
		t.Errorf("%d requests reached the endpoint, want one for each of 3", n)
	}
}

// TestEdgeCacheLeaderLeaves: who waited for a client that has gone is none the worse for it.
func TestEdgeCacheLeaderLeaves(t *testing.T) {
	h := newHeld(backendtest.Behaviour{Body: []byte("x")})
	s := backendtest.NewServer(t, h.behaviour())
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	leader := r.dial(t)
	leader.send(getX)
	s.Await("the leader", func(n backendtest.Counts) bool { return n.Requests == 1 })
	all := r.crowd(t, 20, getX)
	r.settle(t, s, 1)
	_ = leader.Close()
	s.Await("another leader", func(n backendtest.Counts) bool { return n.Requests >= 2 })
	_ = all[0].Close() // it may lead by now, or wait
	time.Sleep(3 * 100 * time.Millisecond)
	close(h.release)
	for _, c := range all[1:] {
		if m := c.answer("GET"); m.status() != 200 || string(m.body) != "x" {
			t.Errorf("%s %q", m.start, m.body)
		}
	}
	if n := s.Counts().Requests; n > 3 {
		t.Errorf("%d requests reached the endpoint", n)
	}
	if st, _ := r.Pool("blue"); st.Inflight != 0 {
		t.Errorf("%d attempts under way at the end", st.Inflight)
	}
}

// TestEdgeCacheSlowLeader: a client that does not read its answer holds nobody up for long.
func TestEdgeCacheSlowLeader(t *testing.T) {
	alongside(t)
	h := newHeld(backendtest.Behaviour{BodySize: 16 << 20})
	s := backendtest.NewServer(t, h.behaviour())
	cfg := aCache()
	cfg.MaxBytes, cfg.MaxObject = 100<<20, 40<<20
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg)})
	leader := r.dial(t)
	leader.send(getX)
	s.Await("the leader", func(n backendtest.Counts) bool { return n.Requests == 1 })
	all := r.crowd(t, 3, getX) // no more: each gets 16 MiB within the time that a client waits at most, also under the race detector
	r.settle(t, s, 1)
	close(h.release)
	before := time.Now()
	var reading sync.WaitGroup
	for _, c := range all {
		reading.Go(func() {
			if m := c.answer("GET"); m.size != 16<<20 {
				t.Errorf("%s, %d bytes", m.start, m.size)
			}
		})
	}
	reading.Wait()
	if d := time.Since(before); d < 900*time.Millisecond {
		t.Errorf("the others got their answer after %v: they did not wait for the leader", d)
	}
	if n := s.Counts().Requests; n < 2 || n > 4 {
		t.Errorf("%d requests reached the endpoint", n)
	}
}

// TestEdgeCacheWaitEnds: a wait is a part of the request: its total time and its client's end hold.
func TestEdgeCacheWaitEnds(t *testing.T) {
	h := newHeld(backendtest.Behaviour{Body: []byte("x")})
	s := backendtest.NewServer(t, h.behaviour())
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache()), route: "timeouts: {total: 1s}\nretry: off\n"})
	all := r.crowd(t, 10, getX)
	r.settle(t, s, 1)
	_ = all[9].Close()
	for _, c := range all[:9] {
		if m := c.answer("GET"); m.status() != 504 {
			t.Errorf("%s", m.start)
		}
	}
	close(h.release)
	eventually(t, "the client that left", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
}

// staleSetup gives up on endpoints soon, and takes none from traffic.
func staleSetup(c *config.Cache, s *backendtest.Server) setup {
	return setup{endpoints: []string{s.Addr()}, change: cachedBy(c), pool: "outlier: off\n", route: "timeouts: {total: 2s, attempt: 300ms}\nretry: {backoff: 0s}\n"}
}

// TestEdgeCacheStaleIfError: while endpoints fail, a stale answer is better than none.
func TestEdgeCacheStaleIfError(t *testing.T) {
	alongside(t)
	for name, b := range map[string]backendtest.Behaviour{
		"503":          {Status: 503, Body: []byte("busy")},
		"reset":        {Fault: backendtest.FaultResetBeforeHead},
		"closed":       {Fault: backendtest.FaultCloseBeforeHead},
		"hangs":        {Fault: backendtest.FaultHangBeforeHead},
		"no HTTP":      {Raw: []byte("SSH-2.0\r\n\r\n")},
		"stopped":      {},
		"drained":      {},
		"404":          {Status: 404, Body: []byte("no")},
		"cut":          {BodySize: 1000, Fault: backendtest.FaultResetMidBody, FaultAfter: 10},
		"revalidate":   {Status: 503},
		"proxy":        {Status: 503},
		"too old":      {Status: 503},
		"says so":      {Status: 503},
		"over, 501":    {Status: 501},
		"all at once":  {Status: 503},
		"POST stopped": {},
	} {
		t.Run(name, func(t *testing.T) {
			control := map[string]string{"revalidate": "max-age=0, must-revalidate", "proxy": "s-maxage=0", "says so": "max-age=0, stale-if-error=0"}[name]
			good := backendtest.Behaviour{Body: []byte("good")}
			if control != "" {
				good.Header = []backendtest.Field{{Name: "Cache-Control", Value: control}}
			}
			s := backendtest.NewServer(t, good)
			cfg := aCache()
			cfg.TTL = []config.StatusTTL{{Status: 200, TTL: time.Millisecond}}
			cfg.StaleIfError = time.Minute
			if name == "too old" {
				cfg.StaleIfError = 50 * time.Millisecond
			}
			r := start(t, staleSetup(cfg, s))
			request := getX
			if name == "POST stopped" {
				request = post("/predict", "x", false)
			}
			ask := func() *message {
				c := r.dial(t)
				c.send(request)
				m, _, err := c.readResponse("GET")
				if err != nil && name != "cut" {
					t.Fatal(err)
				}
				return m
			}
			was(t, ask(), "miss", "good")
			time.Sleep(70 * time.Millisecond)
			was(t, ask(), "miss", "good")
			if time.Sleep(5 * time.Millisecond); name == "too old" {
				time.Sleep(70 * time.Millisecond)
			}
			switch s.SetBehaviour(b); name {
			case "stopped", "POST stopped":
				s.Stop()
			case "drained":
				drainAll(t, r)
			}
			m := ask()
			switch name {
			case "revalidate", "proxy", "too old", "says so", "over, 501", "404":
				if m.status() != max(b.Status, 404) || m.get("X-Weir-Cache") != "miss" {
					t.Errorf("%s %v", m.start, m.fields)
				}
			case "cut":
				if m.get("X-Weir-Cache") != "miss" || string(m.body) == "good" {
					t.Errorf("%s %v", m.start, m.fields)
				}
			default:
				was(t, m, "stale", "good")
			}
			if name == "404" { // what was kept is no longer true
				s.SetBehaviour(backendtest.Behaviour{Status: 503})
				if m := ask(); m.status() != 503 {
					t.Errorf("%s after 404", m.start)
				}
			}
			if name == "all at once" {
				for _, c := range r.crowd(t, 20, getX) {
					was(t, c.answer("GET"), "stale", "good")
				}
			}
			st, _ := r.Pool("blue")
			if eventually(t, "the end of attempts", func() bool { st, _ = r.Pool("blue"); return st.Inflight == 0 }); name == "503" && st.Endpoints[0].Errors == 0 {
				t.Error("the endpoint's failures were not counted")
			}
		})
	}
}

// TestEdgeCacheRefresh: a stale answer goes out at once, and a new one is fetched, once.
func TestEdgeCacheRefresh(t *testing.T) {
	for name, request := range map[string]string{"GET": "GET /x HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"other\"\r\n\r\n", "POST": post("/predict", "x", false)} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			h := newHeld(backendtest.Behaviour{})
			s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour {
				k := n.Add(1)
				b := backendtest.Behaviour{Body: []byte(fmt.Sprint("answer ", k)), Chunked: true, Header: []backendtest.Field{{Name: "Cache-Control", Value: "max-age=60"}, {Name: "X-Own", Value: "1"}}}
				if k == 1 {
					b.Header = []backendtest.Field{{Name: "Cache-Control", Value: "max-age=0"}}
				} else {
					b.LatencyFunc = h.wait
				}
				return b
			}})
			cfg := aCache()
			cfg.StaleWhileRevalidate = time.Minute
			r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg)})
			c := r.dial(t)
			ask := func() *message { c.send(request); return c.answer(name) }
			was(t, ask(), "miss", "answer 1")
			for range 10 {
				was(t, ask(), "stale", "answer 1")
			}
			eventually(t, "the refresh", func() bool { return len(s.Requests()) == 2 })
			if q := s.Requests(); q[1].Method != name || q[1].Get("If-None-Match") != "" || name == "POST" && string(q[1].Body) != "x" {
				t.Errorf("the refresh asked %s %v %q", q[1].Method, q[1].Header, q[1].Body)
			}
			if st, _ := r.Pool("blue"); st.Inflight != 1 {
				t.Errorf("%d attempts under way, want the refresh", st.Inflight)
			}
			close(h.release)
			var m *message
			eventually(t, "the new answer", func() bool { m = ask(); return m.get("X-Weir-Cache") == "hit" })
			if was(t, m, "hit", "answer 2"); m.get("X-Own") != "1" || m.get("Content-Length") != "8" {
				t.Errorf("%v", m.fields)
			}
			eventually(t, "the figures", func() bool { return sum(r.metrics(t), "weir_cache_refreshes_total", `outcome="kept"`) == 1 })
			st, _ := r.Route("all")
			p, _ := r.Pool("blue")
			if uint64(st.Variants[0].Requests) != st.Cache.Hits+st.Cache.Stale+st.Cache.Misses || p.Inflight != 0 || p.Endpoints[0].Requests != 2 || s.Counts().Requests != 2 {
				t.Errorf("%d requests, cache %+v, %d attempts, %d under way", st.Variants[0].Requests, st.Cache, p.Endpoints[0].Requests, p.Inflight)
			}
		})
	}
}

// TestEdgeCacheRefreshFails: the stale answer stays, and the endpoint is not asked for each request.
func TestEdgeCacheRefreshFails(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("good"), Header: []backendtest.Field{{Name: "Cache-Control", Value: "max-age=0"}}})
	cfg := aCache()
	cfg.StaleWhileRevalidate = time.Minute
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg), pool: "outlier: off\n"})
	c := r.dial(t)
	was(t, c.get("/x"), "miss", "good")
	s.SetBehaviour(backendtest.Behaviour{Status: 500})
	for range 50 {
		was(t, c.get("/x"), "stale", "good")
		time.Sleep(time.Millisecond)
	}
	if n := s.Counts().Requests; n < 2 || n > 3 {
		t.Errorf("%d requests reached the endpoint", n)
	}
	s.SetBehaviour(backendtest.Behaviour{Status: 410, Body: []byte("gone")}) // no failure: there is no such thing any more
	eventually(t, "the new answer", func() bool { return c.get("/x").status() == 410 })
}

// drainAll takes the only pool from traffic.
func drainAll(t testing.TB, r *running) {
	t.Helper()
	if _, err := r.Update(proxy.Update{Kind: state.KindDrain, Drains: []state.DrainChange{{Pool: "blue", Draining: true}}, Force: true}); err != nil {
		t.Fatal(err)
	}
}
