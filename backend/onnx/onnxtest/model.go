package onnxtest

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/backend/tensor"
)

// Model describes a small model. Of its inputs and outputs the Columns are ignored; a dimension
// -1 of the same position has the same size in all of them.
type Model struct {
	Inputs, Outputs []tensor.Spec
	// Constants are values that nodes take by their names.
	Constants []tensor.Tensor
	Nodes     []Node
	Metadata  map[string]string
}

// Node is one operator without attributes.
type Node struct {
	Op      string
	In, Out []string
}

// Identity is a model that gives its input "x" back as "y".
func Identity(t tensor.Type, shape ...int64) Model {
	return Model{
		Inputs:  []tensor.Spec{{Name: "x", Type: t, Shape: shape}},
		Outputs: []tensor.Spec{{Name: "y", Type: t, Shape: shape}},
		Nodes:   []Node{{Op: "Identity", In: []string{"x"}, Out: []string{"y"}}},
	}
}

// Wide is a model whose runs are as slow as memory is: x FP32[-1,inputs] times a matrix of that many
// columns gives h, and the sum of each row's max(h, 0) is y FP32[-1,1]. A run reads the whole matrix
// for one row as for many. The matrix is computed when the model is loaded (sin of 0, 1, 2 …), so that
// the file is small.
func Wide(inputs, columns int64) Model {
	number := func(name string, v float32) tensor.Tensor {
		return tensor.Tensor{Name: name, Type: tensor.FP32, Data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))}
	}
	shape := func(name string, dims ...int64) tensor.Tensor {
		t := tensor.Tensor{Name: name, Type: tensor.Int64, Shape: []int64{int64(len(dims))}}
		for _, d := range dims {
			t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(d))
		}
		return t
	}
	return Model{
		Inputs:  []tensor.Spec{{Name: "x", Type: tensor.FP32, Shape: []int64{-1, inputs}}},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP32, Shape: []int64{-1, 1}}},
		Constants: []tensor.Tensor{
			number("first", 0), number("last", float32(inputs*columns)), number("step", 1), shape("matrix", inputs, columns), shape("axis", 1),
		},
		Nodes: []Node{
			{Op: "Range", In: []string{"first", "last", "step"}, Out: []string{"numbers"}},
			{Op: "Sin", In: []string{"numbers"}, Out: []string{"sines"}},
			{Op: "Reshape", In: []string{"sines", "matrix"}, Out: []string{"weights"}},
			{Op: "MatMul", In: []string{"x", "weights"}, Out: []string{"h"}},
			{Op: "Relu", In: []string{"h"}, Out: []string{"positive"}},
			{Op: "ReduceSum", In: []string{"positive", "axis"}, Out: []string{"y"}},
		},
	}
}

// Write writes the model to a file that is removed when the test ends, and returns its path.
func (m Model) Write(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "model.onnx")
	if err := os.WriteFile(path, m.encode(), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// encode writes the ONNX protobuf; the field numbers are those of onnx.proto.
func (m Model) encode() []byte {
	var graph message
	for _, n := range m.Nodes {
		var node message
		for _, name := range n.In {
			node.text(1, name)
		}
		for _, name := range n.Out {
			node.text(2, name)
		}
		node.text(4, n.Op)
		graph.message(1, node)
	}
	graph.text(2, "test")
	for _, c := range m.Constants {
		var value message
		for _, d := range c.Shape {
			value.number(1, uint64(d))
		}
		value.number(2, elementNumber(c.Type))
		value.text(8, c.Name)
		value.text(9, string(c.Data))
		graph.bytes = protowire.AppendBytes(protowire.AppendTag(graph.bytes, 5, protowire.BytesType), value.bytes)
	}
	for _, in := range m.Inputs {
		graph.message(11, valueInfo(in))
	}
	for _, out := range m.Outputs {
		graph.message(12, valueInfo(out))
	}
	var opset, model message
	opset.text(1, "")
	opset.number(2, 17)
	model.number(1, 8) // IR version
	model.message(8, opset)
	model.message(7, graph)
	for key, value := range m.Metadata {
		var entry message
		entry.text(1, key)
		entry.text(2, value)
		model.message(14, entry)
	}
	return model.bytes
}

func valueInfo(s tensor.Spec) message {
	var shape, tensorType, typ, info message
	for i, d := range s.Shape {
		var dim message
		if d < 0 {
			dim.text(2, "free"+string(rune('0'+i)))
		} else {
			dim.number(1, uint64(d))
		}
		shape.message(1, dim)
	}
	tensorType.number(1, elementNumber(s.Type))
	tensorType.message(2, shape)
	typ.message(1, tensorType)
	info.text(1, s.Name)
	info.message(2, typ)
	return info
}

func elementNumber(t tensor.Type) uint64 {
	switch t {
	case tensor.FP32:
		return 1
	case tensor.Uint8:
		return 2
	case tensor.Int8:
		return 3
	case tensor.Uint16:
		return 4
	case tensor.Int16:
		return 5
	case tensor.Int32:
		return 6
	case tensor.Int64:
		return 7
	case tensor.Bytes:
		return 8
	case tensor.Bool:
		return 9
	case tensor.FP16:
		return 10
	case tensor.FP64:
		return 11
	case tensor.Uint32:
		return 12
	case tensor.Uint64:
		return 13
	case tensor.BF16:
		return 16
	}
	return 0
}

// message is a protobuf message being written.
type message struct{ bytes []byte }

func (m *message) number(field protowire.Number, v uint64) {
	m.bytes = protowire.AppendVarint(protowire.AppendTag(m.bytes, field, protowire.VarintType), v)
}

func (m *message) text(field protowire.Number, v string) {
	m.bytes = protowire.AppendString(protowire.AppendTag(m.bytes, field, protowire.BytesType), v)
}

func (m *message) message(field protowire.Number, v message) {
	m.bytes = protowire.AppendBytes(protowire.AppendTag(m.bytes, field, protowire.BytesType), v.bytes)
}
