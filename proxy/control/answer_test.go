package control

import (
	"strings"
	"testing"

	"weir/config"
	"weir/proxy"
)

// TestRoutesWithoutASplit: a route that answers by itself has no weights to set, also where it had some before, and
// does not count as one that lacks an endpoint.
func TestRoutesWithoutASplit(t *testing.T) {
	s := newSite(t)
	parse := func(old, split string) *config.Config {
		t.Helper()
		cfg, err := config.Parse("", []byte(strings.Replace(s.yaml(), old, split, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	without := func() *config.Config {
		return parse("split: {blue: 90, green: 10}, affinity: {key: 'header:X-User-ID'}", "respond: {body: hello}")
	}
	store := newStore()
	x := run(t, store, parse("", ""))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, by))
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
	if _, _, err := x.Apply(without(), proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error, code string) {
		t.Helper()
		if e, ok := err.(*proxy.ControlError); !ok || e.Code != code || strings.Contains(e.Message, "()") {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	for range 2 {
		_, err := x.SetWeights("predict", map[string]float64{"blue": 1, "green": 0}, by)
		refused("weights", err, "no_split")
		_, err = x.SetWeights("predict", map[string]float64{}, by)
		refused("no weights", err, "no_split")
		_, err = x.Switch("predict", "blue", by)
		refused("a switch", err, "no_split")
		_, err = x.SwitchBack("predict", by)
		refused("a switch back", err, "no_split")
		_, err = x.Rollback(2, by)
		refused("a rollback", err, "gone")
		st := x.Status()
		if st.Degraded {
			t.Errorf("degraded: %v", st.Reasons)
		}
		if r, ok := x.Route("predict"); !ok || r.Variants == nil || len(r.Variants) != 0 {
			t.Errorf("%+v, %v", r, ok)
		}
		x.stop()
		x = run(t, store, without())
	}
	if _, _, err := x.Apply(parse("", ""), proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	if r, _ := x.Route("predict"); len(r.Variants) != 2 || r.Variants[0].Weight != 90 || r.Overlay {
		t.Errorf("with the split again: %+v", r)
	}
	must[proxy.RouteStatus](t)(x.Switch("predict", "green", by))
}
