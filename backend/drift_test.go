package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/tensor"
	"weir/internal/stats"
)

// repeater is a regressor that says its input.
func repeater() *scripted {
	one := []int64{-1, 1}
	return &scripted{
		signature: tensor.Signature{
			Inputs:  []tensor.Spec{{Name: "x", Type: tensor.FP64, Shape: one}},
			Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP64, Shape: one}},
		},
		within: func(_ context.Context, in []tensor.Tensor) ([]tensor.Tensor, error) {
			out := in[0]
			out.Name = "y"
			return []tensor.Tensor{out}, nil
		},
	}
}

// infer asks a version of model m about numbers, normally distributed around mean.
func (r *running) infer(version string, seed uint64, n int, mean float64) {
	r.t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	values := make([]float64, n)
	for i := range values {
		values[i] = mean + random.NormFloat64()
	}
	body, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{
		"name": "x", "datatype": "FP64", "shape": []int{n, 1}, "data": values,
	}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if got := r.post("/v2/models/m/versions/"+version+"/infer", string(body)); got.status != 200 {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
}

func (r *running) put(body string) response {
	r.t.Helper()
	return r.send(http.MethodPut, "/drift/reference", body)
}

func driftServer(t *testing.T, control bool, now func() time.Time) *running {
	t.Helper()
	other := doubler()
	other.signature.Outputs[0].Shape = []int64{-1, 2, 1} // no prediction that could be scored
	return start(t, Options{
		Models: []Source{source("m", "v1", repeater()), source("m", "v2", repeater()), source("other", "v1", other)},
		Drift:  Drifting{Features: -1, First: 1000, Least: 400, Window: 12 * time.Minute, Control: control}, Now: now,
	}, true)
}

// TestDrift is a model's life: its first scores are the reference, later ones drift and come back,
// and another version says something else.
func TestDrift(t *testing.T) {
	c := newClock()
	r := driftServer(t, false, c.now)
	state := func(version, against string) string {
		t.Helper()
		for _, m := range decode[driftAnswer](t, r.get("/drift")).Models {
			for _, d := range m.Comparisons {
				if m.Version == version && d.Against == against {
					return fmt.Sprintf("reference %d %v, current %d, enough %v, drifted %v", d.Reference, m.Complete, d.Current, d.Enough, d.Drifted)
				}
			}
		}
		return "none"
	}
	want := func(version, against, want string) {
		t.Helper()
		if got := state(version, against); got != want {
			t.Errorf("%s against %s: %s; want %s", version, against, got, want)
		}
	}
	r.infer("v1", 1, 900, 5)
	want("v1", "reference", "reference 900 false, current 0, enough false, drifted false")
	r.infer("v1", 2, 500, 5)
	want("v1", "reference", "reference 1000 true, current 400, enough true, drifted false")
	r.wantMetric(`ml_drift_detected{against="reference",model="m",model_version="v1"} 0`)
	r.wantMetric(`ml_drift_window_scores{model="m",model_version="v1"} 400`)
	r.wantMetric(`ml_drift_reference_scores{model="m",model_version="v1"} 1000`)

	c.advance(6 * time.Minute)
	r.server.tickDrift(c.now())
	r.infer("v1", 3, 400, 8)
	want("v1", "reference", "reference 1000 true, current 800, enough true, drifted true")
	r.wantMetric(`ml_drift_detected{against="reference",model="m",model_version="v1"} 1`)
	want("v2", "version v1", "reference 1800 false, current 0, enough false, drifted false")
	if page := r.get("/metrics").body; strings.Contains(page, `ml_drift_detected{against="version v1"`) || strings.Contains(page, `ml_drift_psi{against="reference",model="m",model_version="v2"}`) {
		t.Error("something was decided with too few scores")
	}

	// The window forgets: the first slot has gone after 13 minutes, and what was wrong after 19.
	c.advance(7 * time.Minute)
	r.server.tickDrift(c.now())
	want("v1", "reference", "reference 1000 true, current 400, enough true, drifted true")
	r.infer("v1", 4, 500, 5)
	c.advance(6*time.Minute + time.Second)
	r.server.tickDrift(c.now())
	want("v1", "reference", "reference 1000 true, current 500, enough true, drifted false")

	r.infer("v2", 5, 1500, 6)
	want("v2", "reference", "reference 1000 true, current 500, enough true, drifted false")
	want("v2", "version v1", "reference 500 true, current 1500, enough true, drifted true")
	r.wantMetric(`ml_drift_detected{against="version v1",model="m",model_version="v2"} 1`)
	want("v1", "version v1", "none")
	c.advance(time.Hour)
	r.server.tickDrift(c.now())
	want("v2", "reference", "reference 1000 true, current 0, enough false, drifted false")
}

// TestDriftReference sets references and reads them back.
func TestDriftReference(t *testing.T) {
	r := driftServer(t, true, newClock().now)
	references := func() []DriftReference {
		t.Helper()
		got := r.get("/drift/reference")
		if got.status != 200 {
			t.Fatal(got)
		}
		return decode[DriftReferences](t, got).References
	}
	before := references()
	if len(before) != 2 || before[0].Source != "first" || before[0].Complete {
		t.Fatalf("at first: %+v", before)
	}
	got := r.put(`{"references": [{"model": "m", "model_version": "v1", "scores": [0.5, 2, 2]},
		{"model": "m", "model_version": "v2", "distribution": {"scale": "log", "counts": {"896": 7}}}]}`)
	if got.status != 200 {
		t.Fatal(got)
	}
	now := references()
	first := stats.NewDistribution(stats.LogScale, []float64{0.5, 2, 2})
	second := stats.Distribution{Scale: stats.LogScale, Counts: map[int]uint64{896: 7}}
	if diff := cmp.Diff([]DriftReference{
		{Model: "m", Version: "v1", Distribution: &first, Source: "given", Complete: true},
		{Model: "m", Version: "v2", Distribution: &second, Source: "given", Complete: true},
	}, now); diff != "" {
		t.Error(diff)
	}

	r.infer("v1", 1, 600, 5) // all of it is in the window: the reference is whole
	if got := r.put(`{"references": [{"model": "m", "model_version": "v1", "from": "window"}]}`); got.status != 200 {
		t.Fatal(got)
	}
	if pinned := references()[0]; pinned.Source != "window" || pinned.Distribution.Count() != 600 {
		t.Errorf("pinned: %+v", pinned)
	}
	if got := r.put(`{"references": [{"model": "m", "model_version": "v1", "from": "first"}]}`); got.status != 200 {
		t.Fatal(got)
	}
	r.infer("v1", 2, 300, 5)
	if anew := references()[0]; anew.Source != "first" || anew.Complete || anew.Distribution.Count() != 300 {
		t.Errorf("anew: %+v", anew)
	}

	f := func(status int, message, body string) {
		t.Helper()
		before := references()
		wantError(t, r.put(body), status, message)
		if diff := cmp.Diff(before, references()); diff != "" {
			t.Errorf("what was refused changed something: %s", diff)
		}
	}
	const good = `{"model": "m", "model_version": "v1", "scores": [1]}`
	f(400, `no "references"`, `{}`)
	f(400, "unexpected end of JSON input", `{"references":`)
	f(400, `references[1]: "model" and "model_version"`, `{"references": [`+good+`, {"model": "m", "scores": [1]}]}`)
	f(400, `2 of "distribution", "scores", "values" and "from"`, `{"references": [{"model": "m", "model_version": "v1", "scores": [1], "from": "first"}]}`)
	f(400, `0 of`, `{"references": [{"model": "m", "model_version": "v1"}]}`)
	f(400, `from is "now"; want "first" or "window"`, `{"references": [{"model": "m", "model_version": "v1", "from": "now"}]}`)
	f(400, "there are no scores", `{"references": [{"model": "m", "model_version": "v1", "scores": []}]}`)
	f(400, "bin 9999 is not on the scale", `{"references": [{"model": "m", "model_version": "v1", "distribution": {"scale": "log", "counts": {"9999": 1}}}]}`)
	f(404, "no drift is watched of a model m version v3", `{"references": [`+good+`, {"model": "m", "model_version": "v3", "scores": [1]}]}`)
	f(404, "no drift is watched of a model other", `{"references": [{"model": "other", "model_version": "v1", "scores": [1]}]}`)
	f(409, `the scale of m version v2 is "unit"; want "log"`, `{"references": [`+good+`, {"model": "m", "model_version": "v2", "distribution": {"scale": "unit", "counts": {"1": 1}}}]}`)
	f(409, "the window of m version v2 is empty", `{"references": [`+good+`, {"model": "m", "model_version": "v2", "from": "window"}]}`)
	wantError(t, r.post("/drift/reference", `{}`), 405, "the method is POST")
}

// TestDriftIsNotEverybodys: without control clients set nothing, and off watches nothing.
func TestDriftIsNotEverybodys(t *testing.T) {
	r := driftServer(t, false, nil)
	wantError(t, r.put(`{"references": [{"model": "m", "model_version": "v1", "scores": [1]}]}`), 403, "drift.control: true")
	off := start(t, Options{Models: []Source{source("m", "v1", repeater())}, Drift: Drifting{Off: true}}, true)
	off.infer("v1", 1, 10, 1)
	if got := off.get("/drift"); got.status != 200 || len(decode[driftAnswer](t, got).Models) != 0 {
		t.Errorf("off: %s", got.body)
	}
}

// TestDriftReferenceOfTheConfiguration: one that fits is taken, one that does not leaves the first scores.
func TestDriftReferenceOfTheConfiguration(t *testing.T) {
	all, err := ParseDriftReferences([]byte(`{"references": [{"model": "m", "model_version": "v1", "scores": [1, 2]},
		{"model": "m", "model_version": "v2", "distribution": {"scale": "unit", "counts": {"1": 1}}},
		{"model": "later", "model_version": "v1", "scores": [1]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Options{Models: []Source{source("m", "v1", repeater()), source("m", "v2", repeater())}, Drift: Drifting{Features: -1, References: all}}, true)
	got := decode[DriftReferences](t, r.get("/drift/reference")).References
	if got[0].Source != "given" || got[0].Distribution.Count() != 2 || got[1].Source != "first" {
		t.Errorf("got %+v", got)
	}
}
