package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy"
)

// TestEdgeCacheChurn has clients come and leave in the middle of everything, at endpoints that do all there is to
// do: who stays gets its own answer, and at the end nothing is left.
func TestEdgeCacheChurn(t *testing.T) {
	behaviour := backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
		b := backendtest.Behaviour{Body: []byte("of " + q.Target), Latency: time.Duration(rand.IntN(30)) * time.Millisecond, Chunked: rand.IntN(2) == 0}
		switch rand.IntN(12) {
		case 0:
			b.Header = []backendtest.Field{{Name: "Cache-Control", Value: "no-store"}}
		case 1:
			b.Status = 500
		case 2:
			b.Fault = backendtest.FaultResetBeforeHead
		case 3:
			b.Body = []byte(b.Body)
			b.Body = append(b.Body, make([]byte, 200_000)...)
		case 4:
			b.Header = []backendtest.Field{{Name: "Vary", Value: "X-Lang"}}
		case 5:
			b.Fault, b.FaultAfter = backendtest.FaultCloseMidBody, 2
		}
		return b
	}}
	var endpoints []string
	var servers []*backendtest.Server
	for range 3 {
		s := backendtest.NewServer(t, behaviour)
		servers, endpoints = append(servers, s), append(endpoints, s.Addr())
	}
	cfg := aCache()
	cfg.TTL = []config.StatusTTL{{Status: 200, TTL: 20 * time.Millisecond}}
	cfg.StaleIfError, cfg.StaleWhileRevalidate = 50*time.Millisecond, 10*time.Millisecond
	cfg.MaxBytes, cfg.MaxObject = 100_000, 50_000
	r := start(t, setup{endpoints: endpoints, change: cachedBy(cfg), pool: "outlier: off\n", route: "timeouts: {total: 5s}\nretry: {backoff: 0s}\n"})
	var clients sync.WaitGroup
	var answered, left atomic.Int32
	began := time.Now()
	goesOn := func() bool { // until it was a churn, also on a machine with other things to do
		enough := time.Since(began) > 2*time.Second && answered.Load() >= 200 && left.Load() >= 50
		return !enough && time.Since(began) < patience
	}
	for range 40 {
		clients.Go(func() {
			for goesOn() {
				c := r.dial(t)
				target := fmt.Sprint("/", rand.IntN(4))
				c.send("GET " + target + " HTTP/1.1\r\nHost: h\r\nX-Lang: " + fmt.Sprint(rand.IntN(2)) + "\r\n\r\n")
				if rand.IntN(3) == 0 {
					time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
					_ = c.Close()
					left.Add(1)
					continue
				}
				m, _, err := c.readResponse("GET")
				if m == nil {
					t.Errorf("no answer: %v", err)
					continue
				}
				if err == nil && m.status() == 200 && !strings.HasPrefix(string(m.body), "of "+target) {
					t.Errorf("%q for %s", m.body[:min(20, len(m.body))], target)
				}
				if s := m.status(); s != 200 && s != 500 && s != 502 {
					t.Errorf("%s %s", m.start, m.body)
				}
				answered.Add(1)
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	if answered.Load() < 200 || left.Load() < 50 {
		t.Errorf("%d answered, %d left", answered.Load(), left.Load())
	}
	eventually(t, "the end of all flights", func() bool { return proxy.CacheFlights(r.Proxy) == 0 })
	eventually(t, "the end of all attempts", func() bool { p, _ := r.Pool("blue"); return p.Inflight == 0 })
	m := r.metrics(t)
	for _, result := range []string{"hit", "miss", "stale", "coalesced"} {
		if sum(m, "weir_cache_requests_total", fmt.Sprintf("result=%q", result)) == 0 {
			t.Errorf("no %s", result)
		}
	}
	if n := sum(m, "weir_cache_bytes"); n > float64(cfg.MaxBytes) {
		t.Errorf("%v bytes in the cache", n)
	}
	for _, s := range servers {
		if c := s.Complaints(); len(c) > 0 {
			t.Error(c)
		}
	}
}
