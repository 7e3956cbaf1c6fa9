package backend

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/backend/tensor"
)

// echo gives every input back, as an output of the same name before "/out".
func echo(inputs ...tensor.Spec) *scripted {
	sig := tensor.Signature{Inputs: inputs, Platform: "test", Metadata: map[string]string{"note": "echo"}}
	for _, in := range inputs {
		in.Name += "/out"
		sig.Outputs = append(sig.Outputs, in)
	}
	return &scripted{signature: sig, run: func(inputs []tensor.Tensor) ([]tensor.Tensor, error) {
		outputs := make([]tensor.Tensor, len(inputs))
		for i, in := range inputs {
			in.Name += "/out"
			// The server may not keep what belongs to the request.
			in.Data = bytes.Clone(in.Data)
			outputs[i] = in
		}
		return outputs, nil
	}}
}

func two() *scripted {
	return echo(tensor.Spec{Name: "a", Type: tensor.FP32, Shape: []int64{-1, 2}}, tensor.Spec{Name: "b", Type: tensor.Bytes, Shape: []int64{-1}})
}

func TestV2Metadata(t *testing.T) {
	r := start(t, Options{
		Models: []Source{source("m", "v1", two()), source("n", "v1", doubler()), source("m", "v2", two())}, Build: "1.2.3",
	}, true)
	f := func(path, want string) {
		t.Helper()
		got := r.get(path)
		if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, got.status, got.header.Get("Content-Type"))
		}
		if diff := cmp.Diff(want, got.body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	f("/v2", `{"name":"weir-backend","version":"1.2.3","extensions":["binary_tensor_data","model_repository","schedule_policy"]}`)
	f("/v2/health/live", `{"live":true}`)
	f("/v2/health/ready", `{"ready":true}`)
	m := `{"name":"m","versions":["v1","v2"],"platform":"test",` +
		`"inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},{"name":"b","datatype":"BYTES","shape":[-1]}],` +
		`"outputs":[{"name":"a/out","datatype":"FP32","shape":[-1,2]},{"name":"b/out","datatype":"BYTES","shape":[-1]}],` +
		`"properties":{"note":"echo"}}`
	f("/v2/models/m", m)
	f("/v2/models/m?x=y", m)
	f("/v2/models/m/versions/v2", m)
	f("/v2/models/m/ready", `{"name":"m","ready":true}`)
	f("/v2/models/m/versions/v1/ready", `{"name":"m","ready":true}`)
}

func TestV2Infer(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two()), source("m", "v2", two())}}, true)
	f := func(path, body, want string) {
		t.Helper()
		got := r.post(path, body)
		if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", body, got.status, got.header.Get("Content-Type"))
		}
		if diff := cmp.Diff(want, got.body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	const a = `{"name":"a","shape":[2,2],"datatype":"FP32","data":[0.1,-2,3e-7,16777216]}`
	const b = `{"name":"b","shape":[2],"datatype":"BYTES","data":["","gr\u00fcn \"\n"]}`
	const aOut = `{"name":"a/out","datatype":"FP32","shape":[2,2],"data":[0.1,-2,3e-07,1.6777216e+07]}`
	const bOut = `{"name":"b/out","datatype":"BYTES","shape":[2],"data":["","grün \"\n"]}`
	f("/v2/models/m/infer", `{"inputs":[`+a+`,`+b+`]}`, `{"model_name":"m","model_version":"v1","outputs":[`+aOut+`,`+bOut+`]}`)
	// The other version, inputs in another order, an id, and one output.
	f("/v2/models/m/versions/v2/infer", `{"id":"42","inputs":[`+b+`,`+a+`],"outputs":[{"name":"b/out"}]}`,
		`{"model_name":"m","model_version":"v2","id":"42","outputs":[`+bOut+`]}`)
	// Keys in any order, nested data, unknown keys and parameters; outputs in the order asked for.
	f("/v2/models/m/infer", ` { "parameters":{"priority":1,"x":[{}]}, "new":{"a":[null]}, "id":"", "outputs":[{"name":"b/out","parameters":{"classification":1}},{"name":"a/out"}],`+
		`"inputs":[{"data":[[0.1,-2],[3e-7,16777216]],"parameters":{"z":"y"},"datatype":"FP32","shape":[2,2],"name":"a"},`+b+`]} `,
		`{"model_name":"m","model_version":"v1","id":"","outputs":[`+bOut+`,`+aOut+`]}`)
	f("/v2/models/m/infer", `{"inputs":[`+a+`,`+b+`],"outputs":[]}`, `{"model_name":"m","model_version":"v1","outputs":[`+aOut+`,`+bOut+`]}`)
	if got := r.post("/v2/models/m/versions/v2/infer", `{"inputs":[`+a+`,`+b+`]}`).header; got.Get("X-Model-Name") != "m" || got.Get("X-Model-Version") != "v2" {
		t.Errorf("the headers are %v", got)
	}
}

// binaryBody is a request's JSON and what follows it, with the header that separates them.
func binaryBody(json string, tail ...[]byte) (body string, header []string) {
	return json + string(bytes.Join(tail, nil)), []string{jsonSizeHeader, strconv.Itoa(len(json))}
}

// splitBinary takes an answer apart into its JSON and its binary data.
func splitBinary(t *testing.T, r response) (json, tail string) {
	t.Helper()
	n, err := strconv.Atoi(r.header.Get(jsonSizeHeader))
	if err != nil || n > len(r.body) || r.header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("%d %q: %s is %q of type %s", r.status, r.body, jsonSizeHeader, r.header.Get(jsonSizeHeader), r.header.Get("Content-Type"))
	}
	return r.body[:n], r.body[n:]
}

func TestV2Binary(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two())}}, true)
	numbers := floats32(1.5, float32(math.NaN()), float32(math.Inf(-1)), 4)
	words := tensor.AppendStrings(nil, []string{"\xff", "two"})
	a := fmt.Sprintf(`{"name":"a","shape":[2,2],"datatype":"FP32","parameters":{"binary_data_size":%d}}`, len(numbers))
	b := fmt.Sprintf(`{"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":%d}}`, len(words))

	// Both ways, all outputs.
	body, header := binaryBody(`{"id":"x","parameters":{"binary_data_output":true},"inputs":[`+b+`,`+a+`]}`, words, numbers)
	json, tail := splitBinary(t, r.post("/v2/models/m/infer", body, header...))
	want := `{"model_name":"m","model_version":"v1","id":"x","outputs":[` +
		`{"name":"a/out","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},` +
		`{"name":"b/out","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":12}}]}`
	if json != want || tail != string(numbers)+string(words) {
		t.Errorf("got %s and %q", json, tail)
	}

	// An output's own wish goes before the request's; one binary and one JSON output.
	words = tensor.AppendStrings(nil, []string{"one", "two"})
	b = fmt.Sprintf(`{"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":%d}}`, len(words))
	body, header = binaryBody(`{"parameters":{"binary_data_output":true},"inputs":[`+a+`,`+b+`],`+
		`"outputs":[{"name":"b/out","parameters":{"binary_data":false}},{"name":"a/out"}]}`, numbers, words)
	json, tail = splitBinary(t, r.post("/v2/models/m/infer", body, header...))
	want = `{"model_name":"m","model_version":"v1","outputs":[` +
		`{"name":"b/out","datatype":"BYTES","shape":[2],"data":["one","two"]},` +
		`{"name":"a/out","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}`
	if json != want || tail != string(numbers) {
		t.Errorf("got %s and %q", json, tail)
	}

	// NaN came in as binary; JSON cannot carry it out.
	body, header = binaryBody(`{"inputs":[`+a+`,`+b+`]}`, numbers, words)
	wantError(t, r.post("/v2/models/m/infer", body, header...), 500, `element 1 of output a/out is nothing that JSON can carry`)

	// JSON inputs, binary outputs, and the header with the whole length.
	text := `{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"b","shape":[1],"datatype":"BYTES","data":["x"]}],` +
		`"outputs":[{"name":"a/out","parameters":{"binary_data":true}}]}`
	_, tail = splitBinary(t, r.post("/v2/models/m/infer", text, jsonSizeHeader, strconv.Itoa(len(text))))
	if tail != string(floats32(1, 2)) {
		t.Errorf("got %q", tail)
	}
}

func floats32(values ...float32) []byte {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

// TestV2Refuses is the table of requests that are answered 400. Every message also says what
// the model wants.
func TestV2Refuses(t *testing.T) {
	r := start(t, Options{Models: []Source{source("m", "v1", two())}}, true)
	const a = `{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}`
	const b = `{"name":"b","shape":[1],"datatype":"BYTES","data":["x"]}`
	const wants = "model m takes a FP32[-1,2], b BYTES[-1] (-1: any size)"
	f := func(body, message string, header ...string) {
		t.Helper()
		got := r.post("/v2/models/m/infer", body, header...)
		wantError(t, got, 400, message)
		if len(header) == 0 && !strings.Contains(got.body, wants) {
			t.Errorf("%s: the answer does not say what the model takes: %s", body, got.body)
		}
	}
	inputs := func(in string) string { return `{"inputs":[` + in + `,` + b + `]}` }
	f(``, "want an object, found the end")
	f(`[]`, `want an object, found "[]"`)
	f(`{"inputs":[`+a+`,`+b+`]`, `want "," or "}", found the end`)
	f(`{"inputs":[`+a+`,`+b+`]} x`, `want the end of the JSON text, found "x"`)
	f(`{}`, `no "inputs"`)
	f(`{"inputs":[]}`, `no "inputs"`)
	f(`{"inputs":{}}`, "want an array")
	f(`{"inputs":[1]}`, "inputs[0]: want an object")
	f(`{"inputs":[`+a+`]}`, `the input "b" is missing`)
	f(`{"inputs":[`+a+`,`+a+`,`+b+`]}`, `the input "a" is given twice`)
	f(inputs(`{"name":"c","shape":[1],"datatype":"FP32","data":[1]}`), `the model has no input "c"`)
	f(inputs(`{"shape":[1,2],"datatype":"FP32","data":[1,2]}`), `inputs[0]: no "name"`)
	f(inputs(`{"name":"a","datatype":"FP32","data":[1,2]}`), `inputs[0] (a): no "shape"`)
	f(inputs(`{"name":"a","shape":[1,2],"data":[1,2]}`), `inputs[0] (a): no "datatype"`)
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP32"}`), `no "data" and no parameters.binary_data_size`)
	f(inputs(`{"name":1,"shape":[1,2],"datatype":"FP32","data":[1,2]}`), `inputs[0]: name: want a string, found "1,\"shape\":[1"`)
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP23","data":[1,2]}`), `datatype: unknown datatype "FP23" (have BOOL`)
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP64","data":[1,2]}`), "input a: the datatype is FP64; want FP32")
	f(inputs(`{"name":"a","shape":[1,3],"datatype":"FP32","data":[1,2,3]}`), "input a: the shape is [1,3]; want [-1,2]")
	f(inputs(`{"name":"a","shape":[2],"datatype":"FP32","data":[1,2]}`), "input a: the shape is [2]; want [-1,2]")
	f(inputs(`{"name":"a","shape":[1,1,2],"datatype":"FP32","data":[1,2]}`), "the shape is [1,1,2]")
	f(inputs(`{"name":"a","shape":[0,2],"datatype":"FP32","data":[]}`), "dimension 0 is 0; want at least 1")
	f(inputs(`{"name":"a","shape":[-1,2],"datatype":"FP32","data":[1,2]}`), "dimension 0 is -1; want at least 1")
	f(inputs(`{"name":"a","shape":[1.5,2],"datatype":"FP32","data":[1,2]}`), "want a whole number")
	f(inputs(`{"name":"a","shape":[1e2,2],"datatype":"FP32","data":[1,2]}`), "want a whole number")
	f(inputs(`{"name":"a","shape":["1",2],"datatype":"FP32","data":[1,2]}`), "shape: want a number")
	f(inputs(`{"name":"a","shape":[99999999999999999999,2],"datatype":"FP32","data":[1,2]}`), "want a whole number")
	f(inputs(`{"name":"a","shape":[`+strings.Repeat("1,", 40)+`1],"datatype":"FP32","data":[1]}`), "more than 32 dimensions")
	f(inputs(`{"name":"a","shape":[4000000000,4000000000],"datatype":"FP32","data":[1]}`), "more elements than can be counted")
	f(inputs(`{"name":"a","shape":[4000000000,2],"datatype":"FP32","data":[1]}`), "more than the rest of the body can hold")
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP32","data":[1]}`), "1 elements, but shape [1,2] has 2")
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2,3]}`), "more elements than 2")
	f(inputs(`{"name":"a","data":[1,2,3],"shape":[1,2],"datatype":"FP32"}`), "inputs[0] (a): data: more elements than 2")
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,NaN]}`), `data: element 1: want a number, found "NaN]},{\"name"`)
	f(inputs(`{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,null]}`), "element 1: want a number")
	f(inputs(`{"name":"a","data":[1,NaN],"shape":[1,2],"datatype":"FP32"}`), `want a JSON value, found "NaN]`)
	f(inputs(`{"name":"a","name":"a","shape":[1,2],"datatype":"FP32","data":[1,2]}`), `the key "name" is given twice`)
	f(`{"inputs":[`+a+`,`+b+`],"inputs":[`+a+`,`+b+`]}`, `the key "inputs" is given twice`)
	f(`{"id":1,"inputs":[`+a+`,`+b+`]}`, "id: want a string")
	f(`{"parameters":[],"inputs":[`+a+`,`+b+`]}`, "parameters: want an object")
	f(`{"parameters":{"binary_data_output":1},"inputs":[`+a+`,`+b+`]}`, "parameters: binary_data_output: want true or false")
	f(`{"inputs":[`+a+`,{"name":"b","shape":[1],"datatype":"BYTES","data":["a\u0000b"]}]}`, "input b: BYTES element 0 holds a zero byte")
	f(`{"inputs":[`+a+`,`+b+"],\"x\":\"\xff\"}", "not valid UTF-8")
	f(`{"inputs":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`, "want an object")
	f(`{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`, "nested deeper than 64")
	f(`{"inputs":[`+strings.Repeat(a+",", maxTensors)+a+`]}`, "more than 1024 inputs")

	outputs := func(out string) string { return `{"inputs":[` + a + `,` + b + `],"outputs":` + out + `}` }
	wantError(t, r.post("/v2/models/m/infer", outputs(`[{"name":"c"}]`)), 400, `the model has no output "c"; model m gives a/out FP32[-1,2], b/out BYTES[-1]`)
	f(outputs(`[{}]`), `outputs[0]: no "name"`)
	f(outputs(`{}`), "want an array")
	f(outputs(`[{"name":"a/out"},{"name":"a/out"}]`), `outputs[1]: the output "a/out" is asked for twice`)
	f(outputs(`[{"name":"a/out","parameters":{"binary_data":"yes"}}]`), "outputs[0]: parameters: binary_data: want true or false")
}

func TestV2BinaryRefuses(t *testing.T) {
	m := echo(tensor.Spec{Name: "a", Type: tensor.FP32, Shape: []int64{-1, 2}})
	flags := echo(tensor.Spec{Name: "f", Type: tensor.Bool, Shape: []int64{-1}})
	words := echo(tensor.Spec{Name: "w", Type: tensor.Bytes, Shape: []int64{-1}})
	r := start(t, Options{Models: []Source{source("m", "v1", m), source("flags", "v1", flags), source("words", "v1", words)}}, true)
	f := func(model, input string, tail []byte, message string) {
		t.Helper()
		body, header := binaryBody(`{"inputs":[`+input+`]}`, tail)
		wantError(t, r.post("/v2/models/"+model+"/infer", body, header...), 400, message)
	}
	const in = `{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":%s}}`
	f("m", fmt.Sprintf(in, "8"), make([]byte, 7), "binary_data_size is 8 but only 7 bytes are left after the JSON")
	f("m", fmt.Sprintf(in, "8"), make([]byte, 9), "1 bytes are left over after the JSON")
	f("m", fmt.Sprintf(in, "4"), make([]byte, 4), "binary_data_size is 4, but FP32[1,2] takes 2 elements of 4 bytes")
	f("m", fmt.Sprintf(in, "12"), make([]byte, 12), "binary_data_size is 12, but FP32[1,2]")
	f("m", fmt.Sprintf(in, "9"), make([]byte, 9), "binary_data_size is 9")
	f("m", fmt.Sprintf(in, "-8"), make([]byte, 8), "it is -8; want the number of bytes")
	f("m", fmt.Sprintf(in, "8.0"), make([]byte, 8), "binary_data_size: want a whole number")
	f("m", fmt.Sprintf(in, "9223372036854775807"), make([]byte, 8), "only 8 bytes are left")
	f("m", `{"name":"a","shape":[2305843009213693952,2],"datatype":"FP32","parameters":{"binary_data_size":0}}`, nil, "takes 4611686018427387904 elements")
	f("m", `{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,2],"parameters":{"binary_data_size":8}}`, make([]byte, 8), `both "data" and parameters.binary_data_size`)
	f("flags", `{"name":"f","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}}`, []byte{0, 1, 2}, "BOOL element 2 is the byte 2; want 0 or 1")
	f("words", `{"name":"w","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}`, []byte{2, 0, 0, 0, 'x'}, "BYTES element 0 says it has 2 bytes but only 1 are left")
	f("words", `{"name":"w","shape":[9000000000],"datatype":"BYTES","parameters":{"binary_data_size":5}}`, []byte{1, 0, 0, 0, 'x'}, "more than 1048576 BYTES elements")
	f("words", `{"name":"w","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}`, []byte{1, 0, 0, 0, 0}, "holds a zero byte")

	for _, size := range []string{"0", "-1", "x", "1000000", "1.5", "99999999999999999999"} {
		wantError(t, r.post("/v2/models/m/infer", inferBody, jsonSizeHeader, size), 400, "want the number of bytes of JSON, 1 to 70")
	}
	wantError(t, r.post("/v2/models/m/infer", "", jsonSizeHeader, "1"), 400, jsonSizeHeader)
}

// TestOutputsThatAreNotAsPromised has a model whose outputs do not fit its signature.
func TestOutputsThatAreNotAsPromised(t *testing.T) {
	m := &scripted{signature: tensor.Signature{
		Inputs:  []tensor.Spec{{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 1}}},
		Outputs: []tensor.Spec{{Name: "label", Type: tensor.Int64, Shape: []int64{-1}}, {Name: "p", Type: tensor.FP32, Shape: []int64{-1, 2}}},
	}}
	r := start(t, Options{Models: []Source{source("m", "v1", m)}}, true)
	for _, out := range [][]tensor.Tensor{
		{{Name: "label", Type: tensor.Int64, Shape: []int64{}}, {Name: "p", Type: tensor.FP32, Shape: []int64{1, 2}, Data: make([]byte, 8)}},
		{{Name: "label", Type: tensor.Int64, Shape: []int64{0}}, {Name: "p", Type: tensor.FP32, Shape: []int64{1, 2}, Data: make([]byte, 8)}},
		{{Name: "label", Type: tensor.Int64, Shape: []int64{1}, Data: make([]byte, 8)}, {Name: "p", Type: tensor.FP32, Shape: []int64{2}, Data: make([]byte, 8)}},
	} {
		m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { return out, nil }
		wantError(t, r.post("/predict", `{"features":[1]}`), 500, "the model gave no prediction")
		if got := r.post("/v2/models/m/infer", `{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}`); got.status != 200 {
			t.Errorf("V2: %d %s", got.status, got.body)
		}
	}
}

// FuzzV2Infer sends any body to the parser, the checks, a model and the writer. What is answered
// must be JSON, and its tensors of the size that they say.
func FuzzV2Infer(f *testing.F) {
	numbers := floats32(1, float32(math.NaN()))
	f.Add([]byte(inferBody), uint16(0))
	for _, body := range []string{
		`{"id":"1","inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[[1,2]]},{"data":["x"],"name":"b","shape":[1],"datatype":"BYTES"}],"outputs":[{"name":"b/out"}]}`,
		`{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[1,NaN]}]}`,
		`{"parameters":{"binary_data_output":true},"inputs":[]}`,
		`{"inputs":[{"name":"a","shape":[4611686018427387904,2],"datatype":"FP32","data":[]}]}`,
	} {
		f.Add([]byte(body), uint16(0))
	}
	binaryInput := `{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},` +
		`{"name":"b","shape":[1],"datatype":"BYTES","data":["x"]}],"outputs":[{"name":"a/out","parameters":{"binary_data":true}}]}`
	f.Add(append([]byte(binaryInput), numbers...), uint16(len(binaryInput)))
	m, err := (&Source{Name: "m", Version: "v1", Open: func() (Runner, error) { return two(), nil }}).load(&Options{Workers: 1, Queue: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, jsonSize uint16) {
		n := int(jsonSize)
		if n == 0 || n > len(body) {
			n = len(body)
		}
		r, err := parseInfer(body, n)
		if err != nil {
			return
		}
		if !json.Valid(body[:n]) {
			t.Fatalf("%q was taken for JSON", body[:n])
		}
		for _, in := range r.inputs {
			if want, err := tensor.Elements(in.Shape); err != nil || int64(in.Len()) != want {
				t.Fatalf("a tensor of shape %v has %d elements", in.Shape, in.Len())
			}
		}
		inputs, err := m.arrange(r.inputs)
		if err != nil {
			return
		}
		chosen, fault := m.choose(r)
		if fault != nil {
			return
		}
		outputs, err := m.runner.Run(t.Context(), inputs)
		if err != nil {
			t.Fatal(err)
		}
		checkWritten(t, m, r, outputs, chosen)
	})
}

// checkWritten checks the answer to a request that the fuzzer found valid.
func checkWritten(t *testing.T, m *Model, r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) {
	t.Helper()
	body, jsonSize, err := appendInfer(nil, m, r, outputs, chosen)
	if err != nil {
		if !strings.Contains(err.Error(), "nothing that JSON can carry") {
			t.Fatal(err)
		}
		return
	}
	var answer struct {
		ID      string
		Outputs []struct {
			Name       string
			Data       []any
			Parameters struct {
				Size int `json:"binary_data_size"`
			}
		}
	}
	if err := json.Unmarshal(body[:jsonSize], &answer); err != nil {
		t.Fatalf("%q: %v", body[:jsonSize], err)
	}
	if answer.ID != r.id || len(answer.Outputs) != len(chosen) {
		t.Fatalf("%q answers %+v", body[:jsonSize], r)
	}
	left := len(body) - jsonSize
	for i, c := range chosen {
		if !c.binary && len(answer.Outputs[i].Data) != outputs[c.at].Len() {
			t.Fatalf("output %s has %d elements, want %d", answer.Outputs[i].Name, len(answer.Outputs[i].Data), outputs[c.at].Len())
		}
		left -= answer.Outputs[i].Parameters.Size
	}
	if left != 0 {
		t.Fatalf("%d bytes of binary data are nobody's", left)
	}
}

func TestWhatJSONCannotCarry(t *testing.T) {
	f := func(out tensor.Tensor) {
		t.Helper()
		if got, err := appendData(nil, &out); err == nil {
			t.Errorf("%s %v was written as %s", out.Type, out, got)
		}
	}
	f(tensor.Tensor{Type: tensor.FP32, Data: floats32(float32(math.Inf(1)))})
	f(tensor.Tensor{Type: tensor.FP64, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN()))})
	f(tensor.Tensor{Type: tensor.FP16, Data: []byte{0x00, 0x7c}})
	f(tensor.Tensor{Type: tensor.BF16, Data: []byte{0xc0, 0x7f}})
	f(tensor.Tensor{Type: tensor.Bytes, Strings: []string{"\xff"}})
}

func TestRunnerErrorIsKept(t *testing.T) {
	m := doubler()
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { return nil, errors.New(`with "quotes" and grün`) }
	r := start(t, Options{Models: []Source{source("a", "v1", m)}}, true)
	wantError(t, r.post("/v2/models/a/infer", inferBody), 500, `with "quotes" and grün`)
}
