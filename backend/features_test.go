package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"weir/backend/tensor"
)

// TestFeaturesOf: which numbers of which inputs are features, and what they are called.
func TestFeaturesOf(t *testing.T) {
	input := func(name string, of tensor.Type, shape ...int64) tensor.Spec {
		return tensor.Spec{Name: name, Type: of, Shape: shape}
	}
	several := []tensor.Spec{
		input("age", tensor.Int64, -1, 1), input("city", tensor.Bytes, -1, 1), input("size", tensor.FP32, -1, 2),
		input("image", tensor.FP32, -1, 28, 28), input("open", tensor.FP32, -1, -1), input("flag", tensor.Bool, -1, 1),
	}
	for name, c := range map[string]struct {
		inputs   []tensor.Spec
		metadata string
		widest   int
		want     string
	}{
		"one input":           {[]tensor.Spec{input("x", tensor.FP32, -1, 3)}, "", 32, "x_0 0:0/3, x_1 0:1/3, x_2 0:2/3"},
		"named":               {[]tensor.Spec{input("x", tensor.FP32, -1, 2)}, `["a","b"]`, 32, "a 0:0/2, b 0:1/2"},
		"names of another":    {[]tensor.Spec{input("x", tensor.FP32, -1, 2)}, `["a","b","c"]`, 32, "x_0 0:0/2, x_1 0:1/2"},
		"several":             {several, "", 32, "age 0:0/1, size_0 2:0/2, size_1 2:1/2"},
		"named among a width": {[]tensor.Spec{several[3], several[2]}, namesUpTo(786), 32, "n784 1:0/2, n785 1:1/2"},
		"too wide":            {several[3:4], "", 32, ""},
		"text":                {several[1:2], "", 32, ""},
		"one number":          {[]tensor.Spec{input("x", tensor.FP32, -1, 1)}, "", 32, "x_0 0:0/1"},
	} {
		var all []string
		for _, f := range featuresOf(&tensor.Signature{Inputs: c.inputs, Metadata: map[string]string{"features": c.metadata}}, c.widest) {
			all = append(all, fmt.Sprintf("%s %d:%d/%d", f.name, f.input, f.at, f.width))
		}
		if got := strings.Join(all, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func namesUpTo(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	text, err := json.Marshal(names)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestFeaturesOfSeveralInputs: each input's numbers are its own features, of all rows.
func TestFeaturesOfSeveralInputs(t *testing.T) {
	m := &scripted{
		signature: tensor.Signature{
			Inputs: []tensor.Spec{
				{Name: "size", Type: tensor.FP32, Shape: []int64{-1, 2}},
				{Name: "city", Type: tensor.Bytes, Shape: []int64{-1, 1}},
				{Name: "age", Type: tensor.Int64, Shape: []int64{-1, 1}},
			},
			Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP64, Shape: []int64{-1, 1}}},
		},
		run: func([]tensor.Tensor) ([]tensor.Tensor, error) {
			return []tensor.Tensor{fp64("y", []int64{2, 1}, 1, 2)}, nil
		},
	}
	r := start(t, Options{Models: []Source{source("m", "v1", m)}}, true)
	got := r.post("/v2/models/m/infer", `{"inputs": [
		{"name": "age", "datatype": "INT64", "shape": [2, 1], "data": [30, 50]},
		{"name": "city", "datatype": "BYTES", "shape": [2, 1], "data": ["Bonn", "Kiel"]},
		{"name": "size", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}`)
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, line := range []string{
		`ml_feature_statistics_sum{feature_name="age",model_version="v1"} 80`,
		`ml_feature_statistics_sum{feature_name="size_0",model_version="v1"} 4`,
		`ml_feature_statistics_sum{feature_name="size_1",model_version="v1"} 6`,
		`ml_feature_statistics{feature_name="size_1",model_version="v1",quantile="0"} 2`,
		`ml_drift_feature_reference_values{feature_name="age",model="m",model_version="v1"} 2`,
	} {
		r.wantMetric(line)
	}
	if strings.Contains(r.get("/metrics").body, "city") {
		t.Error("a text is a feature")
	}
}

// TestStatisticsGoOn: what models of one version saw adds up, also of one that is no longer loaded.
func TestStatisticsGoOn(t *testing.T) {
	s := newShelf(t, "m/1", "n/1")
	r := start(t, Options{Folder: s.folder(1), Control: true}, true)
	ask := func(model string) {
		t.Helper()
		if got := r.post("/v2/models/"+model+"/infer", `{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}`); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	want := func(n int) {
		t.Helper()
		r.await(fmt.Sprintf(`ml_feature_statistics_count{feature_name="x_1",model_version="1"} %d`, n))
		r.wantMetric(fmt.Sprintf(`ml_feature_statistics_sum{feature_name="x_1",model_version="1"} %d`, 2*n))
	}
	ask("m")
	ask("n")
	want(2)
	if got := r.post("/v2/repository/models/m/load", ""); got.status != 200 {
		t.Fatal(got)
	}
	want(2)
	ask("m")
	want(3)
	if got := r.post("/v2/repository/models/m/unload", ""); got.status != 200 {
		t.Fatal(got)
	}
	want(3)
	ask("n")
	want(4)
}
