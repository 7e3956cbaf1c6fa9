package backend

import (
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
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
	m := newMeter(2, 10, c.now)
	want := func(utilization, rps, eps, inFlight float64) {
		t.Helper()
		var got load.Report
		m.report(&got)
		expected := load.Report{
			ApplicationUtilization: utilization, RPS: rps, EPS: eps,
			Named: []load.Metric{{Name: "in_flight", Value: inFlight}, {Name: "queue", Value: 0}},
		}
		if diff := cmp.Diff(expected, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	want(0, 0, 0, 0) // at the very start there is no time to divide by
	request := func(d time.Duration, failed bool) {
		m.begin()
		if err := m.work(func() { c.advance(d) }); err != nil {
			t.Fatal(err)
		}
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
	if err := m.work(func() { c.advance(4 * time.Second); want(0.5, 0, 0, 1) }); err != nil {
		t.Fatal(err)
	}
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
	m := newMeter(1, 10, c.now)
	for i := range 2000 {
		m.begin()
		_ = m.work(func() { c.advance(time.Duration(i%7) * 37 * time.Millisecond) })
		c.advance(time.Duration(i%11) * 53 * time.Millisecond)
		m.end(i%3 == 0)
		var r load.Report
		m.report(&r)
		if u := r.ApplicationUtilization; u < 0 || u > 1+1e-9 || r.RPS < r.EPS || r.EPS < 0 || math.IsNaN(r.RPS) {
			t.Fatalf("after %d requests: %+v", i, r)
		}
	}
}

func TestMeterQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(2, 3, time.Now)
		proceed := make(chan struct{})
		var running, most int
		var mu sync.Mutex
		work := func() error {
			return m.work(func() {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-proceed
				mu.Lock()
				running--
				mu.Unlock()
			})
		}
		results := make(chan error, 5)
		for range 5 {
			go func() { results <- work() }()
		}
		synctest.Wait() // two run, three wait
		if b := m.busyNow(); b.queued != 3 {
			t.Errorf("%d wait, want 3", b.queued)
		}
		if err := work(); !errors.Is(err, errBusy) {
			t.Errorf("a sixth request: %v", err)
		}
		close(proceed)
		for range 5 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if b := m.busyNow(); b.queued != 0 || most != 2 {
			t.Errorf("%d wait, at most %d ran; want 0 and 2", b.queued, most)
		}
	})
}

func TestMeterWorkerSurvivesPanic(t *testing.T) {
	m := newMeter(1, 0, time.Now)
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = m.work(func() { panic("in the run") })
		}()
	}
	if err := m.work(func() {}); err != nil {
		t.Error(err)
	}
}
