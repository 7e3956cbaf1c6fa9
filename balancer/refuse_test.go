package balancer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// dialed is what the trials of a pool find, and when they came.
type dialed struct {
	refuses atomic.Bool
	mu      sync.Mutex
	at      []time.Time
}

func (d *dialed) dial(context.Context, Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = append(d.at, time.Now())
	if d.refuses.Load() {
		return errors.New("connection refused")
	}
	return nil
}

// meet sends n requests, 16 at a time, that take 5 ms, and are sent again elsewhere when the first endpoint of p
// refuses. It returns how many met that.
func meet(p *Pool, n int64, d *dialed) (met int64) {
	var sent, refusals atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for sent.Add(1) <= n {
				var tried []*Endpoint
				for {
					e := p.Pick(tried)
					if e != p.endpoints[0] || !d.refuses.Load() {
						time.Sleep(5 * time.Millisecond)
						e.Done(Success, 5*time.Millisecond)
						break
					}
					refusals.Add(1)
					time.Sleep(100 * time.Microsecond)
					e.Done(Connect, 100*time.Microsecond)
					tried = append(tried, e)
				}
			}
		})
	}
	all.Wait()
	return refusals.Load()
}

// TestFewRequestsMeetAnEndpointThatRefuses: of 1,000 at three endpoints, most did before.
func TestFewRequestsMeetAnEndpointThatRefuses(t *testing.T) {
	for _, judged := range []bool{false, true} {
		var met [2]int64
		for i, backsOff := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c := watched(3, func(c *config.Pool) { c.Policy = "least_request" })
				if !judged {
					c.Outlier = nil
				}
				var d dialed
				d.refuses.Store(true)
				o := PoolOptions{}
				if backsOff {
					o.Dial = d.dial
				}
				p := NewPool(c, nil, o)
				p.Start()
				defer p.Stop()
				met[i] = meet(p, 1000, &d)
			})
		}
		t.Logf("judged %v: %d of 1000 requests met the endpoint that refuses, %d since it is passed over", judged, met[0], met[1])
		if met[1] > 16 || !judged && met[0] < 500 { // each of the 16 once at most
			t.Errorf("judged %v: %d met it, %d since it is passed over", judged, met[0], met[1])
		}
	}
}

func TestAnEndpointThatRefusesIsTriedLessOftenAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dialed
		d.refuses.Store(true)
		p := NewPool(poolConfig("blue", "least_request", 1, 1, 1), nil, PoolOptions{Dial: d.dial})
		p.Start()
		e := p.endpoints[0]
		start := time.Now()
		end(e, 100, Connect, 0)
		if !e.Refusing() || !e.Usable() || shares(p, 100)[0] != 0 {
			t.Error("it is not passed over")
		}
		wait(5 * time.Second)
		d.mu.Lock()
		if len(d.at) != 4 {
			t.Fatalf("%d trials in 5s, want 4", len(d.at))
		}
		for i, want := range []time.Duration{250, 750, 1750, 3750} {
			if got := d.at[i].Sub(start); got < want*time.Millisecond || got > (want+20)*time.Millisecond {
				t.Errorf("trial %d came after %v, want %d ms", i, got, want)
			}
		}
		d.mu.Unlock()
		// An older answer does not bring it back, and a reload does not lose it.
		end(e, 1, Success, time.Minute)
		next := NewPool(poolConfig("blue", "least_request", 1, 1, 1), p, PoolOptions{Dial: d.dial})
		next.Start()
		defer next.Stop()
		p.Stop()
		if !e.Refusing() || shares(next, 100)[0] != 0 {
			t.Error("it is not passed over after a reload")
		}
		d.refuses.Store(false)
		wait(1500 * time.Millisecond)
		if e.Refusing() || shares(next, 300)[0] == 0 {
			t.Error("it does not come back")
		}
	})
}

func TestWhereAllRefuseNoneIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dialed
		d.refuses.Store(true)
		p := NewPool(poolConfig("blue", "round_robin", 1, 1), nil, PoolOptions{Dial: d.dial})
		p.Start()
		defer p.Stop()
		end(p.endpoints[0], 1, Connect, 0)
		if n := len(p.UsableEndpoints()); n != 1 {
			t.Errorf("%d endpoints are picked, want the other one", n)
		}
		end(p.endpoints[1], 1, Connect, 0)
		if n := len(p.UsableEndpoints()); n != 2 {
			t.Errorf("%d endpoints are picked where all refuse, want 2", n)
		}
		time.Sleep(10 * time.Millisecond)
		end(p.endpoints[1], 1, Success, time.Millisecond) // it was sent since
		if u := p.UsableEndpoints(); len(u) != 1 || u[0] != p.endpoints[1] {
			t.Errorf("%d endpoints are picked after an answer of the second, want it", len(u))
		}
	})
}

func TestTrialsEjectInTheirRequestsStead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d dialed
		d.refuses.Store(true)
		p := NewPool(watched(3, nil), nil, PoolOptions{Dial: d.dial})
		p.Start()
		defer p.Stop()
		e := p.endpoints[0]
		end(e, 1, Connect, 0)
		wait(4 * time.Second)
		if !e.Ejected() || e.EjectionReason() != "5 failures in a row: connect" || e.Requests() != 1 {
			t.Errorf("ejected %v: %q, after %d requests", e.Ejected(), e.EjectionReason(), e.Requests())
		}
	})
}
