package backend

import (
	"encoding/binary"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/backend/tensor"
)

// fixed is a model that always gives these outputs.
func fixed(in tensor.Spec, metadata map[string]string, outputs ...tensor.Tensor) *scripted {
	sig := tensor.Signature{Inputs: []tensor.Spec{in}, Metadata: metadata, Platform: "test"}
	for _, out := range outputs {
		shape := append([]int64{}, out.Shape...)
		if len(shape) > 0 {
			shape[0] = -1
		}
		sig.Outputs = append(sig.Outputs, tensor.Spec{Name: out.Name, Type: out.Type, Shape: shape})
	}
	return &scripted{signature: sig, run: func([]tensor.Tensor) ([]tensor.Tensor, error) { return outputs, nil }}
}

func fp32(name string, shape []int64, values ...float32) tensor.Tensor {
	return tensor.Tensor{Name: name, Type: tensor.FP32, Shape: shape, Data: floats32(values...)}
}

func fp64(name string, shape []int64, values ...float64) tensor.Tensor {
	t := tensor.Tensor{Name: name, Type: tensor.FP64, Shape: shape}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(v))
	}
	return t
}

func int64s(name string, shape []int64, values ...int64) tensor.Tensor {
	t := tensor.Tensor{Name: name, Type: tensor.Int64, Shape: shape}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(v))
	}
	return t
}

// TestPredictionsOfEveryKind reads models of all the forms that /predict understands.
func TestPredictionsOfEveryKind(t *testing.T) {
	in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 2}}
	one, two := []int64{1}, []int64{1, 2}
	labels := map[string]string{"labels": `["cat","dog"]`}
	f := func(m *scripted, want string) {
		t.Helper()
		c := newClock()
		r := start(t, Options{Models: []Source{source("m", "v1", m)}, Now: c.now}, true)
		got := r.post("/predict", `{"features":[1,2]}`)
		want = `{"prediction":` + want + `,"model":"m","model_version":"v1","latency_ms":0}`
		if diff := cmp.Diff(want, got.body); diff != "" || got.status != 200 {
			t.Errorf("%d (-want +got):\n%s", got.status, diff)
		}
	}
	f(fixed(in, nil, fp32("p", two, 0.25, 0.75)), `1,"probabilities":[0.25,0.75]`)
	f(fixed(in, labels, fp32("p", two, 0.25, 0.75)), `1,"label":"dog","probabilities":[0.25,0.75]`)
	f(fixed(in, labels, int64s("l", one, 0), fp32("p", two, 0.9, 0.1)), `0,"label":"cat","probabilities":[0.9,0.1]`)
	f(fixed(in, labels, fp32("p", two, 3.5, -7)), `0,"label":"cat","scores":[3.5,-7]`)
	f(fixed(in, labels, fp32("p", two, 3.5, float32(math.NaN()))), `0,"label":"cat"`)
	f(fixed(in, nil, int64s("l", []int64{1, 1}, 41)), `41`)
	f(fixed(in, labels, int64s("l", one, -1)), `-1`)
	f(fixed(in, nil, tensor.Tensor{Name: "l", Type: tensor.Bytes, Shape: one, Strings: []string{`d"og`}}, fp64("p", two, 0.2, 0.8)),
		`"d\"og","probabilities":[0.2,0.8]`)
	f(fixed(in, nil, fp32("y", one, 0.1)), `0.1`)
	f(fixed(in, nil, fp32("y", []int64{1, 1}, 1e-9)), `1e-09`)
	f(fixed(in, nil, fp64("y", one, 0.1)), `0.1`)

	named := fixed(in, nil, fp32("p", two, 0.25, 0.75))
	named.signature.Outputs[0].Columns = []string{"no", "yes"}
	f(named, `1,"label":"yes","probabilities":[0.25,0.75]`)
}

func TestPredictRefuses(t *testing.T) {
	f := func(shape []int64, body, message string) {
		t.Helper()
		m := fixed(tensor.Spec{Name: "x", Type: tensor.FP32, Shape: shape}, nil, fp32("y", []int64{1}, 1))
		r := start(t, Options{Models: []Source{source("m", "v1", m)}}, true)
		got := r.post("/predict", body)
		wantError(t, got, 400, message)
		if want := "model m takes x FP32" + tensor.ShapeString(shape); !strings.Contains(got.body, want) {
			t.Errorf("%s: %s does not say %q", body, got.body, want)
		}
	}
	rows := []int64{-1, 4}
	f(rows, ``, "want an object, found the end")
	f(rows, `{}`, `no "features"; want {"features": [...]}`)
	f(rows, `{"feature":[1,2,3,4]}`, `no "features"`)
	f(rows, `{"features":[1,2,3]}`, "features: 3 values, but a row has 4")
	f(rows, `{"features":[]}`, "features: 0 values, but a row has 4")
	f(rows, `{"features":[1,2,3,4,5]}`, "features: 5 values, but a row has 4")
	f(rows, `{"features":[[1,2,3,4]]}`, "want one row: a flat array of values")
	f(rows, `{"features":1}`, "features: want an array")
	f(rows, `{"features":[1,2,"x",4]}`, "features: element 2: want a number")
	f(rows, `{"features":[1,2,NaN,4]}`, "JSON has no NaN or infinity")
	f(rows, `{"features":[1,2,,4]}`, "features: element 2: want a number")
	f(rows, `{"features":[1,2,3,4]`, "found the end")
	f(rows, `{"features":[1,2,3,4]}{}`, "want the end")
	f(rows, `{"features":[1,2,3,4],"features":[1,2,3,4]}`, `the key "features" is given twice`)
	f([]int64{-1, -1, -1}, `{"features":[1]}`, "leaves two dimensions open")
	f([]int64{-1, 2, -1}, `{"features":[1,2,3]}`, "features: 3 values")
}

// TestRowShapes checks how one row is laid out for inputs of several forms.
func TestRowShapes(t *testing.T) {
	f := func(want []int64, count int64, shape ...int64) {
		t.Helper()
		got, err := rowShape(want, count)
		if diff := cmp.Diff(shape, got); diff != "" || err != nil {
			t.Errorf("%v for %d: %v, %v", want, count, got, err)
		}
	}
	f([]int64{-1, 4}, 4, 1, 4)
	f([]int64{1, 4}, 4, 1, 4)
	f([]int64{4}, 4, 4)
	f([]int64{-1}, 7, 7)
	f([]int64{-1, -1}, 7, 1, 7)
	f([]int64{-1, 2, -1}, 6, 1, 2, 3)
	f([]int64{-1, 28, 28, 1}, 784, 1, 28, 28, 1)
	f([]int64{2, 3}, 6, 2, 3)
	f(nil, 5, 1, 5)
}

func TestPredictNeedsOneInputAndAPrediction(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two())}}, true)
	wantError(t, r.post("/predict", `{"features":[1]}`), 400, "use POST /v2/models/m/infer")
	in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 1}}
	image := fixed(in, nil, fp32("image", []int64{1, 1, 2, 2}, 1, 2, 3, 4))
	r = start(t, Options{Models: []Source{source("m", "v1", image)}}, true)
	wantError(t, r.post("/predict", `{"features":[1]}`), 400, "neither a class nor a value")
	broken := fixed(in, nil, fp32("y", []int64{1}, float32(math.Inf(1))))
	r = start(t, Options{Models: []Source{source("m", "v1", broken)}}, true)
	wantError(t, r.post("/predict", `{"features":[1]}`), 500, "the model predicted +Inf, which JSON cannot carry")
	r.wantMetric(`ml_predictions_total{model_type="regressor",model_version="v1",status="success"} 0`)
	r.wantMetric(`ml_predictions_total{model_type="regressor",model_version="v1",status="error"} 1`)
}

// TestMetricsOfPredictions checks every ml_* family after requests of a known time.
func TestMetricsOfPredictions(t *testing.T) {
	c := newClock()
	in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 2}}
	m := fixed(in, map[string]string{"features": `["width","height"]`}, fp32("p", []int64{2, 2}, 0.25, 0.75, 0.5, 0.5))
	answer := m.run
	m.run = func(inputs []tensor.Tensor) ([]tensor.Tensor, error) {
		c.advance(30 * time.Millisecond)
		return answer(inputs)
	}
	r := start(t, Options{Models: []Source{source("m", "v1", m)}, Now: c.now, Environment: "staging"}, true)
	for _, features := range []string{"[1,-2]", "[3,4]"} {
		if got := r.post("/predict", `{"features":`+features+`}`); got.status != 200 || !strings.Contains(got.body, `"latency_ms":30}`) {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	r.post("/predict", `{}`)
	r.post("/v2/models/nobody/infer", `{}`)
	for _, line := range []string{
		`ml_predictions_total{model_type="classifier",model_version="v1",status="success"} 2`,
		`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 0`,
		`ml_prediction_latency_seconds_bucket{model_version="v1",le="0.01"} 0`,
		`ml_prediction_latency_seconds_bucket{model_version="v1",le="0.05"} 2`,
		`ml_prediction_latency_seconds_bucket{model_version="v1",le="10"} 2`,
		`ml_prediction_latency_seconds_sum{model_version="v1"} 0.06`,
		`ml_prediction_score_count{model_version="v1"} 4`,
		`ml_prediction_score_sum{model_version="v1"} 2.5`,
		`ml_prediction_distribution_bucket{model_version="v1",le="0.7"} 2`,
		`ml_prediction_distribution_bucket{model_version="v1",le="0.8"} 4`,
		`ml_model_loaded{model_version="v1"} 1`,
		`ml_model_info{environment="staging",model="m",model_type="classifier",model_version="v1",platform="test"} 1`,
		`ml_active_requests 0`,
		`ml_queued_requests 0`,
		`ml_errors_total{error_type="invalid_request",model_version="v1"} 1`,
		`ml_errors_total{error_type="unknown_model",model_version=""} 1`,
		`ml_feature_statistics{feature_name="width",model_version="v1",quantile="0"} 1`,
		`ml_feature_statistics{feature_name="width",model_version="v1",quantile="1"} 3`,
		`ml_feature_statistics_sum{feature_name="height",model_version="v1"} 2`,
		`ml_feature_statistics_count{feature_name="height",model_version="v1"} 2`,
		`ml_feature_statistics{feature_name="height",model_version="v1",quantile="0"} -2`,
	} {
		r.wantMetric(line)
	}
}

// TestMetricsLint has Prometheus' own linter look at every family, GPUs included.
func TestMetricsLint(t *testing.T) {
	gpus := []GPUDevice{{MemoryUsed: 1, MemoryTotal: 2, Utilization: 3, XIDs: map[int]uint64{31: 1}}}
	r := start(t, Options{
		Models: []Source{source("m", "v1", doubler()), source("n", "v1", doubler())},
		GPU:    func() ([]GPUDevice, error) { return gpus, nil },
	}, true)
	r.await(`ml_gpu_utilization_percent{device_id="0"} 3`)
	problems, err := testutil.GatherAndLint(r.server.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	got := r.get("/metrics")
	if !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("Content-Type is %q", got.header.Get("Content-Type"))
	}
	for _, process := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(got.body, "\n"+process+" ") {
			t.Errorf("no %s", process)
		}
	}
}

// TestManyFeaturesHaveNoStatistics keeps an image's pixels out of the metrics.
func TestManyFeaturesHaveNoStatistics(t *testing.T) {
	for shape, want := range map[int64]bool{maxFeatures: true, maxFeatures + 1: false} {
		in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, shape}}
		r := start(t, Options{Models: []Source{source("m", "v1", fixed(in, nil, fp32("y", []int64{1}, 1)))}}, true)
		if has := strings.Contains(r.get("/metrics").body, `ml_feature_statistics_count{feature_name="x_0"`); has != want {
			t.Errorf("%d features: statistics %v, want %v", shape, has, want)
		}
	}
}

// TestPredictionLog checks the guide's line at level debug, and that a user is not named in it.
func TestPredictionLog(t *testing.T) {
	core, lines := observer.New(zap.DebugLevel)
	in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 1}}
	r := start(t, Options{
		Models: []Source{source("m", "v1", fixed(in, nil, fp32("y", []int64{1}, 0.5)))}, Log: zap.New(core), Now: newClock().now,
	}, true)
	got := r.send(http.MethodPost, "/predict", `{"features":[1]}`, "X-Request-ID", "req-1", "X-User-ID", "ada")
	if got.status != 200 {
		t.Fatal(got)
	}
	entries := lines.FilterMessage("prediction completed").All()
	if len(entries) != 1 {
		t.Fatalf("%d lines", len(entries))
	}
	want := map[string]any{
		"request_id": "req-1", "model": "m", "model_version": "v1", "latency_ms": 0.0, "prediction": 0.5,
	}
	fields := entries[0].ContextMap()
	want["user_id"] = hashed([]byte("ada"))
	if diff := cmp.Diff(want, fields); diff != "" || strings.Contains(hashed([]byte("ada")), "ada") {
		t.Error(diff)
	}
}
