package backend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend"
	"weir/backend/inference"
	"weir/backend/models"
	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

// batched is the source with batches of up to eight rows, for which requests wait.
func batched(s backend.Source) backend.Source {
	s.Serving.Batching = &backend.Batching{MaxBatch: 8, MaxDelay: 2 * time.Millisecond, Preferred: []int{4}}
	return s
}

// ask asks a model over gRPC about rows of its only input, and returns its outputs as they are.
func ask(ctx context.Context, c inference.GRPCInferenceServiceClient, model, input, datatype string, shape []int64, raw []byte) (*inference.ModelInferResponse, error) {
	return c.ModelInfer(ctx, &inference.ModelInferRequest{
		ModelName:        model,
		Inputs:           []*inference.ModelInferRequest_InferInputTensor{{Name: input, Datatype: datatype, Shape: shape}},
		RawInputContents: [][]byte{raw},
	})
}

// TestBatchedTypes sends rows of every type, of several widths, through models that give them back,
// from many clients at once: each gets its own rows, to the bit.
func TestBatchedTypes(t *testing.T) {
	var sources []backend.Source
	for _, typ := range tensor.Types() {
		if typ != tensor.FP16 && typ != tensor.BF16 { // whose outputs may have one free dimension only
			sources = append(sources, batched(source(t, typ.String(), "1", onnxtest.Identity(typ, -1, -1).Write(t))))
			continue
		}
		sources = append(sources, batched(source(t, typ.String(), "1", onnxtest.Identity(typ, -1, 2).Write(t))))
	}
	base, c := serveBoth(t, sources...)
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(client)))
			for range 40 {
				typ := tensor.Types()[random.IntN(len(tensor.Types()))]
				n, width := 1+random.Int64N(9), 1+random.Int64N(2)
				if typ == tensor.FP16 || typ == tensor.BF16 {
					width = 2
				}
				var raw []byte
				for range n * width {
					if typ == tensor.Bytes {
						raw = tensor.AppendStrings(raw, []string{strings.Repeat("x", random.IntN(9))})
						continue
					}
					for range typ.Size() {
						raw = append(raw, byte(random.IntN(2)))
					}
				}
				answer, err := ask(t.Context(), c, typ.String(), "x", typ.String(), []int64{n, width}, raw)
				if err != nil {
					t.Error(err)
					return
				}
				out := answer.Outputs[0]
				if out.Shape[0] != n || out.Shape[1] != width || !bytes.Equal(answer.RawOutputContents[0], raw) {
					t.Errorf("%s[%d,%d]: got %v %q for %q", typ, n, width, out.Shape, answer.RawOutputContents[0], raw)
				}
			}
		})
	}
	clients.Wait()
	for _, typ := range tensor.Types() {
		if n := metric(t, base, fmt.Sprintf("ml_batch_fallbacks_total{model=%q,model_version=\"1\"}", typ)); n != 0 {
			t.Errorf("%s: %v batches failed", typ, n)
		}
	}
}

// TestBatchedForest compares what a forest says of flowers in batches with what it says of them one by one.
func TestBatchedForest(t *testing.T) {
	const path = "models/iris-forest.onnx"
	base, c := serveBoth(t, batched(source(t, "batched", "1", path)), source(t, "single", "1", path))
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(client)))
			for range 50 {
				n := 1 + random.Int64N(4)
				var raw []byte
				for range 4 * n {
					raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(8*random.Float32()))
				}
				got, err := ask(t.Context(), c, "batched", "X", "FP32", []int64{n, 4}, raw)
				if err != nil {
					t.Error(err)
					return
				}
				want, err := ask(t.Context(), c, "single", "X", "FP32", []int64{n, 4}, raw)
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(got.RawOutputContents[0], want.RawOutputContents[0]) || fmt.Sprint(got.Outputs[1].Shape) != fmt.Sprint(want.Outputs[1].Shape) {
					t.Errorf("labels %v in a batch, %v alone", got.RawOutputContents[0], want.RawOutputContents[0])
				}
				near(t, got.RawOutputContents[1], want.RawOutputContents[1])
			}
		})
	}
	clients.Wait()
	requests, runs := metric(t, base, `ml_queue_seconds_count{model="batched",model_version="1"}`), metric(t, base, `ml_batch_rows_count{model="batched",model_version="1"}`)
	if requests != 300 || runs >= requests {
		t.Errorf("%v requests in %v runs: nothing was batched", requests, runs)
	}
	if n := metric(t, base, `ml_batch_fallbacks_total{model="batched",model_version="1"}`); n != 0 {
		t.Errorf("%v batches failed", n)
	}
}

// near compares float32 values. A product of matrices may be added up in another order for another number of rows.
func near(t *testing.T, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
		return
	}
	for i := 0; i < len(got); i += 4 {
		g, w := math.Float32frombits(binary.LittleEndian.Uint32(got[i:])), math.Float32frombits(binary.LittleEndian.Uint32(want[i:]))
		if math.Abs(float64(g-w)) > 1e-5 {
			t.Errorf("number %d is %v in a batch, %v alone", i/4, g, w)
		}
	}
}

// TestBatchedImages asks about the labelled sample, each image by a request of its own over REST.
func TestBatchedImages(t *testing.T) {
	const path = "models/fashion-v2.onnx"
	base := serve(t, batched(source(t, "batched", "1", path)), source(t, "single", "1", path))
	sample := models.Sample()[:60]
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			for i := client; i < len(sample); i += 6 {
				var raw []byte
				for _, f := range sample[i].Features() {
					raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
				}
				head := fmt.Sprintf(`{"inputs":[{"name":"image","shape":[1,784],"datatype":"FP32","parameters":{"binary_data_size":%d}}],`+
					`"outputs":[{"name":"probabilities","parameters":{"binary_data":true}}]}`, len(raw))
				var answers [2][]byte
				for k, model := range []string{"batched", "single"} {
					resp, answer := post(t, base+"/v2/models/"+model+"/infer", append([]byte(head), raw...), "Inference-Header-Content-Length", fmt.Sprint(len(head)))
					var size int
					if _, err := fmt.Sscan(resp.Header.Get("Inference-Header-Content-Length"), &size); err != nil {
						t.Error(err)
						return
					}
					answers[k] = answer[size:]
				}
				near(t, answers[0], answers[1])
			}
		})
	}
	clients.Wait()
	if n := metric(t, base, `ml_queue_seconds_count{model="batched",model_version="1"}`); n != float64(len(sample)) {
		t.Errorf("%v requests waited, want %d", n, len(sample))
	}
}

// TestOneBadRequestInABatch sends indices to a model that fails on those out of range.
func TestOneBadRequestInABatch(t *testing.T) {
	path := onnxtest.Model{
		Inputs:  []tensor.Spec{{Name: "i", Type: tensor.Int64, Shape: []int64{-1, 1}}},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.Int64, Shape: []int64{-1, 1}}},
		// It gives the dimension of the input with the number of the index: of 0, the rows, of 1, the columns.
		Nodes: []onnxtest.Node{
			{Op: "Shape", In: []string{"i"}, Out: []string{"s"}},
			{Op: "Gather", In: []string{"s", "i"}, Out: []string{"y"}},
		},
	}.Write(t)
	s := source(t, "gather", "1", path)
	s.Serving.Batching = &backend.Batching{MaxBatch: 4, MaxDelay: time.Minute} // only a full batch runs
	base, c := serveBoth(t, s)
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			index := uint64(1)
			if i == 2 {
				index = 7
			}
			answer, err := ask(t.Context(), c, "gather", "i", "INT64", []int64{1, 1}, binary.LittleEndian.AppendUint64(nil, index))
			switch {
			case i == 2 && (err == nil || !strings.Contains(err.Error(), "out of data bounds")):
				t.Errorf("the bad request: %v, %v", answer, err)
			case i != 2 && (err != nil || binary.LittleEndian.Uint64(answer.RawOutputContents[0]) != 1):
				t.Errorf("a good one: %v, %v", answer, err)
			}
		})
	}
	clients.Wait()
	if n := metric(t, base, `ml_batch_fallbacks_total{model="gather",model_version="1"}`); n != 1 {
		t.Errorf("%v batches failed, want 1", n)
	}
}

// metrics is the page of the server's metrics.
func metrics(t *testing.T, base string) string {
	t.Helper()
	resp, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// metric is the value of one line of the metrics.
func metric(t *testing.T, base, name string) float64 {
	t.Helper()
	for line := range strings.Lines(metrics(t, base)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
