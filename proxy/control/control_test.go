package control

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

func w(pairs ...any) (set []state.Weight) {
	for i := 0; i < len(pairs); i += 2 {
		set = append(set, state.Weight{Pool: pairs[i].(string), Weight: float64(pairs[i+1].(int))})
	}
	return set
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *proxy.ControlError
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Errorf("error %v, want %d %s", err, status, code)
	}
}

func TestEveryChangeIsInTheHistory(t *testing.T) {
	s := newSite(t)
	x := run(t, newStore(), s.parse(t))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 60, "green": 40}, by))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 60, "green": 40}, by)) // nothing
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	must[proxy.RouteStatus](t)(x.SwitchBack("predict", by))
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by))
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by)) // nothing
	must[proxy.PoolStatus](t)(x.Drain("blue", "", false, by))
	must[uint64](t)(x.Rollback(2, by)) // to 60, 40, where it is: nothing
	must[uint64](t)(x.Rollback(1, by))
	s.split = "blue: 1, green: 1"
	s.top = "trusted_proxies: [10.0.0.0/8]\n"
	_, changes, err := x.Apply(s.parse(t), proxy.Cause{By: "signal"})
	if err != nil || len(changes) != 3 {
		t.Fatalf("%q, %v", changes, err)
	}
	route := func(before, after []state.Weight) []state.RouteChange {
		return []state.RouteChange{{Route: "predict", Before: before, After: after}}
	}
	want := []state.Change{
		{Generation: 1, Kind: "start", By: "file", Routes: []state.RouteChange{{Route: "predict", After: w("blue", 90, "green", 10)}, {Route: "rank", After: w("green", 1)}},
			Notes: []string{"1 listener, 2 routes, 2 pools with 2 endpoints"}},
		{Generation: 2, Kind: "weights", By: "tester", Reason: "a test", Routes: route(w("blue", 90, "green", 10), w("blue", 60, "green", 40))},
		{Generation: 3, Kind: "switch", By: "tester", Reason: "a test", Routes: route(w("blue", 60, "green", 40), w("blue", 0, "green", 100))},
		{Generation: 4, Kind: "switch", By: "tester", Reason: "a test", Routes: route(w("blue", 0, "green", 100), w("blue", 60, "green", 40))},
		{Generation: 5, Kind: "drain", By: "tester", Reason: "a test", Drains: []state.DrainChange{{Pool: "blue", Draining: true}}},
		{Generation: 6, Kind: "undrain", By: "tester", Reason: "a test", Drains: []state.DrainChange{{Pool: "blue"}}},
		{Generation: 7, Kind: "rollback", By: "tester", Reason: "a test", Routes: route(w("blue", 60, "green", 40), w("blue", 90, "green", 10)), To: 1},
		{Generation: 8, Kind: "reload", By: "signal", Routes: route(w("blue", 90, "green", 10), w("blue", 1, "green", 1)),
			Notes: []string{"trusted_proxies: added (10.0.0.0/8)"}}, // not the weights again
	}
	if diff := cmp.Diff(want, x.History(), cmpopts.IgnoreFields(state.Change{}, "Time")); diff != "" {
		t.Error(diff)
	}
	for _, h := range x.History() {
		if age := time.Since(h.Time); age < 0 || age > time.Minute {
			t.Errorf("generation %d at %v", h.Generation, h.Time)
		}
	}
}

func TestRequestsFollowAtOnce(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	for range 10 {
		must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
		if got := x.ask("/predict", "u"); got != "green" {
			t.Fatalf("after a switch to green: %s", got)
		}
		must[proxy.RouteStatus](t)(x.Switch("predict", "blue", by))
		if got := x.ask("/predict", "u"); got != "blue" {
			t.Fatalf("after a switch to blue: %s", got)
		}
	}
}

func TestDrainMovesSubjectsAndBringsThemBack(t *testing.T) {
	s := newSite(t)
	s.split = "blue: 1, green: 1"
	x := run(t, newStore(), s.parse(t))
	before := x.met()
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by))
	if during := x.met(); slices.Contains(during, "blue") {
		t.Error("a draining pool gets requests")
	}
	must[proxy.PoolStatus](t)(x.Drain("blue", "", false, by))
	if after := x.met(); !slices.Equal(before, after) {
		t.Error("after the drain subjects are elsewhere")
	}
}

func TestRollback(t *testing.T) {
	s := newSite(t)
	second := model(t, "blue", always)
	s.blue = s.blue[:len(s.blue)-1] + ", " + quote(second) + "]"
	store := newStore()
	x := run(t, store, s.parse(t))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 50, "green": 50}, by)) // 2
	must[proxy.PoolStatus](t)(x.Drain("blue", second, true, by))                                         // 3
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))                                         // 4
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, by))                                             // 5

	f := func(to uint64, generation uint64, weights string, draining ...string) {
		t.Helper()
		if g := must[uint64](t)(x.Rollback(to, by)); g != generation {
			t.Errorf("back to %d: generation %d, want %d", to, g, generation)
		}
		if got := x.weights(); got != weights || !slices.Equal(x.draining(), draining) {
			t.Errorf("back to %d: %s, draining %v; want %s, %v", to, got, x.draining(), weights, draining)
		}
	}
	f(3, 6, "blue=50 green=50", "blue/"+second)
	f(0, 7, "blue=0 green=100", "blue") // undoes the rollback
	f(0, 8, "blue=50 green=50", "blue/"+second)
	f(1, 9, "blue=90 green=10")
	if r, _ := x.Route("predict"); r.Overlay {
		t.Error("the weights are the file's again, and called an overlay")
	}
	f(4, 10, "blue=0 green=100", "blue/"+second)
	f(10, 10, "blue=0 green=100", "blue/"+second)

	_, err := x.Rollback(11, by)
	refused(t, err, 422, "unknown_generation")
	s.blue = s.blue[:strings.Index(s.blue, ",")] + "]"
	if _, _, err := x.Apply(s.parse(t), proxy.Cause{}); err != nil {
		t.Fatal(err)
	}
	_, err = x.Rollback(3, by) // the endpoint that drained
	refused(t, err, 409, "gone")
	s.noPredict = true
	if _, _, err := x.Apply(s.parse(t), proxy.Cause{}); err != nil {
		t.Fatal(err)
	}
	_, err = x.Rollback(11, by)
	refused(t, err, 409, "gone")

	x.stop()
	x = run(t, store, s.parse(t))
	if n := len(x.History()); n != 12 {
		t.Errorf("%d changes after a restart, want 12", n)
	}
	_, err = x.Rollback(2, by)
	refused(t, err, 409, "gone")
}

func TestPreconditions(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	only := func(g uint64) Change {
		return Change{Cause: by.Cause, Expect: func(now uint64) bool { return now == g }}
	}
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, only(1)))
	_, err := x.SetWeights("predict", map[string]float64{"blue": 2, "green": 1}, only(1))
	refused(t, err, 412, "precondition_failed")
	_, err = x.Switch("predict", "green", only(1))
	refused(t, err, 412, "precondition_failed")
	_, err = x.Ramp("predict", map[string]float64{"blue": 2, "green": 1}, time.Minute, only(1))
	refused(t, err, 412, "precondition_failed")
	_, err = x.Drain("blue", "", true, only(2))
	refused(t, err, 412, "precondition_failed")
	must[proxy.PoolStatus](t)(x.Drain("blue", "", true, only(1)))
	_, err = x.Rollback(1, only(2))
	refused(t, err, 412, "precondition_failed")
	must[uint64](t)(x.Rollback(1, only(3)))
}

func TestRefusals(t *testing.T) {
	up := atomic.Bool{}
	s := newSite(t)
	green := model(t, "green", up.Load)
	s.green = "[" + quote(green) + "]"
	s.pool = "probe: {path: /health, interval: 100ms, timeout: 90ms, rise: 1, fall: 1}"
	x := run(t, newStore(), s.parse(t))
	eventually(t, "green is unhealthy", func() bool { p, _ := x.Pool("green"); return !p.Endpoints[0].Healthy })

	_, err := x.SetWeights("predict", map[string]float64{"blue": 50, "green": 50}, by)
	refused(t, err, 409, "no_healthy_endpoint")
	_, err = x.Switch("predict", "green", by)
	refused(t, err, 409, "no_healthy_endpoint")
	_, err = x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Minute, by)
	refused(t, err, 409, "no_healthy_endpoint")
	_, err = x.Drain("blue", "", true, by) // the last that can serve predict
	refused(t, err, 409, "no_healthy_endpoint")
	_, err = x.Switch("predict", "red", by)
	refused(t, err, 422, "unknown_variant")
	_, err = x.Switch("predikt", "green", by)
	refused(t, err, 404, "unknown_route")
	_, err = x.SwitchBack("predikt", by)
	refused(t, err, 404, "unknown_route")
	_, err = x.SwitchBack("predict", by)
	refused(t, err, 409, "no_switch")
	_, err = x.Drain("red", "", true, by)
	refused(t, err, 404, "unknown_pool")
	_, err = x.Drain("blue", "127.0.0.1:1", true, by)
	refused(t, err, 404, "unknown_endpoint")
	_, err = x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, 0, by)
	refused(t, err, 422, "invalid_ramp")
	_, err = x.StopRamp("predict", by)
	refused(t, err, 409, "no_ramp")
	if g := x.Generation(); g != 1 {
		t.Errorf("generation %d after refusals, want 1", g)
	}

	// Away from what is in trouble always goes.
	must[proxy.RouteStatus](t)(x.Switch("predict", "blue", by))
	force := by
	force.Force = true
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", force))
	if got := x.ask("/predict", "u"); got != "503" {
		t.Errorf("all traffic to a dead variant by force: %s", got)
	}
	up.Store(true)
	eventually(t, "green is healthy", func() bool { return x.ask("/predict", "u") == "green" })
}

func TestCapacity(t *testing.T) {
	s := newSite(t)
	s.green = "[{address: " + s.green[1:len(s.green)-1] + ", capacity: 5/s}]"
	x := run(t, newStore(), s.parse(t))
	must[proxy.RouteStatus](t)(x.Switch("predict", "blue", by))
	end := time.Now().Add(1500 * time.Millisecond)
	for time.Now().Before(end) { // hundreds a second
		x.ask("/predict", "")
	}
	_, err := x.Switch("predict", "green", by)
	refused(t, err, 409, "over_capacity")
	_, err = x.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Minute, by)
	refused(t, err, 409, "over_capacity")
	r, _ := x.Route("predict")
	few := 1 / r.Variants[0].Recent.Rate // one request a second
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1 - few, "green": few}, by))
	force := by
	force.Force = true
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", force))
}

// brokenStore fails to save while down.
type brokenStore struct {
	state.Store
	down atomic.Bool
}

func (b *brokenStore) Save(d *state.Document) error {
	if b.down.Load() {
		return errors.New("no space left on device")
	}
	return b.Store.Save(d)
}

func TestTrafficIsSteeredWithoutADisk(t *testing.T) {
	store := &brokenStore{Store: newStore()}
	x := run(t, store, newSite(t).parse(t))
	store.down.Store(true)
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	if got := x.ask("/predict", "u"); got != "green" {
		t.Errorf("%s answers", got)
	}
	if s := x.Status(); !s.Degraded || !strings.Contains(strings.Join(s.Reasons, "\n"), "no space left on device") || x.Unsaved() == nil {
		t.Errorf("nobody is told that the state was not saved: %v", s.Reasons)
	}
	if n := x.failures.Load(); n != 1 {
		t.Errorf("%d failures are counted, want 1", n)
	}
	store.down.Store(false)
	eventually(t, "it is saved by itself", func() bool { return x.Unsaved() == nil })
	if doc, err := store.Load(); err != nil || len(doc.History) != 2 {
		t.Errorf("the change of meanwhile is lost: %+v, %v", doc, err)
	}
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 5, "green": 5}, by))
	if s := x.Status(); s.Degraded || x.Unsaved() != nil {
		t.Errorf("still degraded: %v", s.Reasons)
	}
	if doc, err := store.Load(); err != nil || len(doc.History) != 3 {
		t.Errorf("the change of meanwhile is lost: %+v, %v", doc, err)
	}
}

func TestFreeze(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	busy := &proxy.ControlError{Status: 503, Code: "busy", Message: "busy"}
	x.Freeze(busy)
	if _, err := x.Switch("predict", "green", by); err != busy {
		t.Error(err)
	}
	if _, err := x.Rollback(1, by); err != busy {
		t.Error(err)
	}
	if _, _, err := x.Apply(&config.Config{}, proxy.Cause{}); err != busy {
		t.Error(err)
	}
	if s := x.Status(); !s.Degraded || !slices.Contains(s.Reasons, "changes are refused: busy") {
		t.Errorf("%v", s.Reasons)
	}
	x.freeze(nil)
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
}

func TestRestartKeepsSubjectsOfThreeVariants(t *testing.T) {
	s := newSite(t)
	yellow := model(t, "yellow", always)
	s.top = ""
	with := func() *config.Config {
		text := strings.Replace(s.yaml(), "pools:\n", "pools:\n  yellow: {endpoints: ['"+yellow+"'], probe: off}\n", 1)
		cfg, err := config.Parse("", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	s.split = "blue: 1, green: 1, yellow: 1"
	store := newStore()
	x := run(t, store, with())
	for i := range 7 {
		must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": float64(i * i % 5), "green": 3, "yellow": float64(7 - i)}, by))
	}
	before := x.met()
	x.stop()
	x = run(t, store, with())
	if after := x.met(); !slices.Equal(before, after) {
		moved := 0
		for i := range before {
			if before[i] != after[i] {
				moved++
			}
		}
		t.Errorf("a restart moved %d of %d subjects", moved, len(before))
	}
	if g := x.Generation(); g != 8 {
		t.Errorf("generation %d after a restart that changed nothing, want 8", g)
	}
	if r, _ := x.Route("predict"); r.Generation != 8 {
		t.Errorf("the route was changed in generation %d, want 8", r.Generation)
	}
	if r, _ := x.Route("rank"); r.Generation != 1 {
		t.Errorf("the other route was changed in generation %d, want 1", r.Generation)
	}
}

func TestSwitchBackAfterARestart(t *testing.T) {
	store, s := newStore(), newSite(t)
	x := run(t, store, s.parse(t))
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	x.stop()
	x = run(t, store, s.parse(t))
	must[proxy.RouteStatus](t)(x.SwitchBack("predict", by))
	if got := x.weights(); got != "blue=90 green=10" {
		t.Error(got)
	}
	must[proxy.RouteStatus](t)(x.SwitchBack("predict", by))
	if got := x.weights(); got != "blue=0 green=100" {
		t.Error(got)
	}
}
