package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

func fourLoops(o *proxy.Options) { o.Loops = 4 }

// TestHTTP2Probes: probes, and inferences, speak the pool's protocol.
func TestHTTP2Probes(t *testing.T) {
	var ready atomic.Bool
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Method == "POST" {
			b, _ := io.ReadAll(q.Body)
			_, _ = w.Write(b)
			return
		}
		if !ready.Load() {
			w.WriteHeader(503)
		}
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	})
	r := start(t, setup{endpoints: []string{e.addr}, pool: "protocol: http2\n", change: func(c *config.Config) {
		p := config.DefaultProbe()
		p.Interval, p.Rise, p.JSON = 10*time.Millisecond, 1, []config.Assertion{{Path: "status", Value: `"ok"`}}
		p.Inference = &config.Inference{Path: "/predict", Body: `{"prediction":3}`, JSON: []config.Assertion{{Path: "prediction", Value: "3"}}, Interval: 10 * time.Millisecond}
		c.Pools[0].Probe = &p
	}})
	eventually(t, "an unhealthy endpoint", func() bool { return sum(r.metrics(t), "weir_probes_total", `kind="probe"`, "failure") > 0 })
	ready.Store(true)
	for _, kind := range []string{`kind="probe"`, `kind="inference"`} {
		eventually(t, kind, func() bool { return sum(r.metrics(t), "weir_probes_total", kind, "success") > 1 })
	}
	eventually(t, "a healthy endpoint", func() bool { return sum(r.metrics(t), "weir_endpoint_healthy") == 1 })
}

// TestHTTP2Mirror: copies do, too.
func TestHTTP2Mirror(t *testing.T) {
	e, shadow := newH2C(t, echo), newH2C(t, echo)
	r := overH2(t, e, setup{change: mirroring(comparing(), shadow.addr), options: patientMirrors, route: "retry: off"})
	c := r.dial(t)
	for range 5 {
		if m, err := c.post(`{"a":1}`); err != nil || m.status() != 200 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	eventually(t, "the copies", func() bool { return shadow.requests.Load() == 5 })
	eventually(t, "their comparison", func() bool { return sum(r.metrics(t), "weir_mirror_comparisons_total", `result="agree"`) == 5 })
}

// TestHTTP2Hedge: whichever of two endpoints answers first is heard, and the other's work ends.
func TestHTTP2Hedge(t *testing.T) {
	canceled := make(chan struct{})
	slow := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
		close(canceled)
	})
	fast := newH2C(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, "fast") })
	r := start(t, setup{endpoints: []string{slow.addr, fast.addr}, pool: "protocol: http2\n", change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100})})
	c := r.dial(t)
	c.send("POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
	if m := c.answer("POST"); m.status() != 200 || string(m.body) != "fast" {
		t.Errorf("%+v", m)
	}
	<-canceled
	if n := sum(r.metrics(t), "weir_hedges_total", "won"); n != 1 {
		t.Errorf("%v hedges have won", n)
	}
}

// TestHTTP2Refresh: an answer that went stale is fetched anew in the background.
func TestHTTP2Refresh(t *testing.T) {
	var n atomic.Int64
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		_, _ = io.WriteString(w, strings.Repeat("x", int(n.Add(1))))
	})
	r := overH2(t, e, setup{route: "cache: {ttl: 1ms, stale_while_revalidate: 60s}"})
	c := r.dial(t)
	c.get("/a")
	eventually(t, "a refreshed answer", func() bool { c.get("/a"); return sum(r.metrics(t), "weir_cache_refreshes_total", "kept") > 0 })
}
