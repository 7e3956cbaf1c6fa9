package backend_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/backend/inference"
	"weir/backend/models"
	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

type (
	inferIn  = inference.ModelInferRequest_InferInputTensor
	contents = inference.InferTensorContents
)

// infer asks over gRPC.
func infer(t *testing.T, c inference.GRPCInferenceServiceClient, model string, in *inferIn, raw ...[]byte) *inference.ModelInferResponse {
	t.Helper()
	answer, err := c.ModelInfer(t.Context(), &inference.ModelInferRequest{ModelName: model, Inputs: []*inferIn{in}, RawInputContents: raw})
	if err != nil {
		t.Fatalf("%s: %v", model, err)
	}
	return answer
}

// restAnswer is a V2 answer over REST.
type restAnswer struct {
	ModelName    string `json:"model_name"`
	ModelVersion string `json:"model_version"`
	Outputs      []struct {
		Name, Datatype string
		Shape          []int64
		Data           json.RawMessage
	}
}

// asGRPC is the answer as gRPC would give it, typed: of INT64 and FP32, which models here give.
func (a restAnswer) asGRPC(t *testing.T) *inference.ModelInferResponse {
	t.Helper()
	want := &inference.ModelInferResponse{ModelName: a.ModelName, ModelVersion: a.ModelVersion}
	for _, out := range a.Outputs {
		c := &contents{}
		into := any(&c.Int64Contents)
		if out.Datatype == "FP32" {
			into = &c.Fp32Contents
		}
		if err := json.Unmarshal(out.Data, into); err != nil {
			t.Fatalf("%s: %v", out.Name, err)
		}
		want.Outputs = append(want.Outputs, &inference.ModelInferResponse_InferOutputTensor{
			Name: out.Name, Datatype: out.Datatype, Shape: out.Shape, Contents: c,
		})
	}
	return want
}

// untyped is a typed answer of INT64 and FP32 in raw contents.
func untyped(typed *inference.ModelInferResponse) *inference.ModelInferResponse {
	for _, out := range typed.Outputs {
		var raw []byte
		for _, v := range out.Contents.Int64Contents {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
		}
		for _, v := range out.Contents.Fp32Contents {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		out.Contents = nil
		typed.RawOutputContents = append(typed.RawOutputContents, raw)
	}
	return typed
}

// TestServedOverGRPC asks real models both ways; typed and raw, gRPC gives what REST gives.
func TestServedOverGRPC(t *testing.T) {
	base, c := serveBoth(t,
		source(t, "iris", "v1.0.0", "models/iris-forest.onnx"), source(t, "fashion", "", "models/fashion-v1.onnx"))
	var flowers []float32
	for _, species := range irises() {
		for _, flower := range species {
			for _, f := range flower {
				flowers = append(flowers, float32(f))
			}
		}
	}
	var images []float32
	for _, image := range models.Sample()[:20] {
		images = append(images, image.Features()...)
	}
	f := func(model, input string, width int, data []float32) {
		t.Helper()
		shape := []int64{int64(len(data) / width), int64(width)}
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		_, body := post(t, base+"/v2/models/"+model+"/infer",
			fmt.Appendf(nil, `{"inputs":[{"name":"%s","shape":[%d,%d],"datatype":"FP32","data":%s}]}`, input, shape[0], shape[1], text))
		var rest restAnswer
		if err := json.Unmarshal(body, &rest); err != nil || len(rest.Outputs) == 0 {
			t.Fatalf("%s: %v", body, err)
		}
		want := rest.asGRPC(t)
		got := infer(t, c, model, &inferIn{Name: input, Datatype: "FP32", Shape: shape, Contents: &contents{Fp32Contents: data}})
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s typed (-REST +gRPC):\n%s", model, diff)
		}
		var raw []byte
		for _, v := range data {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		got = infer(t, c, model, &inferIn{Name: input, Datatype: "FP32", Shape: shape}, raw)
		if diff := cmp.Diff(untyped(want), got, protocmp.Transform()); diff != "" {
			t.Errorf("%s raw (-REST +gRPC):\n%s", model, diff)
		}
	}
	f("iris", "X", 4, flowers)
	f("fashion", "image", 784, images)
}

// TestServedTypesOverGRPC sends two elements of every type through ONNX Runtime and back, raw:
// 0 and 1, and bytes that are no text.
func TestServedTypesOverGRPC(t *testing.T) {
	for _, typ := range tensor.Types() {
		_, c := serveBoth(t, source(t, "same", "v1", onnxtest.Identity(typ, -1).Write(t)))
		raw := make([]byte, 2*typ.Size())
		if typ == tensor.Bytes {
			raw = tensor.AppendStrings(nil, []string{"\xff\xfe", ""})
		} else {
			raw[typ.Size()] = 1
		}
		got := infer(t, c, "same", &inferIn{Name: "x", Datatype: typ.String(), Shape: []int64{2}}, raw)
		if !cmp.Equal(got.RawOutputContents, [][]byte{raw}) || got.Outputs[0].Datatype != typ.String() {
			t.Errorf("%s: %v", typ, got)
		}
	}
}
