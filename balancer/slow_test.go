package balancer

import (
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func TestSlow(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name    string
		medians []time.Duration // the first one is judged
		want    string
	}{
		{"alone", []time.Duration{250 * ms}, ""},
		{"one of two", []time.Duration{250 * ms, 12 * ms}, "median 250 ms, others 12 ms"},
		{"the fast one of two", []time.Duration{12 * ms, 250 * ms}, ""},
		{"too few requests to it", []time.Duration{0, 12 * ms, 12 * ms}, ""},
		{"too few requests to the others", []time.Duration{250 * ms, 0, 0}, ""},
		{"not enough slower", []time.Duration{36 * ms, 12 * ms, 12 * ms}, ""},
		{"just enough", []time.Duration{37 * ms, 12 * ms, 12 * ms}, "median 37 ms, others 12 ms"},
		{"a factor of little", []time.Duration{1100 * time.Microsecond, 300 * time.Microsecond, 300 * time.Microsecond}, ""},
		{"nearly enough of a difference", []time.Duration{2299 * time.Microsecond, 300 * time.Microsecond, 300 * time.Microsecond}, ""},
		{"enough of it", []time.Duration{2300 * time.Microsecond, 300 * time.Microsecond, 300 * time.Microsecond}, "median 2.3 ms, others 0.3 ms"},
		{"another is slow, too", []time.Duration{250 * ms, 240 * ms, 11 * ms, 12 * ms}, "median 250 ms, others 12 ms"},
		{"the mean of the two in the middle", []time.Duration{250 * ms, 10 * ms, 2 * ms, 4 * ms, 9 * ms}, "median 250 ms, others 6.5 ms"},
		{"most are as slow", []time.Duration{250 * ms, 240 * ms, 250 * ms, 12 * ms}, ""},
		{"all are alike", []time.Duration{12 * ms, 12 * ms, 12 * ms}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config.Outlier{LatencyFactor: 3, MinRequests: 20}
			var all peers
			for _, m := range test.medians {
				all.add(evidence{median: m}, &c)
			}
			all.settle()
			var s standing
			if got := s.judge(evidence{median: test.medians[0]}, all, &c); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			c.LatencyFactor = 0
			if got := s.judge(evidence{median: test.medians[0]}, all, &c); got != "" {
				t.Errorf("%q without latency_factor", got)
			}
		})
	}
}

// slowConfig judges by latency alone.
func slowConfig(n int) config.Pool {
	return watched(n, func(c *config.Pool) {
		o := config.DefaultOutlier()
		o.ConsecutiveFailures, o.FailurePercent, o.SuccessDeviation, o.LatencyFactor, o.MinRequests = 0, 0, 0, 3, 20
		o.Interval = 10 * time.Second
		c.Outlier = &o
	})
}

func TestASlowEndpointIsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ejections
		p := NewPool(slowConfig(3), nil, l.options())
		p.Start()
		defer p.Stop()
		// What did not succeed says nothing, however slow.
		for _, e := range p.endpoints {
			end(e, 30, Success, 12*time.Millisecond)
		}
		end(p.endpoints[1], 500, Canceled, 5*time.Second)
		end(p.endpoints[1], 500, Timeout, 5*time.Second)
		end(p.endpoints[1], 500, Status, 5*time.Second)
		wait(10100 * time.Millisecond)
		l.want(t, "after failures")

		// Nineteen of them are too few, also with those of the interval before.
		end(p.endpoints[0], 50, Success, 12*time.Millisecond)
		end(p.endpoints[1], 19, Success, 250*time.Millisecond)
		end(p.endpoints[2], 50, Success, 12*time.Millisecond)
		wait(10 * time.Second)
		l.want(t, "after nineteen")

		end(p.endpoints[0], 50, Success, 12*time.Millisecond)
		end(p.endpoints[1], 20, Success, 250*time.Millisecond)
		end(p.endpoints[2], 50, Success, 250*time.Millisecond)
		wait(10 * time.Second)
		l.want(t, "of three, two are slow")

		end(p.endpoints[0], 50, Success, 12*time.Millisecond)
		end(p.endpoints[1], 20, Success, 250*time.Millisecond)
		end(p.endpoints[2], 50, Success, 12*time.Millisecond)
		wait(10 * time.Second)
		l.want(t, "after twenty", "127.0.0.1:8002 true usable=false: median 250 ms, others 12 ms")

		// What it answers late does not count on its return.
		wait(35 * time.Second)
		l.want(t, "later", "127.0.0.1:8002 false usable=true: its ejection is over")
		end(p.endpoints[0], 50, Success, 12*time.Millisecond)
		end(p.endpoints[1], 50, Success, time.Minute)
		wait(12 * time.Second)
		l.want(t, "after late answers")
	})
}

// TestOnlyTheSlowestIsEjectedWhereThereIsRoomForOne, as with any ejection.
func TestOnlyTheSlowestIsEjectedWhereThereIsRoomForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ejections
		c := slowConfig(6)
		c.Outlier.MaxEjectedPercent = 17
		p := NewPool(c, nil, l.options())
		p.Start()
		defer p.Stop()
		for i, d := range []time.Duration{12, 200, 400, 12, 12, 12} {
			end(p.endpoints[i], 50, Success, d*time.Millisecond)
		}
		wait(10100 * time.Millisecond)
		l.want(t, "two are slow", "127.0.0.1:8003 true usable=false: median 398 ms, others 12 ms")
		if p.endpoints[1].Spared() != 1 {
			t.Error("the other one was not spared")
		}
	})
}

func TestLatencyIsKeptWhereItIsJudgedOnly(t *testing.T) {
	p := NewPool(watched(2, nil), nil, PoolOptions{})
	p.Start()
	if p.endpoints[0].trust.paces.Load() != nil {
		t.Error("durations are kept without latency_factor")
	}
	next := NewPool(slowConfig(2), p, PoolOptions{})
	next.Start()
	p.Stop()
	e := next.endpoints[0]
	next.Pick(nil)
	e.Done(Success, time.Millisecond)
	if h := e.trust.paces.Load(); h == nil || h.Count() != 1 {
		t.Error("durations are not kept with latency_factor")
	}
	last := NewPool(watched(2, nil), next, PoolOptions{})
	last.Start()
	next.Stop()
	if e.trust.paces.Load() != nil {
		t.Error("durations are kept when latency_factor is gone")
	}
	last.Stop()
}
