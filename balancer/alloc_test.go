//go:build !race

package balancer

import (
	"testing"

	"weir/backend/load"
	"weir/config"
)

// The race detector allocates on its own account, so these run without it.

func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range config.Policies() {
		for _, weights := range [][]float64{{1}, {1, 2, 3}, make([]float64, 256)} {
			for i := range weights {
				weights[i] = float64(1 + i%5)
			}
			p := testPool(policy, weights...)
			for _, e := range p.endpoints {
				e.latency.Record(1) // the first duration of its kind makes its counters
			}
			tried := []*Endpoint{p.endpoints[0]}
			subject := []byte("user-1234567890")
			if n := testing.AllocsPerRun(100, func() {
				p.Pick(nil).Done(Success, 1)
				p.PickFor(subject, tried).End(Attempt{Outcome: Success, Took: 1, Rif: 3})
				p.Pick(nil).Done(Status, 1)
				p.Pick(tried).Done(Success, 1)
				p.Usable()
			}); n != 0 {
				t.Errorf("%s over %d endpoints: %v allocations, want none", policy, len(weights), n)
			}
		}
	}
}

func TestChoosingAllocatesNothing(t *testing.T) {
	v := variants(50, 30, 20)
	s := NewSplit("predict", v, nil)
	subject := []byte("user-1234567890")
	choose := func() {
		s.ByChance(12345)
		s.BySubject(subject)
	}
	if n := testing.AllocsPerRun(100, choose); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	for i := range v {
		setDown(v[i].Pool, 0, i != 1)
	}
	if n := testing.AllocsPerRun(100, choose); n != 0 {
		t.Errorf("%v allocations when spilling over, want none", n)
	}
}

// TestDoneAllocatesNothing while somebody judges, whatever the outcome; only a failure too many may.
func TestDoneAllocatesNothing(t *testing.T) {
	p := NewPool(watched(3, func(c *config.Pool) { c.Outlier.LatencyFactor = 3 }), nil, PoolOptions{})
	p.Start()
	defer p.Stop()
	for _, e := range p.endpoints {
		e.latency.Record(1)
		e.trust.paces.Load().Tally(1)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, o := range []Outcome{Status, Reset, Connect, Timeout, Success, Canceled} {
			e := p.endpoints[0]
			e.inflight.Add(1)
			e.Done(o, 1)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// TestReportAllocatesNothing: it may come with every answer.
func TestReportAllocatesNothing(t *testing.T) {
	e := testPool("utilization", 1).endpoints[0]
	r := load.Report{ApplicationUtilization: 0.5, RPS: 10, Utilization: []load.Metric{{Name: "gpu.0", Value: 0.5}}, Named: []load.Metric{{Name: "queue", Value: 1}}}
	if n := testing.AllocsPerRun(100, func() { e.Report(FromAnswer, &r, e.born) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
