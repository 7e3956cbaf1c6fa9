package state

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/config"
)

// sample is a Document whose every part follows from the generation, so that a mixture of two shows.
func sample(generation uint64, routes, changes int) *Document {
	g := float64(generation%1000) + 1
	text := fmt.Sprintf("of generation %d", generation)
	weights := func(w float64) []Weight {
		return []Weight{{Pool: "blue", Weight: w}, {Pool: "green", Weight: w / 3}}
	}
	d := &Document{
		Format: Format, Generation: generation, Config: text,
		Routes: map[string]Route{}, Pools: map[string]Pool{},
	}
	for i := range routes {
		d.Routes[fmt.Sprintf("route-%d", i)] = Route{
			Generation: generation, Split: weights(g), Overlay: weights(g + 1), Back: weights(g + 2), Buckets: text,
			Ramp: &Ramp{From: weights(g), To: weights(g + 3), Total: time.Hour, Done: time.Duration(g), By: "file", Reason: text},
		}
	}
	d.Pools["blue"] = Pool{Generation: generation, Draining: generation%2 == 0, Endpoints: []string{text}}
	for i := range min(uint64(changes), generation) {
		h := generation - min(uint64(changes), generation) + i + 1
		d.History = append(d.History, Change{
			Generation: h, Time: time.Unix(int64(h), 5).UTC(), Kind: KindWeights, By: "ops 10.0.0.7", Reason: `"blue" -> <green> & ` + text,
			Routes: []RouteChange{{Route: "route-0", Before: weights(g), After: weights(g + 1)}, {Route: "new", After: weights(g)}},
			Drains: []DrainChange{{Pool: "blue", Endpoint: "10.0.0.1:80", Draining: true}}, Notes: []string{text}, To: h - 1,
		})
	}
	return d
}

func save(t *testing.T, s Store, d *Document) {
	t.Helper()
	if err := s.Save(d); err != nil {
		t.Fatal(err)
	}
}

func wantLoad(t *testing.T, s Store, want *Document) {
	t.Helper()
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("loaded (-want +got):\n%s", diff)
	}
}

// TestStores is what every Store must do.
func TestStores(t *testing.T) {
	stores := map[string]func(*testing.T) Store{
		"memory": func(*testing.T) Store { return new(Memory) },
		"file": func(t *testing.T) Store {
			f, _ := openFile(t, filepath.Join(t.TempDir(), "weir.state.json"))
			return f
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Run("nothing saved", func(t *testing.T) { wantLoad(t, open(t), nil) })
			t.Run("round trip", func(t *testing.T) {
				s := open(t)
				save(t, s, sample(3, 2, 2))
				wantLoad(t, s, sample(3, 2, 2))
				save(t, s, sample(4, 1, 4))
				wantLoad(t, s, sample(4, 1, 4))
				save(t, s, &Document{})
				wantLoad(t, s, &Document{Format: Format})
			})
			t.Run("shares nothing", func(t *testing.T) {
				s, given := open(t), sample(3, 2, 2)
				save(t, s, given)
				for _, d := range []*Document{given, load(t, s)} {
					d.Routes["route-0"].Overlay[0].Weight = 77
					d.Pools["blue"].Endpoints[0] = "other"
					d.History[0].Notes[0] = "other"
					delete(d.Routes, "route-1")
				}
				wantLoad(t, s, sample(3, 2, 2))
			})
			t.Run("the oldest history goes", func(t *testing.T) {
				s, given := open(t), sample(2000, 1, MaxHistory+5)
				save(t, s, given)
				if len(given.History) != MaxHistory+5 {
					t.Errorf("Save left %d changes of what it was given", len(given.History))
				}
				h := load(t, s).History
				if len(h) != MaxHistory || h[0].Generation != 1001 || h[MaxHistory-1].Generation != 2000 {
					t.Errorf("%d changes, from %d to %d", len(h), h[0].Generation, h[len(h)-1].Generation)
				}
			})
			t.Run("refuses what cannot be", func(t *testing.T) {
				s, bad := open(t), sample(4, 1, 1)
				save(t, s, sample(3, 1, 1))
				bad.Routes["route-0"].Split[0].Weight = math.NaN()
				if err := s.Save(bad); err == nil || !strings.Contains(err.Error(), `routes["route-0"]: split: pool "blue" has weight NaN`) {
					t.Errorf("Save: %v", err)
				}
				wantLoad(t, s, sample(3, 1, 1))
			})
			t.Run("closed", func(t *testing.T) {
				s := open(t)
				save(t, s, sample(3, 1, 1))
				if err := errors.Join(s.Close(), s.Close()); err != nil {
					t.Error(err)
				}
				if err := s.Save(sample(4, 1, 1)); err == nil {
					t.Error("Save after Close was accepted: it might overwrite the next user's")
				}
				if _, err := s.Load(); err == nil {
					t.Error("Load after Close was accepted")
				}
			})
		})
	}
}

func load(t *testing.T, s Store) *Document {
	t.Helper()
	d, err := s.Load()
	if err != nil || d == nil {
		t.Fatalf("Load: %v, %v", d, err)
	}
	return d
}

func TestValidate(t *testing.T) {
	route := func(change func(*Route)) func(*Document) {
		return func(d *Document) {
			r := d.Routes["route-0"]
			change(&r)
			d.Routes["route-0"] = r
		}
	}
	tests := map[string]struct {
		change func(*Document)
		want   string
	}{
		"as it is":          {func(*Document) {}, ""},
		"negative":          {func(d *Document) { d.Routes["route-0"].Split[0].Weight = -1 }, `routes["route-0"]: split: pool "blue" has weight -1`},
		"not a number":      {func(d *Document) { d.Routes["route-0"].Overlay[1].Weight = math.NaN() }, `overlay: pool "green" has weight NaN`},
		"infinite":          {func(d *Document) { d.Routes["route-0"].Back[1].Weight = math.Inf(1) }, `back: pool "green" has weight +Inf`},
		"too large":         {func(d *Document) { d.Routes["route-0"].Ramp.From[1].Weight = 2e9 }, `ramp.from: pool "green" has weight 2e+09`},
		"no pool":           {func(d *Document) { d.Routes["route-0"].Ramp.To[1].Pool = "" }, `ramp.to: a weight without a pool`},
		"twice":             {func(d *Document) { d.Routes["route-0"].Split[1].Pool = "blue" }, `split: pool "blue" twice`},
		"nothing":           {route(func(r *Route) { r.Overlay = []Weight{{Pool: "blue"}} }), "overlay: the weights add up to 0"},
		"ramp beyond":       {func(d *Document) { d.Routes["route-0"].Ramp.Done = 2 * time.Hour }, "ramp: 2h0m0s of 1h0m0s are done"},
		"ramp of no time":   {func(d *Document) { d.Routes["route-0"].Ramp.Total, d.Routes["route-0"].Ramp.Done = 0, 0 }, "ramp: 0s of 0s are done"},
		"ramp to others":    {func(d *Document) { d.Routes["route-0"].Ramp.To[1].Pool = "other" }, "not of the same pools"},
		"ramp to nowhere":   {func(d *Document) { d.Routes["route-0"].Ramp.To = nil }, "not of the same pools"},
		"ramp before":       {func(d *Document) { d.Routes["route-0"].Ramp.Done = -1 }, "ramp: -1ns of 1h0m0s are done"},
		"route of later":    {route(func(r *Route) { r.Generation = 6 }), `routes["route-0"]: generation 6 is above the document's, 5`},
		"pool of later":     {func(d *Document) { d.Pools["blue"] = Pool{Generation: 6} }, `pools["blue"]: generation 6 is above the document's, 5`},
		"history of later":  {func(d *Document) { d.History[2].Generation = 6 }, "history[2]: generation 6 is above the document's, 5"},
		"history repeats":   {func(d *Document) { d.History[1].Generation = 3 }, "history[1]: generation 3 does not follow 3"},
		"history descends":  {func(d *Document) { d.History[2].Generation = 1 }, "history[2]: generation 1 does not follow 4"},
		"history from zero": {func(d *Document) { d.History[0].Generation = 0 }, "history[0]: generation 0 does not follow 0"},
		"history, before":   {func(d *Document) { d.History[0].Routes[0].Before[0].Weight = -1 }, `history[0]: route "route-0": before: pool "blue" has weight -1`},
		"history, after":    {func(d *Document) { d.History[0].Routes[1].After[0].Weight = -1 }, `history[0]: route "new": after: pool "blue" has weight -1`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := sample(5, 1, 3)
			test.change(d)
			err := validate(d)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestMaxWeightIsTheConfigurations(t *testing.T) {
	if maxWeight != config.MaxWeight {
		t.Errorf("%v, the configuration allows %v", maxWeight, config.MaxWeight)
	}
}

// FuzzDecode gives decode whole files, and files whose checksum is right whatever they hold.
func FuzzDecode(f *testing.F) {
	// Small ones: with much to leave out, the fuzzer spends its time on that.
	for _, document := range []string{
		`{"format":1,"generation":3,"routes":{"a":{"generation":2,"split":[{"pool":"b","weight":0.5}]}},"pools":{"b":{"draining":true}}}`,
		`{"format":1,"routes":{"a":{"ramp":{"to":[{"pool":"b","weight":1}],"total_ns":5,"done_ns":4}}}}`,
		`{"format":1,"generation":3,"history":[{"generation":2,"time":"2026-03-04T05:06:07Z","kind":"ramp"},{"generation":3}]}`,
		`{"format":1,"routes":{"a":{"split":[{"pool":"b","weight":-1}]}}}`,
		`{"format":2}`,
		`null`,
	} {
		f.Add([]byte(document))
		f.Add(seal([]byte(document)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, seal(data)} {
			d, err := decode(file)
			if (d == nil) == (err == nil) {
				t.Fatalf("decode: %v, %v", d, err)
			}
			if err != nil {
				continue
			}
			if err := validate(d); err != nil {
				t.Fatalf("accepted, though %v", err)
			}
			first, err := encode(d)
			if err != nil {
				t.Fatalf("accepted, and cannot be saved: %v", err)
			}
			if d, err = decode(first); err != nil {
				t.Fatalf("saved, and cannot be loaded: %v", err)
			}
			if again, err := encode(d); err != nil || string(again) != string(first) {
				t.Fatalf("%v; saved\n%s\nloaded and saved\n%s", err, first, again)
			}
		}
	})
}
