package balancer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/load"
	"weir/config"
)

// scraped is a pool of two endpoints whose metrics are what read says, until the end of the test.
func scraped(t *testing.T, change func(*config.Pool), read func(e *Endpoint) (load.Reading, error)) *Pool {
	t.Helper()
	c := poolConfig("blue", "utilization", 1, 1)
	signals, outlier := config.DefaultSignals(), config.DefaultOutlier()
	signals.Scrape, signals.Interval = "/metrics", 5*time.Millisecond
	c.Load, c.Outlier = &signals, &outlier
	if change != nil {
		change(&c)
	}
	p := NewPool(c, nil, PoolOptions{Scrape: func(_ context.Context, e *Endpoint, _ Addr, _ *config.Signals) (load.Reading, error) {
		return read(e)
	}})
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// TestScrapeCounts: each reading is counted, reported, and its failure named until one succeeds.
func TestScrapeCounts(t *testing.T) {
	var failure atomic.Pointer[string]
	p := scraped(t, nil, func(*Endpoint) (load.Reading, error) {
		if why := failure.Load(); why != nil {
			return load.Reading{}, errors.New(*why)
		}
		return load.Reading{Report: &load.Report{CPUUtilization: 0.5}}, nil
	})
	e := p.Endpoints()[0]
	until(t, "readings", func() bool { return e.Checked(Scrape).Succeeded() > 2 })
	if f, _, ok := e.LastReport(FromScrape, time.Now()); !ok || f.Values[Utilization] != 0.5 {
		t.Errorf("%v, %v", f, ok)
	}
	why := "it is gone"
	failure.Store(&why)
	until(t, "a failure", func() bool { return e.ScrapeError() == why && e.Checked(Scrape).Failed() > 2 })
	failure.Store(nil)
	until(t, "no failure", func() bool { return e.ScrapeError() == "" })
	p.Stop()
	n := e.Checked(Scrape).Succeeded()
	time.Sleep(30 * time.Millisecond)
	if e.Checked(Scrape).Succeeded() != n {
		t.Error("it is read after Stop")
	}
}

// TestFaultyHardwareEjects: for as long as the fault stands, but not where nothing is ejected, and not the last one.
func TestFaultyHardwareEjects(t *testing.T) {
	faulty := func(both bool) func(e *Endpoint) (load.Reading, error) {
		return func(e *Endpoint) (load.Reading, error) {
			r := load.Reading{Report: &load.Report{CPUUtilization: 0.5}}
			if both || e.Address == "127.0.0.1:8001" {
				r.Standing = []string{"GPU 0: lost"}
			}
			return r, nil
		}
	}
	p := scraped(t, func(c *config.Pool) {
		c.Outlier.Ejection, c.Outlier.MaxEjection = 10*time.Millisecond, 20*time.Millisecond
	}, faulty(false))
	e := p.Endpoints()[0]
	until(t, "ejections", func() bool { return e.Ejections() > 2 })
	until(t, "the reason", func() bool { return e.EjectionReason() == "GPU 0: lost" })
	if n := p.Endpoints()[1].Ejections(); n != 0 {
		t.Errorf("the other one was ejected %d times", n)
	}
	p = scraped(t, func(c *config.Pool) { c.Outlier = nil }, faulty(false))
	until(t, "readings", func() bool { return p.Endpoints()[0].Checked(Scrape).Succeeded() > 5 })
	if p.Endpoints()[0].Ejected() {
		t.Error("ejected without outlier detection")
	}
	p = scraped(t, nil, faulty(true))
	until(t, "spared", func() bool { return p.Endpoints()[0].Spared()+p.Endpoints()[1].Spared() > 2 })
	if p.Endpoints()[0].Ejected() == p.Endpoints()[1].Ejected() {
		t.Error("want one of two ejected")
	}
}

// TestScrapeExpiry: what was scraped counts for three intervals.
func TestScrapeExpiry(t *testing.T) {
	c := poolConfig("blue", "utilization", 1)
	signals := config.DefaultSignals()
	signals.Interval = 4 * time.Second
	c.Load = &signals
	p := NewPool(c, nil, PoolOptions{})
	e, w, now := p.endpoints[0], p.weighing(), time.Now()
	e.Report(FromScrape, &load.Report{CPUUtilization: 0.5}, now)
	for age, fresh := range map[time.Duration]bool{0: true, 11900 * time.Millisecond: true, 12100 * time.Millisecond: false} {
		if got := e.read(&w, now.Add(age)); got.fresh != fresh {
			t.Errorf("after %v: fresh is %v", age, got.fresh)
		}
	}
}
