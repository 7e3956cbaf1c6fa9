package proxy_test

import (
	"runtime/debug"
	"testing"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeMemory: a process beyond its limit refuses requests, one near it ends connections, and both end when
// there is memory again.
func TestEdgeMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	e := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("well")})
	limit := func(m config.Memory) func(*config.Config) { return func(c *config.Config) { c.Memory = m } }
	beyond := config.Memory{Limit: 1 * config.MiB, KeepAlivePercent: 80}
	r := start(t, setup{endpoints: []string{e.Addr()}, change: limit(beyond)})
	eventually(t, "requests are refused", func() bool {
		cl := r.dial(t)
		m := cl.get("/")
		return m.status() == 503
	})
	cl := r.dial(t)
	cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	cl.refused(cl.answer("GET"), 503)
	if m := r.metrics(t); sum(m, "weir_memory_refused_total") == 0 || sum(m, "weir_memory_resident_bytes") < float64(beyond.Limit) || sum(m, "weir_memory_limit_bytes") != float64(beyond.Limit) {
		t.Errorf("refused %v, resident %v, limit %v", sum(m, "weir_memory_refused_total"), sum(m, "weir_memory_resident_bytes"), sum(m, "weir_memory_limit_bytes"))
	}
	if s := r.Status(); !s.Degraded || len(s.Reasons) == 0 {
		t.Errorf("status says nothing: %+v", s.Reasons)
	}
	apply := func(m config.Memory) {
		cfg := parse(t, r.yaml)
		cfg.Memory = m
		cfg.Listeners[0].Address = r.Config().Listeners[0].Address
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	apply(config.Memory{Limit: 1 << 40, KeepAlivePercent: 0.0001}) // 1 MiB of 1 TiB
	eventually(t, "requests are served, and end their connections", func() bool {
		cl := r.dial(t)
		m := cl.get("/")
		return m.status() == 200 && m.get("Connection") == "close"
	})
	apply(config.Memory{})
	cl = r.dial(t)
	for range 3 {
		if m := cl.get("/"); m.status() != 200 || m.get("Connection") != "" {
			t.Errorf("%s %v", m.start, m.fields)
		}
	}
	if after := debug.SetMemoryLimit(-1); after != before {
		t.Errorf("the garbage collector's limit is %d, it was %d", after, before)
	}
}
