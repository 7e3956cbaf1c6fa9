package backend

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/tensor"
	"weir/internal/stats"
)

// adder is a regressor that says the sum of its features, which have names.
func adder(names ...string) *scripted {
	features, err := json.Marshal(names)
	if err != nil {
		panic(err)
	}
	return &scripted{
		signature: tensor.Signature{
			Inputs:   []tensor.Spec{{Name: "x", Type: tensor.FP64, Shape: []int64{-1, int64(len(names))}}},
			Outputs:  []tensor.Spec{{Name: "y", Type: tensor.FP64, Shape: []int64{-1, 1}}},
			Metadata: map[string]string{"features": string(features)},
		},
		run: func(in []tensor.Tensor) ([]tensor.Tensor, error) {
			sums := make([]float64, in[0].Shape[0])
			for i := range in[0].Len() {
				sums[i/len(names)] += in[0].Float64(i)
			}
			return []tensor.Tensor{fp64("y", []int64{int64(len(sums)), 1}, sums...)}, nil
		},
	}
}

// inferRows asks a version of model m about n rows of features, normally distributed around their means.
func (r *running) inferRows(version string, seed uint64, n int, means ...float64) {
	r.t.Helper()
	random := rand.New(rand.NewPCG(seed, 2))
	values := make([]float64, 0, n*len(means))
	for range n {
		for _, mean := range means {
			values = append(values, mean+random.NormFloat64())
		}
	}
	body, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{
		"name": "x", "datatype": "FP64", "shape": []int{n, len(means)}, "data": values,
	}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if got := r.post("/v2/models/m/versions/"+version+"/infer", string(body)); got.status != 200 {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
}

// drifting are the features of a version that drift against the other side, "scores" for its scores; "?" stands behind those
// of which nothing can be said yet.
func (r *running) drifting(version, against string) (all []string) {
	r.t.Helper()
	add := func(name string, s *driftSeries) {
		for _, c := range s.Comparisons {
			switch {
			case c.Against != against:
			case !c.Enough:
				all = append(all, name+"?")
			case c.Drifted:
				all = append(all, name)
			}
		}
	}
	for _, m := range decode[driftAnswer](r.t, r.get("/drift")).Models {
		if m.Version == version {
			add("scores", &m.driftSeries)
			for i := range m.Features {
				add(m.Features[i].Name, &m.Features[i].driftSeries)
			}
		}
	}
	return all
}

func (r *running) wantDrifting(version, against string, want ...string) {
	r.t.Helper()
	if got := r.drifting(version, against); !slices.Equal(got, want) {
		r.t.Errorf("of %s against %s drift %q, want %q", version, against, got, want)
	}
}

// TestFeatureDrift: a feature drifts whose values move, also where the scores do not, and no other; of two versions those
// differ that are asked differently.
func TestFeatureDrift(t *testing.T) {
	c := newClock()
	r := start(t, Options{
		Models: []Source{source("m", "v1", adder("age", "income", "rooms")), source("m", "v2", adder("age", "income", "rooms"))},
		Drift:  Drifting{First: 1000, Least: 400, Window: 12 * time.Minute, Control: true}, Now: c.now,
	}, true)
	r.wantDrifting("v1", "reference", "scores?", "age?", "income?", "rooms?")
	r.inferRows("v1", 1, 1000, 40, 100, 3)
	r.inferRows("v1", 2, 500, 40, 100, 3)
	r.wantDrifting("v1", "reference")
	r.wantMetric(`ml_drift_feature_detected{against="reference",feature_name="income",model="m",model_version="v1"} 0`)
	r.wantMetric(`ml_drift_feature_window_values{feature_name="income",model="m",model_version="v1"} 500`)
	r.wantMetric(`ml_drift_feature_reference_values{feature_name="income",model="m",model_version="v1"} 1000`)
	r.wantMetric(`ml_drift_window_scores{model="m",model_version="v1"} 500`)

	c.advance(20 * time.Minute)
	r.server.tickDrift(c.now())
	r.inferRows("v1", 3, 500, 60, 80, 3) // the sum is as it was
	r.wantDrifting("v1", "reference", "age", "income")
	r.wantMetric(`ml_drift_feature_detected{against="reference",feature_name="income",model="m",model_version="v1"} 1`)
	r.wantMetric(`ml_drift_feature_detected{against="reference",feature_name="rooms",model="m",model_version="v1"} 0`)
	r.wantMetric(`ml_drift_detected{against="reference",model="m",model_version="v1"} 0`)

	r.wantDrifting("v2", "version v1", "scores?", "age?", "income?", "rooms?")
	r.inferRows("v2", 4, 500, 60, 80, 6)
	r.wantDrifting("v2", "version v1", "scores", "rooms")
	r.wantMetric(`ml_drift_feature_detected{against="version v1",feature_name="rooms",model="m",model_version="v2"} 1`)
	r.wantDrifting("v2", "reference", "scores?", "age?", "income?", "rooms?") // which are being made

	// Pinned as a whole, nothing drifts any more; one feature may have another reference.
	if got := r.put(`{"references": [{"model": "m", "model_version": "v1", "from": "window"}]}`); got.status != 200 {
		t.Fatal(got)
	}
	r.wantDrifting("v1", "reference")
	young := slices.Repeat([]float64{20, 21, 22, 23}, 100)
	body, err := json.Marshal(DriftReferences{References: []DriftReference{{Model: "m", Version: "v1", Feature: "age", Values: young}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.put(string(body)); got.status != 200 {
		t.Fatal(got)
	}
	r.wantDrifting("v1", "reference", "age")
	told := decode[DriftReferences](t, r.get("/drift/reference")).References
	var sources []string
	for _, q := range told[:4] {
		sources = append(sources, fmt.Sprintf("%s %s %d", q.Feature, q.Source, q.Distribution.Count()))
	}
	if want := []string{" window 500", "age given 400", "income window 500", "rooms window 500"}; !slices.Equal(sources, want) {
		t.Errorf("references %q, want %q", sources, want)
	}
	// What was told can be given back, here to a program that begins with it.
	again, err := ParseDriftReferences([]byte(r.get("/drift/reference").body))
	if err != nil {
		t.Fatal(err)
	}
	other := start(t, Options{
		Models: []Source{source("m", "v1", adder("age", "income", "rooms"))},
		Drift:  Drifting{Least: 400, References: again}, Now: c.now,
	}, true)
	other.inferRows("v1", 3, 500, 60, 80, 3)
	other.wantDrifting("v1", "reference", "age")
	wantError(t, r.put(`{"references": [{"model": "m", "model_version": "v1", "feature_name": "size", "values": [1]}]}`), 404, "version v1 feature size; see GET /drift")
	wantError(t, r.put(`{"references": [{"model": "m", "model_version": "v1", "feature_name": "age", "scores": [1]}]}`), 400, `write "values" for those of age`)
	wantError(t, r.put(`{"references": [{"model": "m", "model_version": "v1", "values": [1]}]}`), 400, `give its "feature_name"`)
	wantError(t, r.put(`{"references": [{"model": "m", "model_version": "v1", "feature_name": "age", "values": []}]}`), 400, "there are no values")

	// The windows of features are told to who asks for them.
	if m := decode[driftAnswer](t, r.get("/drift")).Models[0]; m.Window == nil || m.Window.Count() != 500 || m.Features[0].Window != nil || math.Abs(m.AlphaEach-0.01/4) > 1e-12 {
		t.Errorf("told: %+v", m)
	}
	if m := decode[driftAnswer](t, r.get("/drift?windows=features")).Models[0]; m.Features[0].Window == nil || m.Features[0].Window.Count() != 500 {
		t.Errorf("told: %+v", m.Features[0])
	}
}

// TestVersionsInTheSameTime: a version that was loaded later is compared with what the first one got since then.
func TestVersionsInTheSameTime(t *testing.T) {
	o := &Drifting{Features: -1, First: 100, Least: 200, Window: time.Hour}
	o.fill()
	at := func(version string, turn int64) *Model {
		m := &Model{Name: "m", Version: version, signature: repeater().signature, reading: reading{kind: regressor}}
		m.watch = newWatch(m, o, turn)
		return m
	}
	add := func(m *Model, n int, value float64) {
		p := m.watch.enter()
		defer m.watch.leave(p)
		for range n {
			m.watch.addScore(p, value)
		}
	}
	first := at("v1", 0)
	add(first, 1000, 1) // in the night
	first.watch.tick(5)
	second := at("v2", 5)
	beside := at("v3", 0)
	add(first, 300, 7) // some of it before the second was there
	add(second, 50, 2)
	compared := func(m *Model) string {
		for _, c := range o.compare(m, first, m.watch.looks()) {
			if c.against == "version v1" {
				return fmt.Sprintf("%d %d %v", c.Reference, c.Current, c.Drifted)
			}
		}
		return "not compared"
	}
	if got := compared(second); got != "0 0 false" {
		t.Errorf("in the slot in which it came: %s", got)
	}
	for _, m := range []*Model{first, second} {
		m.watch.tick(6)
		add(m, 400, 2)
	}
	if got := compared(second); got != "400 400 false" {
		t.Errorf("in the next: %s", got)
	}
	add(beside, 300, 1)
	if got := compared(beside); got != "1700 300 true" {
		t.Errorf("of one that was there from the beginning: %s", got)
	}
	first.watch.tick(6 + driftSlots)
	second.watch.tick(6 + driftSlots)
	if got := compared(second); got != "400 400 false" {
		t.Errorf("at the window's end: %s", got)
	}
	first.watch.tick(7 + driftSlots)
	second.watch.tick(7 + driftSlots)
	if got := compared(second); got != "0 0 false" {
		t.Errorf("after it: %s", got)
	}
}

// TestWatchedFeatures: the first ones are watched, or those that are named, also of a wide row; none twice, and none
// that is called nothing.
func TestWatchedFeatures(t *testing.T) {
	f := func(o Drifting, names []string, want ...string) {
		t.Helper()
		o.fill()
		m := &Model{Version: "v1", signature: adder(names...).signature, reading: reading{kind: otherModel}}
		var got []string
		for _, l := range newWatch(m, &o, 0).looks() {
			got = append(got, l.name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
	f(Drifting{}, []string{"a", "b", "c"}, "a", "b", "c")
	f(Drifting{Features: 2}, []string{"a", "b", "c"}, "a", "b")
	f(Drifting{Features: -1}, []string{"a", "b", "c"})
	f(Drifting{Off: true}, []string{"a", "b", "c"})
	f(Drifting{Features: 1, FeatureNames: []string{"c", "z", "b"}}, []string{"a", "b", "c"}, "b", "c")
	f(Drifting{}, []string{"a", "a", "", "b"}, "a", "b")
	wide := make([]string, 500)
	for i := range wide {
		wide[i] = fmt.Sprintf("n%d", i)
	}
	f(Drifting{}, wide)
	f(Drifting{FeatureNames: []string{"n7", "n499"}}, wide, "n7", "n499")
}

// TestMissingValues: NaN is no statistic, and drifts when there is more of it than there was.
func TestMissingValues(t *testing.T) {
	o := &Drifting{First: 500}
	o.fill()
	m := &Model{Version: "v1", signature: adder("a", "b").signature, reading: reading{kind: otherModel}}
	w := newWatch(m, o, 0)
	r := rand.New(rand.NewPCG(1, 1))
	add := func(n int, missing float64) {
		p := w.enter()
		defer w.leave(p)
		for range n {
			b := r.NormFloat64()
			if r.Float64() < missing {
				b = math.NaN()
			}
			w.addFeatures(p, []tensor.Tensor{fp64("x", []int64{1, 2}, r.NormFloat64(), b)})
		}
	}
	drifting := func() (all []string) {
		for _, c := range o.compare(m, m, w.looks()) {
			if c.Drifted {
				all = append(all, c.feature)
			}
		}
		return all
	}
	add(1500, 0)
	if all := drifting(); all != nil {
		t.Errorf("at first %q drift", all)
	}
	add(1500, 0.5)
	if all := drifting(); !slices.Equal(all, []string{"b"}) {
		t.Errorf("%q drift, want b", all)
	}
	all := map[featureKey]statistic{}
	w.addStatistics(all)
	if a, b := all[featureKey{"a", "v1"}], all[featureKey{"b", "v1"}]; a.count != 3000 || b.count >= 2500 || math.IsNaN(b.sum) {
		t.Errorf("statistics: %+v, %+v", a, b)
	}
}

// TestWatchTogether has many goroutines add while the window turns, references are set and all is read: no value is lost or
// counted twice, and what is read while they add is never more than there is.
func TestWatchTogether(t *testing.T) {
	const adders, requests, rows = 8, 200, 3
	o := &Drifting{First: 500}
	o.fill()
	m := &Model{Version: "v1", signature: adder("a", "b").signature, reading: reading{kind: regressor}}
	w := newWatch(m, o, 0)
	input := []tensor.Tensor{fp64("x", []int64{rows, 2}, 1, 2, 3, 4, 5, 6)}
	var adding sync.WaitGroup
	for range adders {
		adding.Go(func() {
			for range requests {
				p := w.enter()
				w.addFeatures(p, input)
				for range rows {
					w.addScore(p, 7)
				}
				w.leave(p)
			}
		})
	}
	const all = adders * requests * rows
	for i := range int64(driftSlots) {
		w.tick(i)
		for _, l := range w.looks() {
			if n := l.window.Count(); n > all || l.fresh.Count()+l.reference.Count() != n {
				t.Errorf("%s: %d values, %d fresh, %d in the reference", l.name, n, l.fresh.Count(), l.reference.Count())
			}
		}
	}
	adding.Wait()
	for _, l := range w.looks() {
		if l.window.Count() != all || l.reference.Count() != 500 || !l.complete {
			t.Errorf("%q: %d in the window and %d in the reference, complete %v; want %d and 500", l.name, l.window.Count(), l.reference.Count(), l.complete, all)
		}
	}
	got := map[featureKey]statistic{}
	w.addStatistics(got)
	third := float64(adders * requests)
	if diff := cmp.Diff(map[featureKey]statistic{
		{"a", "v1"}: {all, third * (1 + 3 + 5), 1, 5},
		{"b", "v1"}: {all, third * (2 + 4 + 6), 2, 6},
	}, got, cmp.AllowUnexported(featureKey{}, statistic{})); diff != "" {
		t.Error(diff)
	}
	for from, want := range map[string]uint64{referenceWindow: all, referenceFirst: 0} {
		r := DriftReference{From: from}
		if f := r.apply(w, 500); f != nil {
			t.Fatal(f)
		}
		for _, l := range w.looks() {
			if l.fresh.Count() != all || l.reference.Count() != want {
				t.Errorf("%q from the %s: %d fresh, %d in the reference", l.name, from, l.fresh.Count(), l.reference.Count())
			}
		}
	}
}

// TestWatchCost: a prediction is counted without an allocation, once the bins of its values are there, and what a model takes
// of memory is what the documentation says.
func TestWatchCost(t *testing.T) {
	names := make([]string, maxFeatures)
	row := make([]float64, maxFeatures)
	for i := range names {
		names[i], row[i] = fmt.Sprintf("n%d", i), float64(i)
	}
	o := &Drifting{First: 1}
	o.fill()
	w := newWatch(&Model{Version: "v1", signature: adder(names...).signature, reading: reading{kind: regressor}}, o, 0)
	input := []tensor.Tensor{fp64("x", []int64{1, maxFeatures}, row...)}
	add := func() {
		p := w.enter()
		w.addFeatures(p, input)
		w.addScore(p, 7)
		w.leave(p)
	}
	for range 1000 { // so that all parts have their room
		add()
	}
	if n := testing.AllocsPerRun(1000, add); n > 0.01 {
		t.Errorf("a prediction costs %v allocations", n)
	}
	var pages, tables int
	for _, s := range w.series {
		for i := range s.slots {
			for _, c := range []counts{s.slots[i].first, s.slots[i].fresh} {
				tables += len(c)
				for _, page := range c {
					if page != nil {
						pages++
					}
				}
			}
		}
	}
	if most := 2 * (maxFeatures + 1); pages > most || tables > most*(stats.LogScale.Bins()/pageBins+1) {
		t.Errorf("%d pages and %d places for them of values in one bin each", pages, tables)
	}
}
