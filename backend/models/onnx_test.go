package models

import (
	"encoding/binary"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Element types of ONNX tensors.
const (
	elemFloat = 1
	elemInt64 = 7
)

// model is what the tests want to know of an ONNX file. It is decoded from the specification's
// field numbers, apart from the program that wrote the file.
type model struct {
	nodes           []operation
	tensors         map[string][]float32
	inputs, outputs []port
	metadata        map[string]string
}

type operation struct {
	op      string
	in, out []string
}

type port struct {
	Name string
	Elem int
	Dims []int64 // -1 is any size
}

// field is one field of a protobuf message.
type field struct {
	number protowire.Number
	bytes  []byte // of a length-delimited field
	value  uint64 // of a varint
}

func (f field) text() string { return string(f.bytes) }

func fields(t *testing.T, b []byte) []field {
	t.Helper()
	var list []field
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("broken protobuf: %v", protowire.ParseError(n))
		}
		b = b[n:]
		f := field{number: number}
		switch kind {
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			t.Fatalf("broken protobuf: %v", protowire.ParseError(n))
		}
		b = b[n:]
		list = append(list, f)
	}
	return list
}

// one returns the only message in that field.
func one(t *testing.T, b []byte, number protowire.Number) []byte {
	t.Helper()
	for _, f := range fields(t, b) {
		if f.number == number {
			return f.bytes
		}
	}
	t.Fatalf("no field %d", number)
	return nil
}

func decodeModel(t *testing.T, content []byte) model {
	t.Helper()
	m := model{tensors: map[string][]float32{}, metadata: map[string]string{}}
	for _, f := range fields(t, content) {
		if f.number == 14 { // metadata_props
			m.metadata[string(one(t, f.bytes, 1))] = string(one(t, f.bytes, 2))
		}
	}
	for _, f := range fields(t, one(t, content, 7)) {
		switch f.number {
		case 1:
			m.nodes = append(m.nodes, decodeNode(t, f.bytes))
		case 5:
			m.tensors[string(one(t, f.bytes, 8))] = floats(one(t, f.bytes, 9))
		case 11:
			m.inputs = append(m.inputs, decodePort(t, f.bytes))
		case 12:
			m.outputs = append(m.outputs, decodePort(t, f.bytes))
		}
	}
	return m
}

func decodeNode(t *testing.T, b []byte) operation {
	t.Helper()
	var o operation
	for _, f := range fields(t, b) {
		switch f.number {
		case 1:
			o.in = append(o.in, f.text())
		case 2:
			o.out = append(o.out, f.text())
		case 4:
			o.op = f.text()
		}
	}
	return o
}

func decodePort(t *testing.T, b []byte) port {
	t.Helper()
	p := port{Name: string(one(t, b, 1))}
	for _, kind := range fields(t, one(t, b, 2)) {
		if kind.number != 1 {
			continue // not a tensor: a sequence of maps
		}
		for _, f := range fields(t, kind.bytes) {
			if f.number == 1 {
				p.Elem = int(f.value)
				continue
			}
			for _, dim := range fields(t, f.bytes) {
				size := int64(-1)
				for _, d := range fields(t, dim.bytes) {
					if d.number == 1 {
						size = int64(d.value)
					}
				}
				p.Dims = append(p.Dims, size)
			}
		}
	}
	return p
}

func floats(raw []byte) []float32 {
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

// run carries out the graph's operations, in plain Go, on one image.
func (m model) run(t *testing.T, image []float32) (label int, probabilities []float32) {
	t.Helper()
	values := map[string][]float32{m.inputs[0].Name: image}
	for _, o := range m.nodes {
		x := values[o.in[0]]
		switch o.op {
		case "Gemm":
			values[o.out[0]] = gemm(x, m.tensors[o.in[1]], m.tensors[o.in[2]])
		case "Relu":
			y := make([]float32, len(x))
			for i, v := range x {
				y[i] = max(v, 0)
			}
			values[o.out[0]] = y
		case "Softmax":
			values[o.out[0]] = softmax(x)
		case "ArgMax":
			for i, v := range x {
				if v > x[label] {
					label = i
				}
			}
		default:
			t.Fatalf("operation %s is not known to this test", o.op)
		}
	}
	return label, values["probabilities"]
}

func gemm(x, weights, bias []float32) []float32 {
	y := append([]float32(nil), bias...)
	for i, v := range x {
		for j := range y {
			y[j] += v * weights[i*len(y)+j]
		}
	}
	return y
}

func softmax(x []float32) []float32 {
	y, sum := make([]float32, len(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v))
	}
	for i, v := range x {
		y[i] = float32(math.Exp(float64(v)) / sum)
	}
	return y
}
