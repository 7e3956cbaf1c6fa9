package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"weir/balancer"
	"weir/config"
	"weir/internal/state"
)

// saved is what a store gives back of a document.
func saved(t *testing.T, d *state.Document) *state.Document {
	t.Helper()
	var m state.Memory
	if err := m.Save(d); err != nil {
		t.Fatal(err)
	}
	again, err := m.Load()
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// remembered is a proxy with an overlay, drains and several generations, and its last document.
func rememberedSite(t *testing.T) (*steered, *state.Document) {
	s := steer(t, threeRoutes, nil)
	s.update(Update{Kind: state.KindWeights, Weights: set{"one": {"a": 5, "b": 5}}}, "")                                         // 2
	s.update(Update{Kind: state.KindDrain, Drains: []state.DrainChange{drains("c", "127.0.0.1:6", true)}}, "")                   // 3
	s.update(Update{Kind: state.KindDrain, Drains: []state.DrainChange{drains("a", "", true)}}, "")                              // 4
	s.update(Update{Kind: state.KindWeights, Weights: set{"two": {"a": 1, "b": 7}, "one": {"a": 90, "b": 10}}, Force: true}, "") // 5
	return s, saved(t, s.docs[len(s.docs)-1])
}

// figures is what a restart must keep.
func (s *steered) figures() string {
	var b strings.Builder
	st := s.Status()
	for _, r := range st.Routes {
		fmt.Fprintf(&b, "%s@%d overlay %v %v\n", r.Name, r.Generation, r.Overlay, weights(r))
	}
	for _, p := range st.Pools {
		fmt.Fprintf(&b, "%s@%d draining %v", p.Name, p.Generation, p.Draining)
		for _, e := range p.Endpoints {
			fmt.Fprintf(&b, " %s %v %v", e.Address, e.Draining, e.EffectiveWeight)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestARestartUponTheSameFileIsNoChange(t *testing.T) {
	s, doc := rememberedSite(t)
	again := steer(t, threeRoutes, doc)
	if again.Generation() != 5 || len(again.commits) != 0 {
		t.Errorf("generation %d, committed %+v", again.Generation(), again.commits)
	}
	if got, want := again.figures(), s.figures(); got != want {
		t.Errorf("after the restart\n%s before\n%s", got, want)
	}
	// What comes next counts on, and comes with all that is remembered.
	again.update(Update{Kind: state.KindUndrain, Drains: []state.DrainChange{drains("a", "", false)}}, "")
	if c := again.commits[0]; c.Generation != 6 || len(c.Routes) != 0 || len(c.Drains) != 1 {
		t.Errorf("%+v", c)
	}
	if two := again.docs[0].Routes["two"]; two.Generation != 5 || !slices.Equal(two.Overlay, []state.Weight{{Pool: "a", Weight: 1}, {Pool: "b", Weight: 7}}) {
		t.Errorf("%+v", two)
	}
}

func TestARestartUponAnotherFile(t *testing.T) {
	_, doc := rememberedSite(t)
	other := fleet{
		pools:  [][2]string{{"a", addresses(1, 2)}, {"b", addresses(3, 4)}, {"c", addresses(5, 7)}, {"d", addresses(8)}},
		routes: [][2]string{{"four", "d: 1"}, {"one", "b: 10, a: 90"}, {"two", "a: 1, b: 1"}},
	}
	s := steer(t, other, doc)
	want := state.Change{
		Generation: 6, Kind: state.KindStart, By: "file",
		Routes: []state.RouteChange{
			{Route: "four", After: []state.Weight{{Pool: "d", Weight: 1}}},
			{Route: "one", Before: []state.Weight{{Pool: "a", Weight: 90}, {Pool: "b", Weight: 10}}, After: []state.Weight{{Pool: "b", Weight: 10}, {Pool: "a", Weight: 90}}},
			{Route: "three", Before: []state.Weight{{Pool: "b", Weight: 1}, {Pool: "c"}}},
		},
		Drains: []state.DrainChange{drains("c", "127.0.0.1:6", false)},
	}
	c := s.commits[0]
	c.Time, c.Notes = want.Time, nil
	if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", want) {
		t.Errorf("committed\n%+v, want\n%+v", c, want)
	}
	if r, _ := s.Route("two"); !r.Overlay || !slices.Equal(weights(r), []float64{1, 7}) {
		t.Errorf("%+v", r)
	}
	if p, _ := s.Pool("a"); !p.Draining {
		t.Error("pool a drains no more")
	}
	if d := saved(t, s.docs[0]); len(d.Routes) != 3 || len(d.Pools) != 4 || d.Generation != 6 || d.Config == doc.Config {
		t.Errorf("%+v", d)
	}
	if _, changes, err := s.Apply(other.parse(t)); err != nil || changes != nil || len(s.commits) != 1 {
		t.Errorf("the same file again: %v, %v", changes, err)
	}
}

// TestAFileThatIsRefusedAtTheStartForgetsNothing: the operator mends it, and the next one is the first.
func TestAFileThatIsRefusedAtTheStartForgetsNothing(t *testing.T) {
	before, doc := rememberedSite(t)
	s := &steered{t: t}
	s.Proxy = New(Options{Remembered: doc, Commit: func(c state.Change, d *state.Document) func() {
		s.commits = append(s.commits, c)
		return func() {}
	}})
	bad := threeRoutes.parse(t)
	bad.Listeners = []config.Listener{{Address: "192.0.2.1:1"}} // nobody here has it
	if _, _, err := s.Apply(bad); err == nil {
		t.Fatal("a listener on an address that is not here")
	}
	if s.Generation() != 5 || len(s.commits) != 0 {
		t.Errorf("generation %d, %+v", s.Generation(), s.commits)
	}
	if _, _, err := s.Apply(threeRoutes.parse(t)); err != nil {
		t.Fatal(err)
	}
	defer stopPools(s.Proxy)
	if got, want := s.figures(), before.figures(); got != want || len(s.commits) != 0 {
		t.Errorf("then\n%s before\n%s%+v", got, want, s.commits)
	}
}

// TestSubjectsStayOverARestart: where the affinity table depends on how the weights came about, and where
// a variant came or went with the restart, no more subjects move than a reload would have moved.
func TestSubjectsStayOverARestart(t *testing.T) {
	with := func(split string) *config.Config {
		f := threeRoutes
		if split, less := strings.CutPrefix(split, "no b; "); less {
			f.pools = [][2]string{f.pools[0], f.pools[2]}
			f.routes = [][2]string{{"one", split + "}, affinity: {key: 'header:X-U'"}}
			return f.parse(t)
		}
		f.routes = [][2]string{{"one", split + "}, affinity: {key: 'header:X-U'"}}
		return f.parse(t)
	}
	start := func(doc *state.Document, cfg *config.Config) (*Proxy, **state.Document) {
		last := new(*state.Document)
		p := New(Options{Remembered: doc, Commit: func(_ state.Change, d *state.Document) func() { *last = d; return func() {} }})
		if _, _, err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopPools(p) })
		return p, last
	}
	for name, next := range map[string]string{"the same": "a: 1, b: 1, c: 1", "a variant less": "a: 1, c: 1", "a pool less": "no b; a: 1, c: 1", "one that is left": "b: 1", "another order": "c: 1, a: 1, b: 1"} {
		t.Run(name, func(t *testing.T) {
			p, last := start(nil, with("a: 1, b: 1, c: 1"))
			for i := range 9 {
				if _, err := setWeights(p, "one", map[string]float64{"a": float64(i * i % 5), "b": 3, "c": float64(7 - i%7)}); err != nil {
					t.Fatal(err)
				}
			}
			doc := saved(t, *last)
			restarted, _ := start(doc, with(next))
			was := p.table.Load().routes[0].split
			if _, _, err := p.Apply(with(next)); err != nil {
				t.Fatal(err)
			}
			reloaded, recalled := p.table.Load().routes[0].split, restarted.table.Load().routes[0].split
			elsewhere, moved := 0, 0
			at := func(s *balancer.Split, u int) string {
				i, _ := s.BySubject(fmt.Append(nil, "user", u))
				return s.Variants()[i].Pool.Name()
			}
			for u := range 2000 {
				if at(reloaded, u) != at(recalled, u) {
					elsewhere++
				}
				if at(was, u) != at(recalled, u) {
					moved++
				}
			}
			if elsewhere > 0 {
				t.Errorf("%d of 2000 subjects are elsewhere than a reload would have them; %d moved", elsewhere, moved)
			}
		})
	}
}
