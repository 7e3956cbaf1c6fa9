package proxy_test

import (
	"math"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeWeightsFollowReports: endpoints that report to be 20 % and 80 % full get requests about 4 : 1, and as many each
// once they report no more. It takes half a minute, since weights move by 20 % a second, after 10 s in which reports alone
// are gathered.
func TestEdgeWeightsFollowReports(t *testing.T) {
	alongside(t)
	servers := []*backendtest.Server{
		backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"application_utilization": 0.2}}),
		backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"application_utilization": 0.8}}),
	}
	r := start(t, setup{endpoints: []string{servers[0].Addr(), servers[1].Addr()}, change: func(c *config.Config) { c.Pools[0].Policy = "utilization" }})
	// quotient is how many requests the first endpoint gets for one of the second.
	quotient := func() float64 {
		cl := r.dial(t)
		before := [2]int64{servers[0].Counts().Requests, servers[1].Counts().Requests}
		for range 300 {
			if m := cl.get("/x"); m.status() != 200 || m.get("endpoint-load-metrics") != "" {
				t.Fatalf("%s %v", m.start, m.fields)
			}
		}
		return float64(servers[0].Counts().Requests-before[0]) / float64(servers[1].Counts().Requests-before[1])
	}
	becomes := func(what string, want float64) {
		t.Helper()
		began := time.Now()
		for q := quotient(); math.Abs(q/want-1) > 0.15; q = quotient() {
			if time.Since(began) > 12*patience {
				p, _ := r.Pool("blue")
				t.Fatalf("%s: %.2f : 1, want about %v; %+v, %+v", what, q, want, p.Endpoints[0].Load, p.Endpoints[1].Load)
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("%s: after %v", what, time.Since(began).Round(100*time.Millisecond))
	}
	becomes("before", 1)
	becomes("with reports", 4)
	p, _ := r.Pool("blue")
	if w := p.Endpoints[0].Load.Weighting; w == nil || w.By != "utilization" || math.Abs(w.Full-0.2) > 1e-6 || p.Endpoints[0].EffectiveWeight <= p.Endpoints[1].EffectiveWeight {
		t.Errorf("the status says %+v of %+v", w, p.Endpoints[0])
	}
	for _, s := range servers {
		s.SetBehaviour(backendtest.Behaviour{})
	}
	becomes("without", 1)
	p, _ = r.Pool("blue")
	if w := p.Endpoints[0].Load.Weighting; w == nil || w.Why != "stale → mean" && w.Why != "clamped to 20 %/s" {
		t.Errorf("the status says %+v", w)
	}
}
