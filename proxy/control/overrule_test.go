package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// ramping reports whether predict has a ramp, and that what is saved, and who takes the steps, agree.
func (w *weir) ramping() bool {
	w.t.Helper()
	r, _ := w.Route("predict")
	w.mu.Lock()
	defer w.mu.Unlock()
	if saved, runs := w.doc.Routes["predict"].Ramp != nil, w.ramps["predict"] != nil; saved != runs {
		w.t.Errorf("a ramp is saved: %v, one runs: %v", saved, runs)
	}
	return r.Ramp != nil
}

func (w *weir) ramp(blue, green float64, over time.Duration) {
	w.t.Helper()
	must[proxy.RouteStatus](w.t)(w.Ramp("predict", map[string]float64{"blue": blue, "green": green}, over, by))
}

// TestRampToTheSameShares: no step but the last changes anything.
func TestRampToTheSameShares(t *testing.T) {
	store, s := newStore(), newSite(t)
	x := run(t, store, s.parse(t))
	x.ramp(9, 1, 2*time.Second)
	if !x.ramping() || x.Generation() != 1 {
		t.Fatalf("generation %d; the ramp has not begun", x.Generation())
	}
	eventually(t, "the second step", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.doc.Routes["predict"].Ramp.Done > 0 })
	x.stop()
	x = run(t, store, s.parse(t))
	if r, _ := x.Route("predict"); r.Ramp == nil || time.Until(r.Ramp.Ends) > 1100*time.Millisecond {
		t.Errorf("after a restart: %+v", r.Ramp)
	}
	eventually(t, "the ramp ends", func() bool { return x.weights() == "blue=9 green=1" })
	if x.ramping() || x.Generation() != 2 {
		t.Errorf("generation %d; %s", x.Generation(), x.weights())
	}
}

// TestRampWhoseLastStepsChangeNothing: it ends, and no reload begins it again.
func TestRampWhoseLastStepsChangeNothing(t *testing.T) {
	s := newSite(t)
	x := run(t, newStore(), s.parse(t))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 50, "green": 50}, by))
	x.ramp(50.001, 49.999, 2*time.Second)
	eventually(t, "the ramp ends", func() bool { return !x.ramping() })
	if x.weights() != "blue=50.001 green=49.999" {
		t.Error(x.weights())
	}
	_, events, cancel := x.Subscribe("")
	defer cancel()
	s.top = "trusted_proxies: [10.0.0.0/8]\n"
	if _, _, err := x.Apply(s.parse(t), by.Cause); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Type != "change" || len(events) > 0 {
		t.Errorf("a reload begins something: %s %s", e.Type, e.Data)
	}
}

// TestANewSplitEndsARamp: also where its weights are those that the ramp has reached.
func TestANewSplitEndsARamp(t *testing.T) {
	s := newSite(t)
	x := run(t, newStore(), s.parse(t))
	x.ramp(0, 1, time.Hour)
	s.split = x.Status().Routes[0].Variants[0].Pool + fmt.Sprintf(": %v, green: %v", x.Status().Routes[0].Variants[0].Weight, x.Status().Routes[0].Variants[1].Weight)
	if _, _, err := x.Apply(s.parse(t), by.Cause); err != nil {
		t.Fatal(err)
	}
	if r, _ := x.Route("predict"); x.ramping() || r.Overlay {
		t.Errorf("the ramp goes on; %+v", r)
	}
}

// TestARampThatWasStoppedStaysSo: also where a step was being taken, and where another began.
func TestARampThatWasStoppedStaysSo(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	for i := range 300 {
		to := float64(i%2) + 1
		x.ramp(3-to, to, time.Millisecond) // its second and last step comes at any moment
		time.Sleep(time.Duration(i%10) * 200 * time.Microsecond)
		_, err := x.StopRamp("predict", by)
		weights, g := x.weights(), x.Generation()
		var refused *proxy.ControlError
		if err != nil && !(errors.As(err, &refused) && refused.Code == "no_ramp") {
			t.Fatal(err)
		}
		if x.ramping() {
			t.Fatal("it goes on")
		}
		if time.Sleep(2 * time.Millisecond); x.weights() != weights || x.Generation() != g {
			t.Fatalf("a step after the stop: %s, then %s", weights, x.weights())
		}
	}
}

// TestARampThatBeginsIsNotTakenForTheOneBefore: a step of the one before is refused, and must not end it.
func TestARampThatBeginsIsNotTakenForTheOneBefore(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	for i := range enginetest.Scaled(300, 80) {
		x.ramp(float64(i%2)+1, 1, time.Millisecond)
		err := errors.New("not begun")
		for err != nil { // a step came between
			_, err = x.Ramp("predict", map[string]float64{"blue": 1, "green": float64(i) + 2}, time.Hour, by)
			if err := unless(err, "conflict"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Millisecond)
		if !x.ramping() {
			t.Fatalf("round %d: the second ramp is gone", i)
		}
	}
}

// TestSettingWeightsDoesNotEndARampThatComesAfter does both at once: whichever is the later holds.
func TestSettingWeightsDoesNotEndARampThatComesAfter(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	for i := range 200 {
		var both sync.WaitGroup
		var began atomic.Bool
		both.Go(func() {
			must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1, "green": float64(i + 2)}, by))
		})
		both.Go(func() {
			_, err := x.Ramp("predict", map[string]float64{"blue": 1, "green": 1}, time.Hour, by)
			began.Store(err == nil)
		})
		both.Wait()
		if last := x.last().Kind; began.Load() && (last == "ramp") != x.ramping() {
			t.Fatalf("round %d: the last change is %s, a ramp is under way: %v", i, last, x.ramping())
		}
	}
}

// TestCloseDuringChanges: none of them waits for it while it waits for them, and it may come twice.
func TestCloseDuringChanges(t *testing.T) {
	for range 20 {
		c, err := New(Options{Store: newStore()})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Apply(newSite(t).parse(t), by.Cause); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- c.Proxy().Serve(ctx) }()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := 0; ; i++ {
					_, err := c.Ramp("predict", map[string]float64{"blue": 90, "green": 10}, time.Hour, by) // as it is
					if err == nil && i%3 == 0 {
						_, err = c.SwitchBack("predict", by)
						err = unless(err, "no_switch", "conflict")
					}
					if err == nil && i%5 == 0 {
						_, err = c.Switch("predict", "green", by)
					}
					if err = unless(err, "conflict"); err != nil {
						var e *proxy.ControlError
						if !errors.As(err, &e) || e.Code != "stopping" {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		for range 3 {
			all.Go(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		ended := make(chan bool)
		go func() { all.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatal("a change and the close wait for each other")
		}
		c.freeze(nil)
		if _, err := c.Switch("predict", "blue", by); err == nil {
			t.Error("a change after Close")
		}
		cancel()
		<-served
	}
}

// unless is err without those of some codes.
func unless(err error, codes ...string) error {
	var e *proxy.ControlError
	if errors.As(err, &e) {
		for _, code := range codes {
			if e.Code == code {
				return nil
			}
		}
	}
	return err
}

func TestSwitchBackToWhatIsGone(t *testing.T) {
	s := newSite(t)
	x := run(t, newStore(), s.parse(t))
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	split := s.split
	apply := func() {
		t.Helper()
		if _, _, err := x.Apply(s.parse(t), by.Cause); err != nil {
			t.Fatal(err)
		}
	}
	s.split = "green: 1"
	apply()
	_, err := x.SwitchBack("predict", by)
	refused(t, err, 409, "gone")
	s.noPredict = true
	apply()
	_, err = x.SwitchBack("predict", by)
	refused(t, err, 404, "unknown_route")
	s.noPredict, s.split = false, split
	apply()
	_, err = x.SwitchBack("predict", by)
	refused(t, err, 409, "no_switch") // it is another route
}

// TestTwoThatSwitchBackAtOnce: each undoes what it found, or says that it could not.
func TestTwoThatSwitchBackAtOnce(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	for range 200 {
		before, g := x.weights(), x.Generation()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				_, err := x.SwitchBack("predict", by)
				if err := unless(err, "conflict"); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if n := x.Generation() - g; n < 1 || n > 2 || (x.weights() == before) != (n == 2) {
			t.Fatalf("%d changes, from %s to %s", n, before, x.weights())
		}
	}
}

func TestRollbackLeavesOutTheEndOfADrainOfWhatIsGone(t *testing.T) {
	s := newSite(t)
	second := model(t, "blue", always)
	one := s.blue
	s.blue = s.blue[:len(s.blue)-1] + ", " + quote(second) + "]"
	x := run(t, newStore(), s.parse(t))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 5, "green": 5}, by)) // 2
	must[proxy.PoolStatus](t)(x.Drain("blue", second, true, by))                                       // 3
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))                                       // 4
	s.blue = one
	if _, _, err := x.Apply(s.parse(t), by.Cause); err != nil { // 5
		t.Fatal(err)
	}
	if g := must[uint64](t)(x.Rollback(2, by)); g != 6 || x.weights() != "blue=5 green=5" {
		t.Errorf("generation %d, %s", g, x.weights())
	}
	_, err := x.Rollback(3, by) // where it drained
	refused(t, err, 409, "gone")
}

// TestTheHistoryIsBoundedByWhatItHolds, not by the number of changes alone.
func TestTheHistoryIsBoundedByWhatItHolds(t *testing.T) {
	change := func(g, routes int) state.Change {
		return state.Change{Generation: uint64(g), Routes: make([]state.RouteChange, routes)}
	}
	f := func(want uint64, history ...state.Change) {
		t.Helper()
		got := newest(history)
		if got[0].Generation != want || got[len(got)-1].Generation != history[len(history)-1].Generation {
			t.Errorf("of %d changes %d are kept, from generation %d; want from %d", len(history), len(got), got[0].Generation, want)
		}
	}
	f(1, change(1, maxLines/2), change(2, maxLines/2))
	f(2, change(1, 1), change(2, maxLines/2), change(3, maxLines/2))
	f(3, change(1, 1), change(2, maxLines/2), change(3, maxLines/2), change(4, 1))
	f(3, change(1, 1), change(2, 1), change(3, 2*maxLines))
	var many []state.Change
	for i := range state.MaxHistory + 5 {
		many = append(many, change(i+1, 1))
	}
	f(6, many...)
}

// TestNothingRunsOn: neither ramps, replaced and ended, nor readers outlive weir.
func TestNothingRunsOn(t *testing.T) {
	s := newSite(t)
	warm := run(t, newStore(), s.parse(t)) // what the first one starts for good
	warm.ask("/predict", "u")
	warm.stop()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	before := runtime.NumGoroutine()
	for range 10 {
		x := run(t, newStore(), s.parse(t))
		for i := range 5 {
			x.ramp(1, float64(i+2), time.Hour)
			x.Subscribe("")
		}
		_, err := x.StopRamp("predict", by)
		if err != nil {
			t.Fatal(err)
		}
		x.ramp(1, 1, time.Hour)
		s.noPredict = true
		if _, _, err := x.Apply(s.parse(t), by.Cause); err != nil { // ramps do not outlive their route
			t.Fatal(err)
		}
		s.noPredict = false
		x.mu.Lock()
		if len(x.ramps) > 0 {
			t.Errorf("%d ramps without a route", len(x.ramps))
		}
		x.mu.Unlock()
		x.stop()
	}
	eventually(t, fmt.Sprintf("at most %d goroutines", before+2), func() bool { return runtime.NumGoroutine() <= before+2 })
}
