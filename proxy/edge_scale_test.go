package proxy_test

import (
	"strings"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

// TestEdgeScale: what a pool bears, and the replicas that it should have for that, follow the requests.
func TestEdgeScale(t *testing.T) {
	alongside(t)
	port, pods := replicas(t, "127.0.0.1", "127.0.0.2")
	r := start(t, setup{endpoints: []string{"127.0.0.1:" + port, "127.0.0.2:" + port}, change: func(c *config.Config) {
		scale := config.DefaultScale()
		scale.Max, scale.DownAfter, scale.Targets = 5, 0, config.ScaleTargets{Inflight: 2}
		c.Pools[0].Scale = &scale
	}})
	status := func() proxy.ScaleStatus {
		t.Helper()
		s, ok := r.Scale("blue")
		if !ok || s.DesiredReplicas == nil {
			t.Fatalf("status %+v", s)
		}
		return s
	}
	desires := func(n int, why string) {
		t.Helper()
		eventually(t, "the number of replicas", func() bool {
			s := status()
			return *s.DesiredReplicas == n && strings.HasPrefix(s.Reason, why)
		})
	}
	desires(1, "requests in flight each 0, 2 desired")
	var held []*client
	for range 6 {
		c := r.dial(t)
		c.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
		held = append(held, c)
	}
	desires(3, "requests in flight each 3, 2 desired")
	if s := status(); s.Replicas != 2 || s.Usable != 2 || s.Inflight != 6 || s.P95 != nil || s.Utilization != nil {
		t.Errorf("status %+v", s)
	}
	for _, p := range pods {
		close(p.free)
	}
	for _, c := range held {
		if m := c.answer("GET"); m.status() != 200 {
			t.Errorf("%s", m.start)
		}
	}
	desires(1, "requests in flight each 0")
	s := status()
	if s.P95 == nil || s.RequestsPerSecond <= 0 {
		t.Errorf("after the requests: %+v", s)
	}
	metrics := r.metrics(t)
	for name, want := range map[string]float64{
		"weir_pool_replicas": 2, "weir_pool_usable_replicas": 2, "weir_pool_inflight": 0, "weir_pool_queue": 0, "weir_pool_desired_replicas": 1,
	} {
		if got, ok := metrics[name+`{pool="blue"}`]; !ok || got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if p95 := metrics[`weir_pool_p95_seconds{pool="blue"}`]; p95 <= 0 || p95 > time.Minute.Seconds() {
		t.Errorf("p95: %v", p95)
	}
	if _, ok := r.Scale("gren"); ok {
		t.Error("a pool that is not there has a scale")
	}
}
