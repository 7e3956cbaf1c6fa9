package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"weir/backend/inference"
	"weir/backend/tensor"
)

// readInfer reads a gRPC inference request. Tensors may alias it.
func readInfer(in *inference.ModelInferRequest) (*inferRequest, error) {
	raw := in.GetRawInputContents()
	switch n := len(in.GetInputs()); {
	case n == 0:
		return nil, errors.New(`no "inputs"`)
	case n > maxTensors:
		return nil, fmt.Errorf("more than %d inputs", maxTensors)
	case len(raw) > 0 && len(raw) != n:
		return nil, fmt.Errorf("raw_input_contents has %d elements for %d inputs; want one for each", len(raw), n)
	}
	r := &inferRequest{id: in.GetId(), hasID: in.GetId() != "", binaryOutput: len(raw) > 0}
	if err := r.readParameters(in.GetParameters()); err != nil {
		return nil, err
	}
	for i, input := range in.GetInputs() {
		t := tensor.Tensor{Name: input.GetName(), Shape: input.GetShape()}
		err := checkShape(t.Shape)
		if err == nil {
			t.Type, err = tensor.ParseType(input.GetDatatype())
		}
		switch {
		case err != nil:
		case len(raw) == 0:
			err = readContents(&t, input.GetContents())
		case input.GetContents() != nil:
			err = errors.New("both contents and raw_input_contents")
		default:
			err = setBinary(&t, "the size of its raw_input_contents", raw[i])
		}
		if err != nil {
			return nil, fmt.Errorf("inputs[%d] (%s): %w", i, clip(t.Name), err)
		}
		r.inputs = append(r.inputs, t)
	}
	if len(in.GetOutputs()) > maxTensors {
		return nil, fmt.Errorf("more than %d outputs", maxTensors)
	}
	for i, output := range in.GetOutputs() {
		if slices.ContainsFunc(r.outputs, func(o requestedOutput) bool { return o.name == output.GetName() }) {
			return nil, fmt.Errorf("outputs[%d]: the output %q is asked for twice", i, clip(output.GetName()))
		}
		r.outputs = append(r.outputs, requestedOutput{name: output.GetName()})
	}
	return r, nil
}

// readParameters takes the parameters that are known; others are passed over, as over REST.
func (r *inferRequest) readParameters(all map[string]*inference.InferParameter) error {
	for _, known := range []struct {
		name string
		set  func(int64) error
	}{{"priority", r.setPriority}, {"timeout", r.setTimeout}} {
		p, given := all[known.name]
		if !given {
			continue
		}
		n := p.GetInt64Param()
		switch choice := p.GetParameterChoice().(type) {
		case *inference.InferParameter_Int64Param:
		case *inference.InferParameter_Uint64Param: // Triton's priority is one
			n = int64(min(choice.Uint64Param, math.MaxInt64))
		default:
			return fmt.Errorf("parameters: %s: want an int64_param or a uint64_param", known.name)
		}
		if err := known.set(n); err != nil {
			return fmt.Errorf("parameters: %s: %w", known.name, err)
		}
	}
	return nil
}

func checkShape(shape []int64) error {
	if len(shape) > maxRank {
		return fmt.Errorf("shape: more than %d dimensions", maxRank)
	}
	for i, d := range shape {
		if d <= 0 {
			return fmt.Errorf("shape: dimension %d is %d; want at least 1", i, d)
		}
	}
	return nil
}

// contentsField is the field of InferTensorContents with a type's elements.
func contentsField(t tensor.Type) string {
	switch t {
	case tensor.Bool:
		return "bool_contents"
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return "int_contents"
	case tensor.Int64:
		return "int64_contents"
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return "uint_contents"
	case tensor.Uint64:
		return "uint64_contents"
	case tensor.FP32:
		return "fp32_contents"
	case tensor.FP64:
		return "fp64_contents"
	case tensor.Bytes:
		return "bytes_contents"
	}
	return ""
}

// readContents gives the tensor the elements of the field of its type.
func readContents(t *tensor.Tensor, c *inference.InferTensorContents) error {
	n, err := tensor.Elements(t.Shape)
	if err != nil {
		return err
	}
	want, have := contentsField(t.Type), int64(0)
	if want == "" {
		return fmt.Errorf("%s has no contents of its own; send it in raw_input_contents", t.Type)
	}
	for _, field := range []struct {
		name string
		n    int
	}{
		{"bool_contents", len(c.GetBoolContents())}, {"int_contents", len(c.GetIntContents())},
		{"int64_contents", len(c.GetInt64Contents())}, {"uint_contents", len(c.GetUintContents())},
		{"uint64_contents", len(c.GetUint64Contents())}, {"fp32_contents", len(c.GetFp32Contents())},
		{"fp64_contents", len(c.GetFp64Contents())}, {"bytes_contents", len(c.GetBytesContents())},
	} {
		if field.name == want {
			have = int64(field.n)
		} else if field.n > 0 {
			return fmt.Errorf("contents: %d elements in %s; %s takes %s", field.n, field.name, t.Type, want)
		}
	}
	if have != n {
		return fmt.Errorf("contents: %d elements in %s, but shape %s has %d", have, want, tensor.ShapeString(t.Shape), n)
	}
	if t.Type == tensor.Bytes {
		return readStrings(t, c.GetBytesContents())
	}
	t.Data = make([]byte, 0, n*int64(t.Type.Size()))
	return within("contents", readNumbers(t, c))
}

func readStrings(t *tensor.Tensor, elements [][]byte) error {
	if len(elements) > maxStrings {
		return fmt.Errorf("shape %s has more than %d BYTES elements", tensor.ShapeString(t.Shape), maxStrings)
	}
	t.Strings = make([]string, len(elements))
	for i, e := range elements {
		t.Strings[i] = string(e)
	}
	return nil
}

func readNumbers(t *tensor.Tensor, c *inference.InferTensorContents) error {
	le := binary.LittleEndian
	switch t.Type {
	case tensor.Bool:
		for _, v := range c.GetBoolContents() {
			t.Data = append(t.Data, bit(v))
		}
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return readNarrow(t, c.GetIntContents(), -1<<(8*t.Type.Size()-1), 1<<(8*t.Type.Size()-1)-1)
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return readNarrow(t, c.GetUintContents(), 0, 1<<(8*t.Type.Size())-1)
	case tensor.Int64:
		for _, v := range c.GetInt64Contents() {
			t.Data = le.AppendUint64(t.Data, uint64(v))
		}
	case tensor.Uint64:
		for _, v := range c.GetUint64Contents() {
			t.Data = le.AppendUint64(t.Data, v)
		}
	case tensor.FP32:
		for _, v := range c.GetFp32Contents() {
			t.Data = le.AppendUint32(t.Data, math.Float32bits(v))
		}
	case tensor.FP64:
		for _, v := range c.GetFp64Contents() {
			t.Data = le.AppendUint64(t.Data, math.Float64bits(v))
		}
	}
	return nil
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// readNarrow reads whole numbers of 8, 16 or 32 bits, which all travel in 32.
func readNarrow[T int32 | uint32](t *tensor.Tensor, elements []T, low, high int64) error {
	for i, v := range elements {
		if int64(v) < low || int64(v) > high {
			return fmt.Errorf("element %d: want a whole number that fits %s, found %d", i, t.Type, v)
		}
		switch t.Type.Size() {
		case 1:
			t.Data = append(t.Data, byte(v))
		case 2:
			t.Data = binary.LittleEndian.AppendUint16(t.Data, uint16(v))
		case 4:
			t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(v))
		}
	}
	return nil
}

// newInferResponse answers in the form in which the inputs came, but all in raw contents when
// an output has a type that goes in no other.
func newInferResponse(m *Model, r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) *inference.ModelInferResponse {
	answer := &inference.ModelInferResponse{ModelName: m.Name, ModelVersion: m.Version, Id: r.id}
	raw := r.binaryOutput || slices.ContainsFunc(chosen, func(c chosenOutput) bool { return contentsField(outputs[c.at].Type) == "" })
	for _, c := range chosen {
		t := &outputs[c.at]
		out := &inference.ModelInferResponse_InferOutputTensor{Name: t.Name, Datatype: t.Type.String(), Shape: t.Shape}
		switch {
		case !raw:
			out.Contents = newContents(t)
		case t.Type == tensor.Bytes:
			answer.RawOutputContents = append(answer.RawOutputContents, tensor.AppendStrings(nil, t.Strings))
		default:
			answer.RawOutputContents = append(answer.RawOutputContents, t.Data)
		}
		answer.Outputs = append(answer.Outputs, out)
	}
	return answer
}

// newContents are the tensor's elements in the field of its type.
func newContents(t *tensor.Tensor) *inference.InferTensorContents {
	switch t.Type {
	case tensor.Bool:
		return &inference.InferTensorContents{BoolContents: each(t, func(i int) bool { return t.Data[i] != 0 })}
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return &inference.InferTensorContents{IntContents: each(t, func(i int) int32 { return int32(t.Int64(i)) })}
	case tensor.Int64:
		return &inference.InferTensorContents{Int64Contents: each(t, t.Int64)}
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return &inference.InferTensorContents{UintContents: each(t, func(i int) uint32 { return uint32(t.Float64(i)) })}
	case tensor.Uint64:
		return &inference.InferTensorContents{Uint64Contents: each(t, func(i int) uint64 { return binary.LittleEndian.Uint64(t.Data[8*i:]) })}
	case tensor.FP32:
		return &inference.InferTensorContents{Fp32Contents: each(t, func(i int) float32 {
			return math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		})}
	case tensor.FP64:
		return &inference.InferTensorContents{Fp64Contents: each(t, t.Float64)}
	}
	return &inference.InferTensorContents{BytesContents: each(t, func(i int) []byte { return []byte(t.Strings[i]) })}
}

// each makes a slice of the tensor's elements.
func each[T any](t *tensor.Tensor, element func(i int) T) []T {
	elements := make([]T, t.Len())
	for i := range elements {
		elements[i] = element(i)
	}
	return elements
}
