package backend

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/backend/inference"
	"weir/backend/tensor"
)

type (
	inferIn  = inference.ModelInferRequest_InferInputTensor
	inferOut = inference.ModelInferResponse_InferOutputTensor
	wanted   = inference.ModelInferRequest_InferRequestedOutputTensor
	contents = inference.InferTensorContents
)

func inputA() *inferIn {
	return &inferIn{Name: "a", Datatype: "FP32", Shape: []int64{2, 2}, Contents: &contents{Fp32Contents: []float32{0.1, -2, float32(math.Inf(1)), 4}}}
}

func inputB() *inferIn {
	return &inferIn{Name: "b", Datatype: "BYTES", Shape: []int64{2}, Contents: &contents{BytesContents: [][]byte{{0xff, 1}, {}}}}
}

func without(in *inferIn) *inferIn {
	in.Contents = nil
	return in
}

func TestGRPCInfer(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two()), source("m", "v2", two())}}, true)
	c := r.grpc()
	f := func(request *inference.ModelInferRequest, want *inference.ModelInferResponse) {
		t.Helper()
		got, err := c.ModelInfer(patient(t), request)
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	outA := &inferOut{Name: "a/out", Datatype: "FP32", Shape: []int64{2, 2}, Contents: inputA().Contents}
	outB := &inferOut{Name: "b/out", Datatype: "BYTES", Shape: []int64{2}, Contents: inputB().Contents}
	f(&inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{inputB(), inputA()}},
		&inference.ModelInferResponse{ModelName: "m", ModelVersion: "v1", Outputs: []*inferOut{outA, outB}})
	// The other version, an id, one output; parameters are passed over.
	f(&inference.ModelInferRequest{
		ModelName: "m", ModelVersion: "v2", Id: "42", Inputs: []*inferIn{inputA(), inputB()}, Outputs: []*wanted{{Name: "b/out"}},
		Parameters: map[string]*inference.InferParameter{"priority": {ParameterChoice: &inference.InferParameter_Uint64Param{Uint64Param: 1}}},
	}, &inference.ModelInferResponse{ModelName: "m", ModelVersion: "v2", Id: "42", Outputs: []*inferOut{outB}})
	// Raw, in the order of the inputs and of the outputs asked for.
	numbers, words := floats32(0.1, -2, float32(math.NaN()), 4), tensor.AppendStrings(nil, []string{"\xff\x01", ""})
	f(&inference.ModelInferRequest{
		ModelName: "m", Inputs: []*inferIn{without(inputB()), without(inputA())}, RawInputContents: [][]byte{words, numbers},
		Outputs: []*wanted{{Name: "b/out"}, {Name: "a/out"}},
	}, &inference.ModelInferResponse{
		ModelName: "m", ModelVersion: "v1", RawOutputContents: [][]byte{words, numbers},
		Outputs: []*inferOut{{Name: "b/out", Datatype: "BYTES", Shape: []int64{2}}, {Name: "a/out", Datatype: "FP32", Shape: []int64{2, 2}}},
	})
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="success"} 2`)
}

// TestGRPCTypes sends the extremes of every type, typed and raw.
func TestGRPCTypes(t *testing.T) {
	typed := map[tensor.Type]*contents{
		tensor.Bool:   {BoolContents: []bool{false, true}},
		tensor.Uint8:  {UintContents: []uint32{0, math.MaxUint8}},
		tensor.Uint16: {UintContents: []uint32{0, math.MaxUint16}},
		tensor.Uint32: {UintContents: []uint32{0, math.MaxUint32}},
		tensor.Uint64: {Uint64Contents: []uint64{0, math.MaxUint64}},
		tensor.Int8:   {IntContents: []int32{math.MinInt8, math.MaxInt8}},
		tensor.Int16:  {IntContents: []int32{math.MinInt16, math.MaxInt16}},
		tensor.Int32:  {IntContents: []int32{math.MinInt32, math.MaxInt32}},
		tensor.Int64:  {Int64Contents: []int64{math.MinInt64, math.MaxInt64}},
		tensor.FP32:   {Fp32Contents: []float32{-math.MaxFloat32, math.SmallestNonzeroFloat32}},
		tensor.FP64:   {Fp64Contents: []float64{-math.MaxFloat64, math.Inf(1)}},
		tensor.Bytes:  {BytesContents: [][]byte{{}, {0xff}}},
	}
	for _, typ := range tensor.Types() {
		r := start(t, Options{Models: []Source{source("m", "v1", echo(tensor.Spec{Name: "x", Type: typ, Shape: []int64{2}}))}}, true)
		c := r.grpc()
		in := &inferIn{Name: "x", Datatype: typ.String(), Shape: []int64{2}, Contents: typed[typ]}
		got, err := c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{in}})
		if typed[typ] == nil {
			wantStatus(t, err, codes.InvalidArgument, fmt.Sprintf("inputs[0] (x): %s has no contents of its own; send it in raw_input_contents", typ))
		} else if diff := cmp.Diff(typed[typ], got.GetOutputs()[0].GetContents(), protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", typ, err, diff)
		}
		raw := []byte(strings.Repeat("\x01", 2*typ.Size()))
		if typ == tensor.Bytes {
			raw = tensor.AppendStrings(nil, []string{"", "\xff"})
		}
		got, err = c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{without(in)}, RawInputContents: [][]byte{raw}})
		if err != nil || !cmp.Equal(got.RawOutputContents, [][]byte{raw}) || got.Outputs[0].Contents != nil || got.Outputs[0].Datatype != typ.String() {
			t.Errorf("%s, raw: %v, %v", typ, got, err)
		}
	}
}

// TestGRPCAnswersHalvesRaw: an output that has no typed form makes all of the answer raw.
func TestGRPCAnswersHalvesRaw(t *testing.T) {
	m := two()
	m.signature.Outputs = []tensor.Spec{{Name: "h", Type: tensor.FP16, Shape: []int64{1}}, {Name: "b", Type: tensor.Bytes, Shape: []int64{1}}}
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) {
		return []tensor.Tensor{
			{Name: "h", Type: tensor.FP16, Shape: []int64{1}, Data: []byte{0, 0x3c}},
			{Name: "b", Type: tensor.Bytes, Shape: []int64{1}, Strings: []string{"x"}},
		}, nil
	}
	c := start(t, Options{Models: []Source{source("m", "v1", m)}}, true).grpc()
	got, err := c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{inputA(), inputB()}})
	if err != nil || !cmp.Equal(got.RawOutputContents, [][]byte{{0, 0x3c}, {1, 0, 0, 0, 'x'}}) || got.Outputs[1].Contents != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestGRPCRefusesAsREST sends what does not fit the model both ways: the messages are the same.
func TestGRPCRefusesAsREST(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two())}}, true)
	c := r.grpc()
	const a = `{"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}`
	const b = `{"name":"b","shape":[2],"datatype":"BYTES","data":["x","y"]}`
	request := func(in ...*inferIn) *inference.ModelInferRequest {
		return &inference.ModelInferRequest{ModelName: "m", Inputs: in}
	}
	f := func(path, body string, grpc *inference.ModelInferRequest, want codes.Code) {
		t.Helper()
		rest := r.post("/v2/models/"+path+"/infer", body)
		_, err := c.ModelInfer(patient(t), grpc)
		message := decode[map[string]string](t, rest)["error"]
		if s := status.Convert(err); s.Code() != want || s.Message() != message || message == "" {
			t.Errorf("REST: %d %q\ngRPC: %s %q; want %s", rest.status, message, s.Code(), s.Message(), want)
		}
	}
	f("x", `{}`, &inference.ModelInferRequest{ModelName: "x"}, codes.NotFound)
	f("m/versions/v9", `{}`, &inference.ModelInferRequest{ModelName: "m", ModelVersion: "v9"}, codes.NotFound)
	f("m!", `{}`, &inference.ModelInferRequest{ModelName: "m!"}, codes.InvalidArgument)
	f("m", `{}`, request(), codes.InvalidArgument)
	f("m", `{"inputs":[`+a+`]}`, request(inputA()), codes.InvalidArgument)
	f("m", `{"inputs":[`+a+`,`+a+`]}`, request(inputA(), inputA()), codes.InvalidArgument)
	f("m", `{"inputs":[`+strings.Replace(a, `"a"`, `"c"`, 1)+`]}`, request(&inferIn{
		Name: "c", Datatype: "FP32", Shape: []int64{1}, Contents: &contents{Fp32Contents: []float32{1}},
	}), codes.InvalidArgument)
	f("m", `{"inputs":[`+strings.Replace(a, `[2,2]`, `[4]`, 1)+`]}`, request(&inferIn{
		Name: "a", Datatype: "FP32", Shape: []int64{4}, Contents: inputA().Contents,
	}), codes.InvalidArgument)
	f("m", `{"inputs":[`+strings.Replace(a, `FP32`, `INT64`, 1)+`]}`, request(&inferIn{
		Name: "a", Datatype: "INT64", Shape: []int64{1}, Contents: &contents{Int64Contents: []int64{1}},
	}), codes.InvalidArgument)
	both := request(inputA(), inputB())
	both.Outputs = []*wanted{{Name: "z"}}
	f("m", `{"inputs":[`+a+`,`+b+`],"outputs":[{"name":"z"}]}`, both, codes.InvalidArgument)
	both.Outputs = []*wanted{{Name: "a/out"}, {Name: "a/out"}}
	f("m", `{"inputs":[`+a+`,`+b+`],"outputs":[{"name":"a/out"},{"name":"a/out"}]}`, both, codes.InvalidArgument)
	r.wantMetric(`ml_errors_total{error_type="unknown_model",model_version=""} 4`)
}

// TestGRPCRefuses is the table of what REST has no like of. Every message also says what the
// model wants.
func TestGRPCRefuses(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two())}}, true)
	c := r.grpc()
	f := func(in *inferIn, message string, raw ...[]byte) {
		t.Helper()
		_, err := c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{in}, RawInputContents: raw})
		wantStatus(t, err, codes.InvalidArgument, message)
		wantStatus(t, err, codes.InvalidArgument, "; model m takes a FP32[-1,2], b BYTES[-1] (-1: any size)")
	}
	in := func(datatype string, shape []int64, c *contents) *inferIn {
		return &inferIn{Name: "a", Datatype: datatype, Shape: shape, Contents: c}
	}
	ints := &contents{IntContents: []int32{1, -200}}
	f(in("FP32", []int64{2}, nil), "inputs[0] (a): contents: 0 elements in fp32_contents, but shape [2] has 2")
	f(in("FP32", []int64{2}, ints), "contents: 2 elements in int_contents; FP32 takes fp32_contents")
	f(in("INT8", []int64{2}, ints), "contents: element 1: want a whole number that fits INT8, found -200")
	f(in("INT8", []int64{3}, ints), "contents: 2 elements in int_contents, but shape [3] has 3")
	f(in("UINT16", []int64{1}, &contents{UintContents: []uint32{65536}}), "element 0: want a whole number that fits UINT16, found 65536")
	f(in("int8", []int64{2}, ints), `unknown datatype "int8" (have BOOL`)
	f(in("INT8", []int64{2, 0}, ints), "shape: dimension 1 is 0; want at least 1")
	f(in("INT8", []int64{-1}, ints), "shape: dimension 0 is -1; want at least 1")
	f(in("INT8", make([]int64, 33), ints), "shape: more than 32 dimensions")
	f(in("INT8", []int64{math.MaxInt64, 2}, ints), "has more elements than can be counted")
	f(in("FP32", []int64{2}, &contents{}), "both contents and raw_input_contents", floats32(1, 2))
	f(in("FP32", []int64{2}, nil), "the size of its raw_input_contents is 4, but FP32[2] takes 2 elements of 4 bytes", floats32(1))
	f(in("BOOL", []int64{2}, nil), "BOOL element 1 is the byte 2; want 0 or 1", []byte{1, 2})
	f(in("BYTES", []int64{1 << 30}, nil), "has more than 1048576 BYTES elements", []byte{0})
	f(in("FP32", []int64{2}, nil), "raw_input_contents has 2 elements for 1 inputs; want one for each", floats32(1), floats32(1))
	f(inputB(), `the input "a" is missing`)
	r.wantMetric(`ml_errors_total{error_type="invalid_request",model_version="v1"} 16`)

	many := make([]*inferIn, maxTensors+1)
	for i := range many {
		many[i] = &inferIn{}
	}
	_, err := c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: many})
	wantStatus(t, err, codes.InvalidArgument, "more than 1024 inputs")
	outputs := make([]*wanted, maxTensors+1)
	for i := range outputs {
		outputs[i] = &wanted{}
	}
	_, err = c.ModelInfer(patient(t), &inference.ModelInferRequest{ModelName: "m", Inputs: []*inferIn{inputA()}, Outputs: outputs})
	wantStatus(t, err, codes.InvalidArgument, "more than 1024 outputs")
}
