package proxy_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeFewRequestsMeetAnEndpointThatRefuses: it has nothing in flight, and least_request would send it nearly all.
func TestEdgeFewRequestsMeetAnEndpointThatRefuses(t *testing.T) {
	slow := backendtest.Behaviour{Latency: 5 * time.Millisecond}
	gone, a, b := backendtest.NewServer(t, slow), backendtest.NewServer(t, slow), backendtest.NewServer(t, slow)
	gone.Stop()
	r := start(t, setup{
		endpoints: []string{gone.Addr(), a.Addr(), b.Addr()}, pool: "outlier: off",
		change: func(c *config.Config) { c.Pools[0].Policy = "least_request" },
	})
	var sent, bad atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		all.Go(func() {
			for sent.Add(1) <= 1000 {
				c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				if c.answer("GET").status() != 200 {
					bad.Add(1)
				}
			}
		})
	}
	all.Wait()
	met := sum(r.metrics(t), "weir_attempts_total", `endpoint="`+gone.Addr()+`"`, `outcome="connect"`)
	t.Logf("%v of 1000 requests met the endpoint that refuses", met)
	if met < 1 || met > 100 || bad.Load() > 0 {
		t.Errorf("%v requests met the endpoint that refuses, and %d failed", met, bad.Load())
	}
	if e := r.Status().Pools[0].Endpoints[0]; !e.Refusing || !e.Healthy {
		t.Errorf("its state: %+v", e)
	}
	// It comes back, as a pod does under its old name.
	gone.Start()
	eventually(t, "it is tried", func() bool { return !r.Status().Pools[0].Endpoints[0].Refusing })
}
