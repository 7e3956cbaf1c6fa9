package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The numbers of ONNX's protobuf fields and constants that a dense network needs; they are
// those of onnx.proto in the ONNX specification.
const (
	irVersion    = 8
	opsetVersion = 17

	typeFloat = 1
	typeInt64 = 7

	attributeInt = 2

	modelIR, modelProducer, modelGraph, modelOpset, modelMetadata          = 1, 2, 7, 8, 14
	graphNode, graphName, graphInitializer, graphInput, graphOutput        = 1, 2, 5, 11, 12
	nodeInput, nodeOutput, nodeName, nodeOp, nodeAttribute                 = 1, 2, 3, 4, 5
	attributeName, attributeI, attributeType                               = 1, 3, 20
	tensorDim, tensorType, tensorName, tensorRaw                           = 1, 2, 8, 9
	valueName, valueType, typeTensor, tensorElem, tensorShape              = 1, 2, 1, 1, 2
	shapeDim, dimValue, dimParam, entryKey, entryValue, opsetVersionNumber = 1, 1, 2, 1, 2, 2
)

// message is a protobuf message under construction.
type message []byte

func (m *message) bytes(field protowire.Number, v []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

func (m *message) text(field protowire.Number, v string) { m.bytes(field, []byte(v)) }

func (m *message) number(field protowire.Number, v int) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

// property is an entry of a model's metadata.
type property struct{ key, value string }

// encode writes the network as an ONNX model with the input "image" and the outputs "label"
// and "probabilities".
func (net network) encode(name string, metadata []property) []byte {
	var model, opset message
	opset.number(opsetVersionNumber, opsetVersion)
	model.number(modelIR, irVersion)
	model.text(modelProducer, "weir/backend/models/train")
	model.bytes(modelGraph, net.graph(name))
	model.bytes(modelOpset, opset)
	for _, p := range metadata {
		var entry message
		entry.text(entryKey, p.key)
		entry.text(entryValue, p.value)
		model.bytes(modelMetadata, entry)
	}
	return model
}

func (net network) graph(name string) message {
	var g message
	value := "image"
	for n, l := range net {
		weights, bias, out := fmt.Sprintf("weights%d", n+1), fmt.Sprintf("bias%d", n+1), fmt.Sprintf("dense%d", n+1)
		g.bytes(graphNode, node("Gemm", []string{value, weights, bias}, out, nil))
		g.bytes(graphInitializer, tensor(weights, l.weights, l.in, l.out))
		g.bytes(graphInitializer, tensor(bias, l.bias, l.out))
		value = out
		if n < len(net)-1 {
			value = fmt.Sprintf("relu%d", n+1)
			g.bytes(graphNode, node("Relu", []string{out}, value, nil))
		}
	}
	g.bytes(graphNode, node("Softmax", []string{value}, "probabilities", []intAttribute{{"axis", 1}}))
	g.bytes(graphNode, node("ArgMax", []string{"probabilities"}, "label", []intAttribute{{"axis", 1}, {"keepdims", 0}}))
	g.text(graphName, name)
	g.bytes(graphInput, valueInfo("image", typeFloat, net[0].in))
	g.bytes(graphOutput, valueInfo("label", typeInt64))
	g.bytes(graphOutput, valueInfo("probabilities", typeFloat, classes))
	return g
}

type intAttribute struct {
	name  string
	value int
}

func node(op string, in []string, out string, attributes []intAttribute) message {
	var m message
	for _, name := range in {
		m.text(nodeInput, name)
	}
	m.text(nodeOutput, out)
	m.text(nodeName, out)
	m.text(nodeOp, op)
	for _, a := range attributes {
		var attr message
		attr.text(attributeName, a.name)
		attr.number(attributeI, a.value)
		attr.number(attributeType, attributeInt)
		m.bytes(nodeAttribute, attr)
	}
	return m
}

func tensor(name string, values []float32, dims ...int) message {
	var m message
	for _, d := range dims {
		m.number(tensorDim, d)
	}
	m.number(tensorType, typeFloat)
	m.text(tensorName, name)
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	m.bytes(tensorRaw, raw)
	return m
}

// valueInfo describes an input or output whose first dimension is the batch, any size.
func valueInfo(name string, elem int, dims ...int) message {
	var batch, shape, tensorInfo, kind, m message
	batch.text(dimParam, "batch")
	shape.bytes(shapeDim, batch)
	for _, d := range dims {
		var dim message
		dim.number(dimValue, d)
		shape.bytes(shapeDim, dim)
	}
	tensorInfo.number(tensorElem, elem)
	tensorInfo.bytes(tensorShape, shape)
	kind.bytes(typeTensor, tensorInfo)
	m.text(valueName, name)
	m.bytes(valueType, kind)
	return m
}
