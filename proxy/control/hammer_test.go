package control

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// gather returns the changes that the event stream tells, also where it was dropped meanwhile, until
// end says up to which generation.
func (w *weir) gather(from uint64, end <-chan uint64) <-chan []state.Change {
	out := make(chan []state.Change, 1)
	_, events, cancel := w.Subscribe("")
	go func() {
		var all []state.Change
		last, until := "", uint64(0)
		take := func(e Event) {
			var c state.Change
			if last = e.ID; e.Type == "change" && json.Unmarshal(e.Data, &c) == nil {
				all = append(all, c)
			} else if e.Type == "lost" {
				w.t.Error("the reader was too slow for this test")
			}
		}
		for until == 0 || len(all) > 0 && all[len(all)-1].Generation < until || len(all) == 0 && from < until {
			select {
			case until = <-end:
				end = nil
			case e, ok := <-events:
				if ok {
					take(e)
					continue
				}
				var missed []Event
				missed, events, cancel = w.Subscribe(last)
				for _, e := range missed {
					take(e)
				}
			}
		}
		cancel()
		out <- all
	}()
	return out
}

// TestAllAtOnce: whatever happens at once happened one after the other: every change follows from the one
// before, nothing was in force that none of them made, and what is saved is what is in force.
func TestAllAtOnce(t *testing.T) {
	var flaps atomic.Uint64
	s := newSite(t)
	second := model(t, "blue", func() bool { return flaps.Add(1)%3 != 0 })
	s.blue = s.blue[:len(s.blue)-1] + ", " + quote(second) + "]"
	s.pool = "probe: {path: /health, interval: 100ms, timeout: 90ms, rise: 1, fall: 1}"
	files := [4]site{s, s, s, s}
	files[1].top = "trusted_proxies: [10.0.0.0/8]\n"
	files[2].split = "blue: 1, green: 1"
	files[3].pool += ", policy: round_robin" // another pool takes the endpoints over, and waits for those who tell of their health
	var cfgs []*config.Config
	for _, f := range files {
		cfgs = append(cfgs, f.parse(t))
	}
	store := newStore()
	x := run(t, store, cfgs[0])
	begins := x.last()
	end := make(chan uint64, 1)
	told := x.gather(1, end)

	stop := make(chan bool)
	var all sync.WaitGroup
	hammer := func(f func(r *rand.Rand) error) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := unless(f(r), "conflict", "no_switch", "no_history", "no_ramp", "forgotten", "no_healthy_endpoint", "gone"); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			}
		})
	}
	forced := by
	forced.Force = true
	either := func(r *rand.Rand) Change { return []Change{by, forced}[r.IntN(2)] }
	weights := func(r *rand.Rand) map[string]float64 {
		return map[string]float64{"blue": float64(r.IntN(100)), "green": float64(1 + r.IntN(100))}
	}
	hammer(func(r *rand.Rand) error { _, err := x.SetWeights("predict", weights(r), either(r)); return err })
	hammer(func(r *rand.Rand) error {
		_, err := x.Switch("predict", []string{"blue", "green"}[r.IntN(2)], either(r))
		return err
	})
	hammer(func(r *rand.Rand) error { _, err := x.SwitchBack("predict", either(r)); return err })
	hammer(func(r *rand.Rand) error {
		_, err := x.Drain("blue", []string{"", second}[r.IntN(2)], r.IntN(2) == 0, either(r))
		return err
	})
	hammer(func(r *rand.Rand) error { _, err := x.Rollback(0, forced); return err })
	hammer(func(r *rand.Rand) error {
		_, err := x.Rollback(max(1, x.Generation()-min(x.Generation(), uint64(r.IntN(20)))), forced)
		return err
	})
	hammer(func(r *rand.Rand) error {
		_, err := x.Ramp("predict", weights(r), time.Duration(1+r.IntN(5))*time.Millisecond, either(r))
		return err
	})
	hammer(func(r *rand.Rand) error { _, err := x.StopRamp("predict", by); return err })
	hammer(func(r *rand.Rand) error {
		time.Sleep(5 * time.Millisecond)
		_, _, err := x.Apply(cfgs[r.IntN(len(cfgs))], by.Cause)
		return err
	})
	hammer(func(r *rand.Rand) error { // busy is the answer of some, and a ramp stands still
		time.Sleep(20 * time.Millisecond)
		x.Freeze(&proxy.ControlError{Code: "conflict"})
		x.freeze(nil)
		return nil
	})
	var seen sync.Map // "generation weights" of predict
	for range 2 {
		hammer(func(*rand.Rand) error {
			r, _ := x.Route("predict")
			seen.Store(fmt.Sprint(r.Generation, " ", shown(r)), true)
			for _, r := range x.Status().Routes[:1] {
				seen.Store(fmt.Sprint(r.Generation, " ", shown(r)), true)
			}
			return nil
		})
	}
	time.Sleep(3 * time.Second)
	close(stop)
	all.Wait()
	if _, err := x.StopRamp("predict", by); unless(err, "no_ramp") != nil {
		t.Error(err)
	}
	end <- x.Generation()
	changes := append([]state.Change{begins}, <-told...)
	if len(changes) < 100 {
		t.Errorf("only %d changes", len(changes))
	}
	made := consistent(t, changes)
	n := 0
	seen.Range(func(k, _ any) bool {
		if n++; !made[k.(string)] {
			t.Errorf("somebody saw %v, which no change made", k)
		}
		return true
	})
	if h, tail := x.History(), changes[max(0, len(changes)-state.MaxHistory):]; len(h) != len(tail) || h[0].Generation != tail[0].Generation {
		t.Errorf("the history has %d changes, want %d", len(h), len(tail))
	}
	x.savedIsLive(store)
	weightsThen, drainingThen, g := x.weights(), x.draining(), x.Generation()
	cfg := x.Proxy().Config()
	x.stop()
	x = run(t, store, cfg)
	if x.weights() != weightsThen || !slices.Equal(x.draining(), drainingThen) || x.Generation() != g {
		t.Errorf("after a restart: generation %d, %s, %v; want %d, %s, %v", x.Generation(), x.weights(), x.draining(), g, weightsThen, drainingThen)
	}
	t.Logf("%d changes, %d states seen", len(changes), n)
}

func shown(r proxy.RouteStatus) string {
	var s []string
	for _, v := range r.Variants {
		s = append(s, fmt.Sprintf("%s=%v", v.Pool, v.Weight))
	}
	return strings.Join(s, " ")
}

// consistent checks that each change follows from those before it, and returns the states of predict by the
// generations that may be shown with them: a change may concern the route and leave its weights.
func consistent(t *testing.T, changes []state.Change) map[string]bool {
	t.Helper()
	weights, drains, made := map[string][]state.Weight{}, map[state.DrainChange]bool{}, map[string]bool{}
	for i, c := range changes {
		if want := changes[0].Generation + uint64(i); c.Generation != want {
			t.Fatalf("generation %d follows %d", c.Generation, want-1)
		}
		for _, r := range c.Routes {
			if !slices.Equal(r.Before, weights[r.Route]) || slices.Equal(r.Before, r.After) {
				t.Fatalf("generation %d (%s): route %s from %v to %v; it was at %v", c.Generation, c.Kind, r.Route, r.Before, r.After, weights[r.Route])
			}
			weights[r.Route] = r.After
		}
		for _, d := range c.Drains {
			key := state.DrainChange{Pool: d.Pool, Endpoint: d.Endpoint}
			if drains[key] == d.Draining {
				t.Fatalf("generation %d (%s): %+v, as it was", c.Generation, c.Kind, d)
			}
			drains[key] = d.Draining
		}
		made[fmt.Sprint(c.Generation, " ", names(weights["predict"]))] = true
	}
	return made
}

func (w *weir) savedIsLive(store state.Store) {
	w.t.Helper()
	doc, err := store.Load()
	if err != nil {
		w.t.Fatal(err)
	}
	var drains []string
	for name, p := range doc.Pools {
		if p.Draining {
			drains = append(drains, name)
			continue
		}
		for _, e := range p.Endpoints {
			drains = append(drains, name+"/"+e)
		}
	}
	slices.Sort(drains)
	saved := doc.Routes["predict"]
	inForce := saved.Overlay
	if inForce == nil {
		inForce = saved.Split
	}
	r, _ := w.Route("predict")
	if w.Unsaved() != nil || doc.Generation != w.Generation() || names(inForce) != w.weights() || (saved.Overlay != nil) != r.Overlay || saved.Generation != r.Generation ||
		!slices.Equal(drains, w.draining()) || (saved.Ramp != nil) != w.ramping() {
		w.t.Errorf("saved %+v, draining %v, generation %d; in force %+v, %v, %d", saved, drains, doc.Generation, r, w.draining(), w.Generation())
	}
}
