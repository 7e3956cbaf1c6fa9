package control

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// fileNow is what the matrix varies of a weir.yaml. Without a split there is no route predict, without
// endpoints no pool blue.
type fileNow struct {
	trusted, timeout, salt string
	split                  string
	blue                   []string
}

var (
	oldEndpoint, drained, newEndpoint = "127.0.0.1:11", "127.0.0.1:12", "127.0.0.1:13"

	firstFile = fileNow{trusted: "10.0.0.0/8", timeout: "60s", salt: "s", split: "blue: 90, green: 10", blue: []string{oldEndpoint, drained}}
)

func (f fileNow) parse(t *testing.T) *config.Config {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "listeners: [{address: '127.0.0.1:0'}]\ntrusted_proxies: [%s]\npools:\n", f.trusted)
	if f.blue != nil {
		fmt.Fprintf(&b, "  blue: {endpoints: ['%s'], probe: off}\n", strings.Join(f.blue, "', '"))
	}
	b.WriteString("  green: {endpoints: ['127.0.0.1:21'], probe: off}\n  yellow: {endpoints: ['127.0.0.1:31'], probe: off}\nroutes:\n")
	if f.split != "" {
		fmt.Fprintf(&b, "  - {name: predict, match: {path: /p}, split: {%s}, affinity: {key: 'header:X-U', salt: %s}, timeouts: {attempt: %s}}\n", f.split, f.salt, f.timeout)
	}
	b.WriteString("  - {name: rank, match: {path: /rank}, split: {green: 1}}\n")
	cfg, err := config.Parse("", []byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, &b)
	}
	return cfg
}

// fileChanges are the files that follow the first one, one after the other.
func fileChanges() map[string][]fileNow {
	with := func(change func(*fileNow)) []fileNow {
		f := firstFile
		change(&f)
		return []fileNow{f}
	}
	gone := with(func(f *fileNow) { f.split = "" })
	return map[string][]fileNow{
		"nothing":                       {firstFile},
		"another section":               with(func(f *fileNow) { f.trusted = "192.168.0.0/16" }),
		"another key of the route":      with(func(f *fileNow) { f.timeout = "30s" }),
		"the weights":                   with(func(f *fileNow) { f.split = "blue: 80, green: 20" }),
		"the weights at equal shares":   with(func(f *fileNow) { f.split = "blue: 9, green: 1" }),
		"the weights as the API's":      with(func(f *fileNow) { f.split = "blue: 60, green: 40" }),
		"the same weights spelt anew":   with(func(f *fileNow) { f.split = "blue: 90.0, green: 1e1" }),
		"a variant added":               with(func(f *fileNow) { f.split = "blue: 90, green: 10, yellow: 1" }),
		"a variant removed":             with(func(f *fileNow) { f.split = "green: 10" }),
		"the order of the variants":     with(func(f *fileNow) { f.split = "green: 10, blue: 90" }),
		"the route removed":             gone,
		"the route removed and back":    {gone[0], firstFile},
		"weights changed and back":      {with(func(f *fileNow) { f.split = "blue: 1, green: 1" })[0], firstFile},
		"an endpoint added":             with(func(f *fileNow) { f.blue = []string{oldEndpoint, drained, newEndpoint} }),
		"the endpoint replaced":         with(func(f *fileNow) { f.blue = []string{oldEndpoint, newEndpoint} }),
		"the endpoint removed and back": {with(func(f *fileNow) { f.blue = f.blue[:1] })[0], firstFile},
		"the pool removed":              with(func(f *fileNow) { f.blue, f.split = nil, "green: 1, yellow: 1" }),
		"the salt":                      with(func(f *fileNow) { f.salt = "t" }),
	}
}

// expected is the rule of interface.md, over the first file.
type expected struct {
	api        string // weights set through the API that lie over the file; "" where the file's are in force
	ramp       bool
	pool       bool // blue drains
	endpoint   bool // drained does
	generation uint64
}

func (e expected) weights(f fileNow) string {
	switch {
	case f.split == "":
		return "gone"
	case e.api != "":
		return e.api
	}
	var s []string
	for _, v := range strings.Split(f.split, ", ") {
		name, weight, _ := strings.Cut(v, ": ")
		var w float64
		_, _ = fmt.Sscan(weight, &w)
		s = append(s, fmt.Sprintf("%s=%v", name, w))
	}
	return strings.Join(s, " ")
}

func (e expected) draining() (names []string) {
	if e.pool {
		return []string{"blue"}
	}
	if e.endpoint {
		return []string{"blue/" + drained}
	}
	return nil
}

// then is what is to hold after another file.
func (e expected) then(from, to fileNow) expected {
	said := expected{}.weights // what a split says, however it is spelt
	if said(from) != said(to) {
		e.api, e.ramp = "", false
	}
	e.pool = e.pool && to.blue != nil
	e.endpoint = e.endpoint && slices.Contains(to.blue, drained)
	from.split, to.split = said(from), said(to)
	if !reflect.DeepEqual(from, to) {
		e.generation++
	}
	return e
}

// apiChanges are made upon the first file.
func apiChanges() map[string]func(*weir) expected {
	weights := func(x *weir, blue, green float64) {
		must[proxy.RouteStatus](x.t)(x.SetWeights("predict", map[string]float64{"blue": blue, "green": green}, by))
	}
	return map[string]func(*weir) expected{
		"none":    func(x *weir) expected { return expected{generation: 1} },
		"weights": func(x *weir) expected { weights(x, 60, 40); return expected{api: "blue=60 green=40", generation: 2} },
		"the file's own weights after others": func(x *weir) expected {
			weights(x, 60, 40)
			weights(x, 90, 10)
			return expected{generation: 3}
		},
		"switch": func(x *weir) expected {
			must[proxy.RouteStatus](x.t)(x.Switch("predict", "green", by))
			return expected{api: "blue=0 green=100", generation: 2}
		},
		"switch back": func(x *weir) expected {
			weights(x, 70, 30)
			must[proxy.RouteStatus](x.t)(x.Switch("predict", "green", by))
			must[proxy.RouteStatus](x.t)(x.SwitchBack("predict", by))
			return expected{api: "blue=70 green=30", generation: 4}
		},
		"ramp": func(x *weir) expected {
			x.ramp(0, 1, time.Hour) // 21 steps
			return expected{api: "blue=85.714 green=14.286", ramp: true, generation: 2}
		},
		"drain of the pool": func(x *weir) expected {
			must[proxy.PoolStatus](x.t)(x.Drain("blue", "", true, by))
			return expected{pool: true, generation: 2}
		},
		"drain of an endpoint": func(x *weir) expected {
			must[proxy.PoolStatus](x.t)(x.Drain("blue", drained, true, by))
			return expected{endpoint: true, generation: 2}
		},
		"rollback": func(x *weir) expected {
			weights(x, 55, 45)
			must[proxy.PoolStatus](x.t)(x.Drain("blue", drained, true, by))
			must[proxy.RouteStatus](x.t)(x.Switch("predict", "green", by))
			must[uint64](x.t)(x.Rollback(3, by))
			return expected{api: "blue=55 green=45", endpoint: true, generation: 5}
		},
		"rollback to the file's": func(x *weir) expected {
			weights(x, 55, 45)
			must[uint64](x.t)(x.Rollback(1, by))
			return expected{generation: 3}
		},
	}
}

// TestTheOverlayRule: "They survive a restart and a reload that leaves that route's split alone; a reload
// that changes it (the parsed split against the one the overlay was set upon, also across a restart)
// replaces them, and says so", for every change through the API and every change of the file after it,
// be it by a reload, over a restart, or after a kill.
func TestTheOverlayRule(t *testing.T) {
	for how, next := range map[string]func(*weir, state.Store, *config.Config) (*weir, state.Store){
		"reload": func(x *weir, s state.Store, cfg *config.Config) (*weir, state.Store) {
			if _, _, err := x.Apply(cfg, by.Cause); err != nil {
				x.t.Fatal(err)
			}
			return x, s
		},
		"restart": func(x *weir, s state.Store, cfg *config.Config) (*weir, state.Store) {
			x.stop()
			return run(x.t, s, cfg), s
		},
		"kill": func(x *weir, s state.Store, cfg *config.Config) (*weir, state.Store) {
			left := newStore() // what was saved, and no Close
			doc, err := s.Load()
			if err == nil {
				err = left.Save(doc)
			}
			if err != nil {
				x.t.Fatal(err)
			}
			return run(x.t, left, cfg), left
		},
	} {
		for api, change := range apiChanges() {
			for file, files := range fileChanges() {
				t.Run(how+"/"+api+"/"+file, func(t *testing.T) {
					store := newStore()
					x := run(t, store, firstFile.parse(t))
					want, before := change(x), firstFile
					x.holds(want, before, state.Change{})
					for _, after := range files {
						old := want
						want = old.then(before, after)
						x, store = next(x, store, after.parse(t))
						x.holds(want, after, entry(how, old, want, before, after))
						before = after
					}
					// Nothing changes when it starts again upon the same file.
					x.stop()
					x = run(t, store, before.parse(t))
					x.holds(want, before, state.Change{})
				})
			}
		}
	}
}

// entry is what the history is to say of a change of the file, as far as it concerns routing.
func entry(how string, old, want expected, from, to fileNow) (c state.Change) {
	if old.generation == want.generation {
		return c
	}
	c = state.Change{Generation: want.generation, Kind: state.KindReload}
	if how != "reload" {
		c.Kind = state.KindStart
	}
	if a, b := old.weights(from), want.weights(to); a != b {
		c.Routes = []state.RouteChange{{Route: a + " → " + b}}
	}
	if was, is := old.draining(), want.draining(); !slices.Equal(was, is) {
		pool, endpoint, _ := strings.Cut(was[0], "/")
		c.Drains = []state.DrainChange{{Pool: pool, Endpoint: endpoint}}
	}
	if old.api != "" && want.api == "" && to.split != "" {
		c.Notes = []string{"replaced"}
	}
	return c
}

// holds compares weir, its last change (if that is not the zero one) and what is saved with what is expected.
func (w *weir) holds(want expected, f fileNow, last state.Change) {
	w.t.Helper()
	r, _ := w.Route("predict")
	got := expected{ramp: w.ramping(), pool: slices.Contains(w.draining(), "blue"), endpoint: slices.Contains(w.draining(), "blue/"+drained), generation: w.Generation()}
	if r.Overlay {
		got.api = w.weights()
	}
	if got != want || w.weights() != want.weights(f) || !slices.Equal(w.draining(), want.draining()) {
		w.t.Fatalf("%s, %+v, draining %v; want %s, %+v", w.weights(), got, w.draining(), want.weights(f), want)
	}
	if h := w.last(); last.Kind != "" {
		said := state.Change{Generation: h.Generation, Kind: h.Kind, Drains: h.Drains}
		for _, r := range h.Routes {
			before, after := "gone", "gone"
			if r.Before != nil {
				before = names(r.Before)
			}
			if r.After != nil {
				after = names(r.After)
			}
			said.Routes = append(said.Routes, state.RouteChange{Route: before + " → " + after})
		}
		if strings.Contains(strings.Join(h.Notes, "\n"), "replaces the weights set through the API") {
			said.Notes = []string{"replaced"}
		}
		if !reflect.DeepEqual(said, last) {
			w.t.Fatalf("the history says %+v, want %+v", h, last)
		}
	}
	doc, err := w.store.Load()
	if err != nil || w.Unsaved() != nil {
		w.t.Fatal(err, w.Unsaved())
	}
	saved := doc.Routes["predict"]
	if doc.Generation != want.generation || names(saved.Overlay) != want.api || (saved.Ramp != nil) != want.ramp || doc.Pools["blue"].Draining != want.pool {
		w.t.Fatalf("saved: generation %d, %+v, %+v; want %+v", doc.Generation, saved, doc.Pools["blue"], want)
	}
}
