package bench

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

// inferRequest is a request of the protocol, as a server reads it.
type inferRequest struct {
	Inputs []struct {
		Name, Datatype string
		Shape          []int
		Data           []any
		Parameters     struct {
			Size int `json:"binary_data_size"`
		}
	}
	Parameters struct {
		Binary bool `json:"binary_data_output"`
	}
}

func tensors(t *testing.T, binaryTensors bool, texts ...string) *Tensors {
	t.Helper()
	var inputs []Tensor
	for _, text := range texts {
		tensor, err := ParseTensor(text)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, tensor)
	}
	target, err := NewTensors(Request{URL: "http://127.0.0.1:1", Seed: 3}, "m", inputs, binaryTensors)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestTensorsAsJSON(t *testing.T) {
	target := tensors(t, false, "x:fp32:2x3", "n:INT8:5", "b:BOOL:1", "w:BYTES:2")
	request, hit := target.Append(nil, 0)
	head, text := body(t, request)
	if !strings.HasPrefix(head, "POST /v2/models/m/infer HTTP/1.1\r\n") || !strings.Contains(head, "Content-Type: application/json") || hit.User != -1 {
		t.Errorf("head %q, hit %+v", head, hit)
	}
	var got inferRequest
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for i, want := range []struct {
		name, datatype, shape string
		elements              int
		fits                  func(any) bool
	}{
		{"x", "FP32", "[2 3]", 6, func(v any) bool { f, ok := v.(float64); return ok && f >= 0 && f < 1 }},
		{"n", "INT8", "[5]", 5, func(v any) bool { f, ok := v.(float64); return ok && f >= 0 && f < 100 && f == math.Trunc(f) }},
		{"b", "BOOL", "[1]", 1, func(v any) bool { _, ok := v.(bool); return ok }},
		{"w", "BYTES", "[2]", 2, func(v any) bool { w, ok := v.(string); return ok && len(w) == 8 }},
	} {
		in := got.Inputs[i]
		if in.Name != want.name || in.Datatype != want.datatype || fmt.Sprint(in.Shape) != want.shape || len(in.Data) != want.elements {
			t.Errorf("input %+v, want %+v", in, want)
		}
		for _, v := range in.Data {
			if !want.fits(v) {
				t.Errorf("%s holds %v", in.Name, v)
			}
		}
	}
}

// Binary tensors are as long as they say, and hold what the JSON of the same seed holds.
func TestBinaryTensorsEqualJSON(t *testing.T) {
	decode := map[string]func([]byte) (any, int){
		"BOOL": func(b []byte) (any, int) { return b[0] == 1, 1 },
		"INT8": func(b []byte) (any, int) { return float64(int8(b[0])), 1 }, "UINT8": func(b []byte) (any, int) { return float64(b[0]), 1 },
		"INT16": little16, "UINT16": little16, "INT32": little32, "UINT32": little32, "INT64": little64, "UINT64": little64,
		"FP16": func(b []byte) (any, int) { return fromHalf(binary.LittleEndian.Uint16(b)), 2 },
		"BF16": func(b []byte) (any, int) {
			return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)), 2
		},
		"FP32":  func(b []byte) (any, int) { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 4 },
		"FP64":  func(b []byte) (any, int) { return math.Float64frombits(binary.LittleEndian.Uint64(b)), 8 },
		"BYTES": func(b []byte) (any, int) { n := binary.LittleEndian.Uint32(b); return string(b[4 : 4+n]), int(4 + n) },
	}
	for _, datatype := range datatypes() {
		input := "x:" + datatype + ":4x25"
		requestJSON, _ := tensors(t, false, input).Append(nil, 5)
		request, _ := tensors(t, true, input).Append(nil, 5)
		_, text := body(t, requestJSON)
		head, mixed := body(t, request)
		var header int
		if _, after, _ := strings.Cut(head, "Inference-Header-Content-Length: "); true {
			if _, err := fmt.Sscan(after, &header); err != nil {
				t.Fatalf("%s: %v in %q", datatype, err, head)
			}
		}
		var want, got inferRequest
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(mixed[:header]), &got); err != nil || !got.Parameters.Binary {
			t.Fatalf("%s: %v in %q; want a head that asks for binary outputs", datatype, err, mixed[:header])
		}
		tail := []byte(mixed[header:])
		if got.Inputs[0].Parameters.Size != len(tail) {
			t.Errorf("%s: %d bytes announced, %d sent", datatype, got.Inputs[0].Parameters.Size, len(tail))
		}
		for i, v := range want.Inputs[0].Data {
			decoded, size := decode[datatype](tail)
			if tail = tail[size:]; decoded != v {
				t.Errorf("%s: element %d is %v, in JSON %v", datatype, i, decoded, v)
			}
		}
		if len(tail) != 0 {
			t.Errorf("%s: %d bytes are left", datatype, len(tail))
		}
	}
}

func little16(b []byte) (any, int) { return float64(binary.LittleEndian.Uint16(b)), 2 }
func little32(b []byte) (any, int) { return float64(binary.LittleEndian.Uint32(b)), 4 }
func little64(b []byte) (any, int) { return float64(binary.LittleEndian.Uint64(b)), 8 }

// fromHalf decodes an IEEE 754 half that is normal or 0.
func fromHalf(h uint16) float64 {
	if h == 0 {
		return 0
	}
	return math.Ldexp(1+float64(h&0x3ff)/1024, int(h>>10&0x1f)-15)
}

func TestTensorsDifferAndRepeat(t *testing.T) {
	a, b := tensors(t, false, "x:FP32:8"), tensors(t, false, "x:FP32:8")
	different := map[string]bool{}
	for n := range uint64(1000) {
		one, _ := a.Append(nil, n)
		two, _ := b.Append(nil, n)
		if string(one) != string(two) {
			t.Fatalf("request %d differs with the same seed", n)
		}
		different[string(one)] = true
	}
	if len(different) != generated {
		t.Errorf("%d different requests, want %d", len(different), generated)
	}
	// 12 MB each: two are enough.
	if large := tensors(t, true, "x:FP32:3000000"); len(large.bodies) != 2 {
		t.Errorf("%d large bodies, want 2", len(large.bodies))
	}
}

func TestParseTensorRefuses(t *testing.T) {
	for _, bad := range []string{"", "x", "x:FP32", ":FP32:1", "x:FLOAT:1", "x:FP32:", "x:FP32:0", "x:FP32:-1", "x:FP32:1x", "x:FP32:99999999x99999999", "x:FP32:1:2"} {
		if got, err := ParseTensor(bad); err == nil {
			t.Errorf("ParseTensor(%q) = %+v, want an error", bad, got)
		}
	}
	if _, err := NewTensors(Request{URL: "http://127.0.0.1"}, "m", nil, false); err == nil {
		t.Error("no tensors are accepted")
	}
}
