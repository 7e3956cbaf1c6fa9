package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// What the parts around a request must not do to each other.

// TestEdgeStaleBehindGate: a stale answer is for those whom the gate lets in, also where the time of a request is
// over before the gate has looked at it.
func TestEdgeStaleBehindGate(t *testing.T) {
	s := backendtest.NewServer(t, counting())
	r := start(t, setup{endpoints: []string{s.Addr()}, top: "trusted_proxies: [127.0.0.0/8]\n", change: func(c *config.Config) {
		cfg := aCache()
		cfg.StaleIfError = time.Hour
		c.Routes[0].Cache = cfg
		c.Routes[0].Deny = []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")}
		c.Routes[0].Timeouts.Header = "X-Request-Timeout"
	}})
	c := r.dial(t)
	was(t, c.fetch("GET", "/x", "X-Forwarded-For: 10.1.0.1\r\n"), "miss", "answer 0")
	c.refused(c.fetch("GET", "/x", "X-Forwarded-For: 10.66.0.1\r\n"), 403)
	c.refused(c.fetch("GET", "/x", "X-Forwarded-For: 10.66.0.1\r\nX-Request-Timeout: 0\r\n"), 403, 504)
}

// TestEdgeChunkedCostWithConcurrency: what a chunked body has cost is taken from the key of the rate limit, though
// the bound on requests under way has looked at another key since.
func TestEdgeChunkedCostWithConcurrency(t *testing.T) {
	r, _ := gated(t, func(c *config.Route) {
		c.RateLimit = perMinute(60, 100)
		c.RateLimit.Source, c.RateLimit.Name, c.RateLimit.Cost = config.AffinityHeader, "x-tenant", config.CostBytes
		c.Concurrency = &config.Concurrency{Key: config.Source{Kind: config.AffinityHeader, Name: "x-tenant"}, Max: 5}
	})
	cl := r.dial(t)
	cl.send("POST /predict HTTP/1.1\r\nHost: h\r\nX-Tenant: acme\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + strings.Repeat("x", 1000) + "\r\n0\r\n\r\n")
	if m := cl.answer("POST"); m.status() != 200 {
		t.Fatal(m.start)
	}
	cl.send(withBody("X-Tenant: acme\r\n", "x"))
	cl.refused(cl.answer("POST"), 429)
}

// TestEdgePoolQueueKnowsItsTurns: a pool's bound learns how long its requests take, so that one whose turn would come
// after its deadline is refused at once.
func TestEdgePoolQueueKnowsItsTurns(t *testing.T) {
	alongside(t)
	s := backendtest.NewServer(t, backendtest.Behaviour{Latency: time.Second, BodySize: 300_000}) // in more than one write
	r := bounded(t, setup{endpoints: []string{s.Addr()}}, func(cfg *config.Config) {
		cfg.Pools[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 10}}
		cfg.Routes[0].Timeouts.Header = "X-Request-Timeout"
	})
	r.asked(t, "/a", "").ok()
	held := r.asked(t, "/b", "")
	eventually(t, "the request under way", func() bool { p, _ := r.Pool("blue"); return p.Inflight == 1 })
	r.asked(t, "/c", "X-Request-Timeout: 400ms\r\n").shed("after its deadline")
	held.ok()
}

// TestEdgeHedgeWithoutConnection: an endpoint whose connections are all in use has not failed because a hedge got none.
func TestEdgeHedgeWithoutConnection(t *testing.T) {
	ep, turns := reluctant(t)
	other, otherTurns := reluctant(t)
	r := start(t, setup{endpoints: []string{ep.addr, other.addr}, options: oneLoop, pool: "connections: {max: 1, connect_timeout: 100ms}\n",
		change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100})})
	a, b := r.asked(t, "/a", ""), r.asked(t, "/b", "")
	eventually(t, "the end of both hedges", func() bool { return sum(r.metrics(t), "weir_hedges_total", `outcome="failed"`) == 2 })
	turns <- struct{}{}
	otherTurns <- struct{}{}
	a.ok()
	b.ok()
	if n := sum(r.metrics(t), "weir_attempts_total", `outcome="connect"`); n != 0 {
		t.Errorf("%v attempts count as failures to connect", n)
	}
}

// TestEdgeRefreshHasItsOwnTime: what fetches an answer in the background is not bound by the time of the client that
// found it stale, and does not say so.
func TestEdgeRefreshHasItsOwnTime(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: func(c *config.Config) {
		c.Routes[0].Cache = aCache()
		c.Routes[0].Cache.TTL = []config.StatusTTL{{Status: 200, TTL: time.Millisecond}}
		c.Routes[0].Cache.StaleWhileRevalidate = time.Hour
		c.Routes[0].Timeouts.Header = "X-Request-Timeout"
	}})
	for n, lines := range []string{"", "Content-Length: 4\r\n\r\nbody"} {
		ask := func() *message {
			c := r.dial(t)
			if lines == "" {
				return c.fetch("GET", "/x", "X-Request-Timeout: 5s\r\n")
			}
			c.send("POST /x HTTP/1.1\r\nHost: h\r\nX-Request-Timeout: 5s\r\n" + lines)
			return c.answer("POST")
		}
		was(t, ask(), "miss", "ok")
		if ep.last(t).get("X-Request-Timeout") == "" {
			t.Error("the endpoint was not told the time that is left")
		}
		time.Sleep(10 * time.Millisecond)
		was(t, ask(), "stale", "ok")
		eventually(t, "the refresh", func() bool { return len(ep.got()) == 2*n+2 })
		if m := ep.last(t); m.get("X-Request-Timeout") != "" || n == 1 && string(m.body) != "body" {
			t.Errorf("the refresh says %v, body %q", m.fields, m.body)
		}
	}
}
