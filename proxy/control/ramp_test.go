package control

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/state"
	"weir/proxy"
)

func TestRampSteps(t *testing.T) {
	for total, want := range map[time.Duration]int{time.Millisecond: 1, time.Second: 1, 5 * time.Second: 5, 20 * time.Second: 20, 5 * time.Minute: 20} {
		r := &state.Ramp{From: w("a", 3, "b", 1), To: w("a", 0, "b", 7), Total: total}
		n := steps(total)
		if n != want {
			t.Errorf("%v: %d steps, want %d", total, n, want)
		}
		last := 25.0
		for k := range n + 1 {
			set := at(r, k, n)
			if sum := set[0].Weight + set[1].Weight; k < n && (sum < 99.99 || sum > 100.01) {
				t.Errorf("%v, step %d: %v sum to %v", total, k, set, sum)
			}
			if b := set[1].Weight; k < n && (b <= last || b >= 100) {
				t.Errorf("%v, step %d: %v after %v", total, k, b, last)
			} else {
				last = b
			}
			r.Done = total / time.Duration(n) * time.Duration(k)
			if got := made(r, n); got != k {
				t.Errorf("%v, step %d is taken for %d after a restart", total, k, got)
			}
		}
		if end := at(r, n, n); !slices.Equal(end, r.To) {
			t.Errorf("the end is %v", end)
		}
	}
}

// kinds are those of the last n changes.
func (x *weir) kinds(n int) (kinds []string) {
	h := x.History()
	for _, c := range h[max(0, len(h)-n):] {
		kinds = append(kinds, c.Kind)
	}
	return kinds
}

func TestRampToItsEnd(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	_, events, cancel := x.Subscribe("")
	defer cancel()
	r := must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 3}, 2*time.Second, by))
	if r.Ramp == nil || !slices.Equal(r.Ramp.To, w("blue", 0, "green", 3)) || time.Until(r.Ramp.Ends) > 2*time.Second || r.Variants[1].Weight != 40 {
		t.Errorf("after the first step: %+v, %+v", r, r.Ramp)
	}
	eventually(t, "the ramp ends", func() bool { r, _ := x.Route("predict"); return r.Ramp == nil })
	if got := x.weights(); got != "blue=0 green=3" {
		t.Error(got)
	}
	if got := x.kinds(3); !slices.Equal(got, []string{"ramp", "ramp", "ramp"}) || x.Generation() != 4 {
		t.Errorf("%v, generation %d", got, x.Generation())
	}
	var told []string
	for len(told) < 5 {
		select {
		case e := <-events:
			told = append(told, e.Type)
		case <-time.After(5 * time.Second):
			t.Fatalf("events: %v", told)
		}
	}
	if got := strings.Join(told, " "); got != "change ramp change change ramp" {
		t.Error(got)
	}
	must[uint64](t)(x.Rollback(0, by)) // the whole of it
	if got := x.weights(); got != "blue=90 green=10" {
		t.Errorf("after a rollback: %s", got)
	}
}

func TestRampIsStopped(t *testing.T) {
	s := newSite(t)
	for name, tt := range map[string]struct {
		stop func(*weir) (any, error)
		why  string
	}{
		"by an operator": {func(x *weir) (any, error) { return x.StopRamp("predict", by) }, ""},
		"by weights": {func(x *weir) (any, error) {
			return x.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, by)
		}, "the weights were changed: weights"},
		"by its own weights": {func(x *weir) (any, error) {
			now, _ := x.Proxy().Weigh("predict", nil)
			return x.SetWeights("predict", byName(now), by)
		}, "the weights were set to where it was"},
		"by a switch":   {func(x *weir) (any, error) { return x.Switch("predict", "blue", by) }, "the weights were changed: switch"},
		"by a rollback": {func(x *weir) (any, error) { return x.Rollback(1, by) }, "the weights were changed: rollback"},
		"by a reload": {func(x *weir) (any, error) {
			other := s
			other.split = "blue: 7, green: 1"
			_, _, err := x.Apply(other.parse(t), by.Cause)
			return nil, err
		}, "the weights were changed: reload"},
	} {
		t.Run(name, func(t *testing.T) {
			x := run(t, newStore(), s.parse(t))
			began := Change{Cause: proxy.Cause{By: "another", Reason: "its own"}}
			must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Second, began))
			_, events, cancel := x.Subscribe("")
			defer cancel()
			if _, err := tt.stop(x); err != nil {
				t.Fatal(err)
			}
			r, _ := x.Route("predict")
			if r.Ramp != nil {
				t.Error("the ramp goes on")
			}
			if got, want := stopped(t, events), (rampEvent{Route: "predict", State: "stopped", By: "tester", Reason: "a test", Why: tt.why}); !reflect.DeepEqual(got, want) {
				t.Errorf("told %+v, want %+v", got, want)
			}
			generation, weights := x.Generation(), x.weights()
			time.Sleep(1200 * time.Millisecond) // the next step would be due
			if x.Generation() != generation || x.weights() != weights {
				t.Errorf("the ramp took another step: %s, then %s", weights, x.weights())
			}
		})
	}
}

// stopped is the next event of a ramp that stopped.
func stopped(t *testing.T, events <-chan Event) (r rampEvent) {
	t.Helper()
	for r.State != "stopped" {
		select {
		case e := <-events:
			if r = (rampEvent{}); e.Type == "ramp" {
				if err := json.Unmarshal(e.Data, &r); err != nil {
					t.Fatal(err)
				}
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no event tells that the ramp stopped")
		}
	}
	return r
}

func TestRampThatIsReplaced(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Hour, by))
	_, events, cancel := x.Subscribe("")
	defer cancel()
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 1, "green": 0}, time.Second, by))
	if got := stopped(t, events); got.By != "tester" || got.Reason != "a test" || got.Why != "another ramp began" {
		t.Errorf("told %+v", got)
	}
	eventually(t, "the second ramp ends", func() bool { return x.weights() == "blue=1 green=0" })
	if r, _ := x.Route("predict"); r.Ramp != nil {
		t.Errorf("%+v", r.Ramp)
	}
}

func TestRampStopsWhereItsTargetFails(t *testing.T) {
	s := newSite(t)
	healthy := true
	green := model(t, "green", func() bool { return healthy })
	s.green = "[" + quote(green) + "]"
	s.pool = "probe: {path: /health, interval: 100ms, timeout: 90ms, rise: 1, fall: 1}"
	x := run(t, newStore(), s.parse(t))
	x.ask("/predict", "")
	must[proxy.PoolStatus](t)(x.Drain("green", "", false, by))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, 2*time.Second, by))
	force := by
	force.Force = true
	_, events, cancel := x.Subscribe("")
	defer cancel()
	must[proxy.PoolStatus](t)(x.Drain("green", "", true, force))
	if got := stopped(t, events); got.By != "" || got.Reason != "" || got.Why == "" { // nobody asked for that
		t.Errorf("told %+v", got)
	}
	eventually(t, "the ramp stops", func() bool { r, _ := x.Route("predict"); return r.Ramp == nil })
	if got := x.weights(); got == "blue=0 green=1" {
		t.Errorf("it went on to the end: %s", got)
	}
}

func TestRampGoesOnAfterARestart(t *testing.T) {
	store, s := newStore(), newSite(t)
	x := run(t, store, s.parse(t))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, 3*time.Second, by))
	eventually(t, "the second step", func() bool { return x.Generation() == 3 })
	x.stop()
	weights := x.weights()
	x = run(t, store, s.parse(t))
	r, _ := x.Route("predict")
	if x.weights() != weights || r.Ramp == nil || time.Until(r.Ramp.Ends) > 2100*time.Millisecond {
		t.Errorf("after the restart: %s, want %s; %+v", x.weights(), weights, r.Ramp)
	}
	eventually(t, "the ramp ends", func() bool { return x.weights() == "blue=0 green=1" })
	if x.Generation() != 5 {
		t.Errorf("generation %d, want 5", x.Generation())
	}

	// Not where the file has another split by now.
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 1, "green": 0}, 3*time.Second, by))
	x.stop()
	s.split = "blue: 3, green: 1"
	x = run(t, store, s.parse(t))
	if r, _ := x.Route("predict"); r.Ramp != nil || x.weights() != "blue=3 green=1" {
		t.Errorf("%s, %+v", x.weights(), r.Ramp)
	}
}

func TestRollbackOfARampThatSomethingInterrupted(t *testing.T) {
	store, s := newStore(), newSite(t)
	x := run(t, store, s.parse(t))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, 3*time.Second, by)) // 2
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by))                                                    // 3
	must[proxy.PoolStatus](t)(x.Drain("blue", "", false, by))                                                   // 4
	x.stop()
	x = run(t, store, s.parse(t))
	eventually(t, "another step", func() bool { return x.last().Kind == state.KindRamp && x.last().Generation > 4 })
	if first := x.last().First; first != 2 {
		t.Errorf("the step belongs to the ramp of generation %d, want 2", first)
	}
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by))
	eventually(t, "the last step", func() bool { return x.last().Kind == state.KindRamp && x.weights() == "blue=0 green=1" })
	must[uint64](t)(x.Rollback(0, Change{Force: true})) // blue drains
	if got := x.weights(); got != "blue=90 green=10" {
		t.Errorf("after a rollback: %s", got)
	}
	if got := x.draining(); !slices.Equal(got, []string{"blue"}) {
		t.Errorf("the rollback of a ramp ended a drain of somebody else: %v", got)
	}
	if r, _ := x.Route("predict"); r.Ramp != nil {
		t.Errorf("the ramp goes on: %+v", r.Ramp)
	}
}

func TestRollbackOfTheSecondOfTwoRamps(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Second, by))
	eventually(t, "the first ramp ends", func() bool { r, _ := x.Route("predict"); return r.Ramp == nil })
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 1, "green": 0}, time.Second, by))
	eventually(t, "the second ramp ends", func() bool { r, _ := x.Route("predict"); return r.Ramp == nil })
	must[uint64](t)(x.Rollback(0, by))
	if got := x.weights(); got != "blue=0 green=1" {
		t.Errorf("after a rollback: %s", got)
	}
}
