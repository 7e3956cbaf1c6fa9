package proxy_test

import (
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeCacheShed: where a bound refuses a request, on its route or at its pool, a stale answer is better; one
// that is fresh needs no place at the pool.
func TestEdgeCacheShed(t *testing.T) {
	for _, where := range []string{"route", "pool"} {
		t.Run(where, func(t *testing.T) {
			h := newHeld(backendtest.Behaviour{})
			s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
				b := backendtest.Behaviour{Body: []byte("good")}
				switch q.Target {
				case "/held":
					b.LatencyFunc = h.wait
				case "/x":
					b.Header = []backendtest.Field{{Name: "Cache-Control", Value: "max-age=0"}}
				}
				return b
			}})
			cfg := aCache()
			cfg.StaleIfError = time.Minute
			r := start(t, setup{endpoints: []string{s.Addr()}, change: func(c *config.Config) {
				c.Routes[0].Cache = cfg
				one := &config.Concurrency{Max: 1, Queue: config.Queue{Order: config.QueueFIFO}}
				if where == "route" {
					c.Routes[0].Concurrency = one
				} else {
					c.Pools[0].Concurrency = one
				}
			}})
			c := r.dial(t)
			was(t, c.get("/x"), "miss", "good")
			was(t, c.get("/fresh"), "miss", "good")
			holder := r.dial(t)
			holder.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
			s.Await("the held request", func(n backendtest.Counts) bool { return n.Requests == 3 })
			m := c.get("/x")
			if m.get("X-Weir-Cache") != "stale" || string(m.body) != "good" || m.get("X-Weir-Variant") != "blue" {
				t.Errorf("%s %v", m.start, m.fields)
			}
			if m := c.get("/other"); m.status() != 503 {
				t.Errorf("%s without an answer that is kept", m.start)
			}
			if where == "pool" {
				was(t, c.get("/fresh"), "hit", "good")
			}
			close(h.release)
			was(t, holder.answer("GET"), "miss", "good")
			was(t, c.get("/x"), "miss", "good")
		})
	}
}
