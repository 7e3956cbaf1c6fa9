package backend

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"weir/backend/load"
)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestMeterRates(t *testing.T) {
	c := newClock()
	m := newMeter(2, c.now)
	want := func(utilization, rps, eps, inFlight float64) {
		t.Helper()
		var got load.Report
		m.report(&got)
		expected := load.Report{
			ApplicationUtilization: utilization, RPS: rps, EPS: eps,
			Named: []load.Metric{{Name: "in_flight", Value: inFlight}, {Name: "queue", Value: 0}, {Name: "queue_seconds", Value: 0}},
		}
		if diff := cmp.Diff(expected, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	want(0, 0, 0, 0) // at the very start there is no time to divide by
	request := func(d time.Duration, failed bool) {
		m.begin()
		m.run(+1)
		c.advance(d)
		m.run(-1)
		m.end(failed)
	}
	// 10 requests a second, each working for 50 ms of one of two workers: utilization 0.25.
	for i := range 30 {
		request(50*time.Millisecond, i%5 == 0)
		c.advance(50 * time.Millisecond)
	}
	want(0.25, 10, 2, 0)
	// While one runs on for longer than the period, its work counts already.
	m.begin()
	m.run(+1)
	c.advance(4 * time.Second)
	want(0.5, 0, 0, 1)
	m.run(-1)
	m.end(false)
	c.advance(2 * time.Second)
	want(0, 0.5, 0, 0)
	// Idle: after two periods nothing of the past is left.
	c.advance(2 * time.Second)
	want(0, 0, 0, 0)
}

// TestMeterNeverReportsNonsense lets requests end at awkward moments.
func TestMeterNeverReportsNonsense(t *testing.T) {
	c := newClock()
	m := newMeter(1, c.now)
	for i := range 2000 {
		m.begin()
		m.queue(+1)
		c.advance(time.Duration(i%5) * 29 * time.Millisecond)
		m.queue(-1)
		m.run(+1)
		c.advance(time.Duration(i%7) * 37 * time.Millisecond)
		m.run(-1)
		c.advance(time.Duration(i%11) * 53 * time.Millisecond)
		m.end(i%3 == 0)
		var r load.Report
		m.report(&r)
		if u := r.ApplicationUtilization; u < 0 || u > 1+1e-9 || r.RPS < r.EPS || r.EPS < 0 || math.IsNaN(r.RPS) || r.Named[2].Value < 0 || r.Named[2].Value > 0.116+1e-9 {
			t.Fatalf("after %d requests: %+v", i, r)
		}
	}
}

// TestUtilizationOfAnInstance has a model that runs once at a time: with that, the server is used up.
func TestUtilizationOfAnInstance(t *testing.T) {
	c := newClock()
	s := newScheduler(4, 9, newMeter(4, c.now), c.now)
	l := s.add(doubler(), Serving{Instances: 1}, nil)
	other := s.add(doubler(), Serving{Instances: 4}, nil)
	want := func(utilization float64) {
		t.Helper()
		s.meter.run(+1)
		c.advance(2 * meterPeriod)
		var r load.Report
		s.meter.report(&r)
		s.meter.run(-1)
		if r.ApplicationUtilization != utilization {
			t.Errorf("the utilization is %v, want %v", r.ApplicationUtilization, utilization)
		}
	}
	want(0.25)
	s.remove(other)
	want(1)
	s.remove(l)
	want(1)
}

// TestMeterQueueTime: what waits counts as soon as it waits, and what has run for a period or two.
func TestMeterQueueTime(t *testing.T) {
	c := newClock()
	m := newMeter(2, c.now)
	want := func(queue, seconds float64) {
		t.Helper()
		var r load.Report
		m.report(&r)
		for name, want := range map[string]float64{"queue": queue, "queue_seconds": seconds} {
			if got, ok := load.Find(r.Named, name); !ok || math.Abs(got-want) > 1e-9 {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	}
	want(0, 0)
	// Ten wait for 40 ms each, two at a time.
	for range 5 {
		m.queue(+2)
		c.advance(40 * time.Millisecond)
		m.queue(-2)
		c.advance(160 * time.Millisecond)
		want(0, 0.04)
	}
	c.advance(meterPeriod / 2)
	want(0, 0.04)
	c.advance(meterPeriod / 2)
	want(0, 0)
	// One that waits and waits is not overlooked because none has run.
	m.queue(+1)
	c.advance(5 * time.Second)
	want(1, 5)
}
