package balancer

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// watched returns a pool of n endpoints with the default outlier detection, changed by change.
func watched(n int, change func(*config.Pool)) config.Pool {
	c := poolConfig("blue", "round_robin", slices.Repeat([]float64{1}, n)...)
	o := config.DefaultOutlier()
	c.Outlier = &o
	if change != nil {
		change(&c)
	}
	return c
}

// ejections notes what PoolOptions.Ejected and Log are told.
type ejections struct {
	mu    sync.Mutex
	lines []string
	log   []string
}

func (l *ejections) ejected(e *Endpoint, ejected bool, why string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Sprintf("%s %v usable=%v: %s", e.Address, ejected, e.Usable(), why)
	if until != e.EjectedUntil() || ejected != e.Ejected() {
		line += " (not what the endpoint says)"
	}
	l.lines = append(l.lines, line)
}

func (l *ejections) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf(format, args...))
}

func (l *ejections) want(t *testing.T, when string, lines ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.lines, lines) {
		t.Errorf("%s: told %q, want %q", when, l.lines, lines)
	}
	l.lines = nil
}

func (l *ejections) options() PoolOptions { return PoolOptions{Ejected: l.ejected, Log: l.logf} }

// end ends n attempts at e with o, as if each had taken d, and lets them be judged.
func end(e *Endpoint, n int, o Outcome, d time.Duration) {
	for range n {
		e.inflight.Add(1)
		e.Done(o, d)
	}
	wait(2 * alarmDelay)
}

// untilReadmitted waits until e is not ejected any more.
func untilReadmitted(e *Endpoint) {
	wait(time.Until(e.EjectedUntil()) + tendGap + alarmDelay)
}

func TestARowOfFailuresEjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(3, nil), nil, told.options())
		p.Start()
		defer p.Stop()
		e := p.endpoints[0]
		end(e, 4, Reset, 0)
		end(e, 1, Success, 0)
		end(e, 4, Connect, 0)
		end(e, 100, Canceled, 0)
		if e.Ejected() || e.EjectionReason() != "" || !e.EjectedUntil().IsZero() {
			t.Fatalf("ejected (%s) after 4 failures in a row", e.EjectionReason())
		}
		begin := time.Now()
		end(e, 1, Timeout, 0)
		if !e.Ejected() || e.Usable() || !e.Healthy() || e.EffectiveWeight() != 0 || e.Ejections() != 1 {
			t.Fatalf("after 5: ejected %v, usable %v, healthy %v, effective weight %v, %d ejections; want true, false, true, 0, 1",
				e.Ejected(), e.Usable(), e.Healthy(), e.EffectiveWeight(), e.Ejections())
		}
		if d := e.EjectedUntil().Sub(begin); d < 27*time.Second || d > 33*time.Second+2*alarmDelay {
			t.Errorf("ejected for %v, want 30s ± 10 %%", d)
		}
		told.want(t, "an ejection", "127.0.0.1:8001 true usable=false: 5 failures in a row: timeout")
		if got := shares(p, 30); got[0] != 0 {
			t.Errorf("picked %v, want none of the first", got)
		}
		end(e, 10, Timeout, 0) // what was under way still fails
		told.want(t, "afterwards")

		untilReadmitted(e)
		if e.Ejected() || !e.Usable() || e.EffectiveWeight() != 0.1 {
			t.Errorf("on return: ejected %v, usable %v, effective weight %v; want false, true, 0.1", e.Ejected(), e.Usable(), e.EffectiveWeight())
		}
		told.want(t, "the return", "127.0.0.1:8001 false usable=true: its ejection is over")
		log := strings.Join(told.log, "\n")
		if !strings.HasPrefix(log, "endpoint 127.0.0.1:8001 of pool blue is ejected for ") ||
			!strings.HasSuffix(log, "s: 5 failures in a row: timeout\nendpoint 127.0.0.1:8001 of pool blue is readmitted: its ejection is over") {
			t.Errorf("logged %q", told.log)
		}
	})
}

func TestAPercentageOfFailuresEjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(3, func(c *config.Pool) {
			c.Outlier.ConsecutiveFailures, c.Outlier.FailurePercent = 0, 50
		}), nil, told.options())
		p.Start()
		defer p.Stop()
		a, b, c := p.endpoints[0], p.endpoints[1], p.endpoints[2]
		end(a, 19, Reset, 0)    // too few
		end(b, 26, Success, 0)  // too well
		end(b, 25, Status, 0)   //
		end(c, 100, Success, 0) //
		end(c, 50, Canceled, 0) //
		wait(10 * time.Second)
		told.want(t, "the first interval")
		// Of two that are due, the worse one goes, whatever their order.
		end(a, 20, Success, 0)
		end(a, 30, Reset, 0)
		end(b, 10, Success, 0)
		end(b, 30, Reset, 0)
		wait(10 * time.Second)
		told.want(t, "the second interval", "127.0.0.1:8002 true usable=false: 75 % of 40 requests failed")
		if a.Spared() != 1 || b.Spared() != 0 || a.Ejected() {
			t.Errorf("spared %d and %d times, the first is ejected: %v; want 1, 0, false", a.Spared(), b.Spared(), a.Ejected())
		}
		wait(10 * time.Second)
		told.want(t, "an interval without requests")
	})
}

func TestIntervalsGoOnOverReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := watched(3, func(c *config.Pool) { c.Outlier.ConsecutiveFailures, c.Outlier.FailurePercent = 0, 50 })
		p := NewPool(c, nil, PoolOptions{})
		p.Start()
		for range 6 {
			end(p.endpoints[0], 10, Reset, 0)
			wait(2 * time.Second)
			next := NewPool(c, p, PoolOptions{})
			next.Start()
			p.Stop()
			p = next
		}
		if !p.endpoints[0].Ejected() {
			t.Error("reloads every 2 s keep an interval of 10 s from ending")
		}
		p.Stop()
	})
}

func TestOnTrialOneFailureEjectsForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(3, nil), nil, told.options())
		p.Start()
		defer p.Stop()
		e := p.endpoints[0]
		end(e, 5, Reset, 0)
		untilReadmitted(e)
		told.mu.Lock()
		told.lines = nil
		told.mu.Unlock()
		end(e, trialSuccesses-1, Success, 0)
		end(e, 50, Canceled, 0)
		begin := time.Now()
		end(e, 1, Status, 0)
		told.want(t, "a failure on trial", "127.0.0.1:8001 true usable=false: it failed again on its return: status")
		if d := e.EjectedUntil().Sub(begin); d < 54*time.Second || d > 66*time.Second+2*alarmDelay {
			t.Errorf("ejected for %v, want 60s ± 10 %%", d)
		}
		untilReadmitted(e)
		end(e, trialSuccesses, Success, 0)
		end(e, 4, Reset, 0)
		if e.Ejected() {
			t.Errorf("ejected although it passed its trial: %s", e.EjectionReason())
		}
		if wait(returnRamp); e.EffectiveWeight() != 1 {
			t.Errorf("effective weight %v after %v, want 1", e.EffectiveWeight(), returnRamp)
		}
	})
}

// TestWhatWasSentBeforeTheReturnDoesNotCount: attempts that hang may end long after an ejection did.
func TestWhatWasSentBeforeTheReturnDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(watched(3, func(c *config.Pool) { c.Outlier.FailurePercent = 50 }), nil, PoolOptions{})
		p.Start()
		defer p.Stop()
		e := p.endpoints[0]
		end(e, 5, Timeout, 0)
		wait(time.Until(e.EjectedUntil()) - 10*time.Millisecond)
		end(e, 100, Timeout, 0)
		untilReadmitted(e)
		wait(time.Second)
		end(e, 100, Timeout, time.Minute)
		end(e, trialSuccesses, Success, time.Minute)
		wait(10 * time.Second)
		if e.Ejected() {
			t.Fatalf("ejected for what was sent before its return: %s", e.EjectionReason())
		}
		end(e, 1, Timeout, 5*time.Second)
		if !e.Ejected() {
			t.Error("successes of before its return ended its trial")
		}
	})
}

func TestEjectionsSurviveReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(3, nil), nil, told.options())
		p.Start()
		e := p.endpoints[0]
		end(e, 5, Reset, 0)
		until := e.EjectedUntil()
		end(p.endpoints[1], 4, Reset, 0)

		next := NewPool(watched(4, func(c *config.Pool) { c.Policy = "least_request" }), p, told.options())
		if got := shares(next, 100); got[0] != 0 {
			t.Errorf("picked %v before the start, want none of the ejected one", got)
		}
		next.Start()
		p.Stop()
		if !e.Ejected() || e.EjectedUntil() != until || next.endpoints[0] != e {
			t.Error("a reload ended the ejection")
		}
		if got := shares(next, 100); got[0] != 0 {
			t.Errorf("picked %v, want none of the ejected one", got)
		}
		untilReadmitted(e)
		told.want(t, "a reload between", "127.0.0.1:8001 true usable=false: 5 failures in a row: reset", "127.0.0.1:8001 false usable=true: its ejection is over")

		end(e, 1, Reset, 0) // on trial
		end(next.endpoints[1], 4, Reset, 0)
		off := NewPool(watched(3, func(c *config.Pool) { c.Outlier = nil }), next, told.options())
		off.Start()
		next.Stop()
		synctest.Wait()
		if e.Ejected() || e.EffectiveWeight() != 1 || !slices.Equal(shares(off, 3), []int{1, 1, 1}) {
			t.Errorf("outlier: off: ejected %v, effective weight %v; want false, 1", e.Ejected(), e.EffectiveWeight())
		}
		told.want(t, "outlier: off", "127.0.0.1:8001 true usable=false: it failed again on its return: reset", "127.0.0.1:8001 false usable=true: there is no outlier detection any more")
		end(e, 100, Reset, 0)
		on := NewPool(watched(3, func(c *config.Pool) { c.Outlier.FailurePercent = 50 }), off, told.options())
		on.Start()
		off.Stop()
		end(e, 1, Reset, 0)
		end(on.endpoints[1], 1, Reset, 0)
		wait(time.Minute)
		told.want(t, "what nobody watched, or a pool before that") // must not count when somebody does again
		end(e, 4, Reset, 0)
		told.want(t, "a row since", "127.0.0.1:8001 true usable=false: 5 failures in a row: reset")
		on.Stop()
	})
}

// TestCallbacksHoldNoLock calls all from the callbacks that they may call.
func TestCallbacksHoldNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *Pool
		calls := 0
		look := func() {
			calls++
			p.Drain(false)
			p.DrainEndpoint(p.endpoints[2].Address, calls%2 == 0)
			for _, e := range p.Endpoints() {
				_, _, _, _ = e.EjectedUntil(), e.EjectionReason(), e.EffectiveWeight(), e.ProbeError()
				end := p.Pick(nil)
				end.Done(Reset, 0)
			}
		}
		p = NewPool(watched(3, nil), nil, PoolOptions{
			Ejected: func(*Endpoint, bool, string, time.Time) { look() },
			Changed: func(*Pool) { look() },
			Log:     func(string, ...any) { look() },
		})
		p.Start()
		end(p.endpoints[0], 5, Reset, 0)
		wait(40 * time.Second)
		p.Stop()
		if calls < 6 {
			t.Errorf("%d calls, want all three of an ejection and of a return", calls)
		}
	})
}

func TestPickPrefersATriedOneToAnEjectedOne(t *testing.T) {
	for _, policy := range config.Policies() {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPool(watched(4, func(c *config.Pool) { c.Policy = policy }), nil, PoolOptions{})
				p.Start()
				defer p.Stop()
				end(p.endpoints[0], 5, Reset, 0)
				end(p.endpoints[3], 5, Reset, 0)
				for range 200 {
					var tried []*Endpoint
					for i := range 4 {
						e := p.Pick(tried)
						if e.Ejected() {
							t.Fatalf("picked an ejected endpoint with %d tried", len(tried))
						}
						if i < 2 && slices.Contains(tried, e) {
							t.Fatal("picked one again with another left")
						}
						e.Done(Success, 0)
						tried = append(tried, e)
					}
				}
			})
		})
	}
}

// TestEjectionsUnderConcurrency has everything happen at once; the race detector watches.
func TestEjectionsUnderConcurrency(t *testing.T) {
	var told ejections
	c := watched(4, func(c *config.Pool) {
		c.SlowStart, c.PanicThreshold = 10*time.Millisecond, 60
		c.Outlier.FailurePercent, c.Outlier.Interval = 50, 5*time.Millisecond
		c.Outlier.Ejection, c.Outlier.MaxEjection = 2*time.Millisecond, 10*time.Millisecond
	})
	var mu sync.Mutex
	pool := NewPool(c, nil, told.options())
	pool.Start()
	current := func() *Pool { mu.Lock(); defer mu.Unlock(); return pool }
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e := current().Pick(nil)
				if e == nil {
					t.Error("no endpoint is usable")
					return
				}
				e.Done([]Outcome{Reset, Reset, Success}[i%3], time.Duration(i%7)*time.Millisecond)
			}
		})
	}
	for i := range 100 {
		c := c
		if i%10 == 9 {
			c.Outlier = nil
		}
		next := NewPool(c, current(), told.options())
		next.Start()
		mu.Lock()
		old := pool
		pool = next
		mu.Unlock()
		old.Stop()
		next.DrainEndpoint("127.0.0.1:8004", i%2 == 0)
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	load.Wait()
	pool.Stop()
	ejected := uint64(0)
	for _, e := range pool.endpoints {
		ejected += e.Ejections()
	}
	if ejected < 10 {
		t.Errorf("%d ejections, want many", ejected)
	}
}

func TestPickEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(watched(4, nil), nil, PoolOptions{})
		p.Start()
		defer p.Stop()
		e := p.endpoints
		end(e[0], 5, Reset, 0)
		wait(10 * time.Second) // more than jitter can make up for
		end(e[1], 5, Reset, 0)
		want := func(what string, want *Endpoint, tried ...*Endpoint) {
			t.Helper()
			got := p.PickEjected(tried)
			if got != want {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
			if got == nil {
				return
			}
			if n := got.Inflight(); n != 1 {
				t.Errorf("%s: %d in flight, want 1", what, n)
			}
			got.Done(Success, 0)
		}
		want("nothing was tried", nil)
		want("a usable one is left", nil, e[2])
		want("all usable ones were tried", e[0], e[2], e[3])
		want("and the ejected one that comes back first", e[1], e[2], e[3], e[0])
		want("everything was tried", nil, e...)
		p.DrainEndpoint(e[0].Address, true)
		want("it drains", e[1], e[2], e[3])
	})
}
