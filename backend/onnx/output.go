package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"

	ort "github.com/yalue/onnxruntime_go"

	"weir/backend/tensor"
)

// output is how one output is received.
type output struct {
	kind kind
	spec tensor.Spec
}

type kind uint8

const (
	// allocated outputs are made by ONNX Runtime, of whatever shape.
	allocated kind = iota
	// provided outputs are made here, because onnxruntime_go copies only half of a 16-bit
	// tensor that ONNX Runtime made. That needs their shape before the run.
	provided
	// single outputs have no dimensions and are made here: onnxruntime_go cannot wrap one.
	single
	// mapped outputs are sequences of maps, one map a row.
	mapped
)

// describe fills the signature from what ONNX Runtime says about the model.
func (m *Model) describe(inputs, outputs []ort.InputOutputInfo) error {
	for _, in := range inputs {
		spec, err := tensorSpec(in)
		if err != nil {
			return fmt.Errorf("input %w", err)
		}
		m.signature.Inputs = append(m.signature.Inputs, spec)
	}
	for _, out := range outputs {
		o, err := newOutput(out)
		if err != nil {
			return fmt.Errorf("output %w", err)
		}
		m.outputs = append(m.outputs, o)
		m.signature.Outputs = append(m.signature.Outputs, o.spec)
	}
	if len(inputs) == 0 || len(outputs) == 0 {
		return fmt.Errorf("it has %d inputs and %d outputs; want at least one of each", len(inputs), len(outputs))
	}
	return nil
}

func tensorSpec(info ort.InputOutputInfo) (tensor.Spec, error) {
	if info.OrtValueType != ort.ONNXTypeTensor {
		return tensor.Spec{}, fmt.Errorf("%s is a %s; want a tensor", info.Name, info.OrtValueType)
	}
	t, ok := tensorType(info.DataType)
	if !ok {
		return tensor.Spec{}, fmt.Errorf("%s has elements of type %s, which the Open Inference Protocol does not know",
			info.Name, info.DataType)
	}
	return tensor.Spec{Name: info.Name, Type: t, Shape: slices.Clone([]int64(info.Dimensions))}, nil
}

func newOutput(info ort.InputOutputInfo) (output, error) {
	if info.OrtValueType == ort.ONNXTypeSequence {
		// What the maps hold is known after the first run; ZipMap has float values.
		spec := tensor.Spec{Name: info.Name, Type: tensor.FP32, Shape: []int64{-1, -1}}
		return output{kind: mapped, spec: spec}, nil
	}
	spec, err := tensorSpec(info)
	if err != nil {
		return output{}, err
	}
	o := output{kind: allocated, spec: spec}
	if spec.Type == tensor.FP16 || spec.Type == tensor.BF16 {
		o.kind = provided
		free := slices.Index(spec.Shape, -1)
		if len(spec.Shape) == 0 || free > 0 || slices.Index(spec.Shape[free+1:], -1) >= 0 {
			return output{}, fmt.Errorf("%s of type %s%s cannot be received: only its first dimension may be free; let the model give FP32",
				spec.Name, spec.Type, tensor.ShapeString(spec.Shape))
		}
	}
	return o, nil
}

// allocate returns the value a run writes to, or nil when ONNX Runtime is to make it.
func (o *output) allocate(specs []tensor.Spec, inputs []tensor.Tensor, pins *runtime.Pinner) (ort.Value, error) {
	switch o.kind {
	case provided:
		shape := slices.Clone(o.spec.Shape)
		if shape[0] == -1 {
			shape[0] = batch(specs, inputs)
		}
		n, err := tensor.Elements(shape)
		if err != nil {
			return nil, err
		}
		t := tensor.Tensor{Type: o.spec.Type, Shape: shape, Data: make([]byte, n*int64(o.spec.Type.Size()))}
		return newValue(&t, pins)
	case single:
		return newScalar(&tensor.Tensor{Type: o.spec.Type, Data: make([]byte, o.spec.Type.Size())})
	}
	return nil, nil
}

// batch is the size of the first dimension that the model leaves free: it is taken to be the
// batch, which every output with a free first dimension has too.
func batch(specs []tensor.Spec, inputs []tensor.Tensor) int64 {
	for i, spec := range specs {
		if len(spec.Shape) > 0 && spec.Shape[0] == -1 && len(inputs[i].Shape) > 0 {
			return inputs[i].Shape[0]
		}
	}
	return 1
}

// read is the tensor a run left in v, and the names of its columns where v tells them.
func (o *output) read(v ort.Value) (t tensor.Tensor, columns []string, err error) {
	switch o.kind {
	case single:
		t, err = readScalar(v, o.spec.Type)
	case mapped:
		t, columns, err = readMaps(v, o.spec.Columns)
	default:
		t, err = contents(v)
	}
	t.Name = o.spec.Name
	return t, columns, err
}

func readScalar(v ort.Value, t tensor.Type) (tensor.Tensor, error) {
	r := tensor.Tensor{Type: t, Shape: []int64{}}
	switch v := v.(type) {
	case *ort.Scalar[bool]:
		r.Data = bytesOf([]bool{v.GetData()})
	case *ort.Scalar[uint8]:
		r.Data = []byte{v.GetData()}
	case *ort.Scalar[uint16]:
		r.Data = bytesOf([]uint16{v.GetData()})
	case *ort.Scalar[uint32]:
		r.Data = bytesOf([]uint32{v.GetData()})
	case *ort.Scalar[uint64]:
		r.Data = bytesOf([]uint64{v.GetData()})
	case *ort.Scalar[int8]:
		r.Data = bytesOf([]int8{v.GetData()})
	case *ort.Scalar[int16]:
		r.Data = bytesOf([]int16{v.GetData()})
	case *ort.Scalar[int32]:
		r.Data = bytesOf([]int32{v.GetData()})
	case *ort.Scalar[int64]:
		r.Data = bytesOf([]int64{v.GetData()})
	case *ort.Scalar[float32]:
		r.Data = bytesOf([]float32{v.GetData()})
	case *ort.Scalar[float64]:
		r.Data = bytesOf([]float64{v.GetData()})
	default:
		return r, fmt.Errorf("ONNX Runtime gave a %s where one number was expected", v.GetONNXType())
	}
	return r, nil
}

// readMaps makes a dense [rows, columns] tensor of a sequence of maps. Every map must have
// these columns as keys; nil columns are taken from the first map, in their order.
func readMaps(v ort.Value, columns []string) (tensor.Tensor, []string, error) {
	sequence, ok := v.(*ort.Sequence)
	if !ok {
		return tensor.Tensor{}, nil, fmt.Errorf("ONNX Runtime gave a %s where a sequence was expected", v.GetONNXType())
	}
	rows, err := sequence.GetValues()
	if err != nil {
		return tensor.Tensor{}, nil, err
	}
	dense := tensor.Tensor{Type: tensor.FP32}
	for i, row := range rows {
		keys, values, err := readMap(row)
		if err != nil {
			return tensor.Tensor{}, nil, fmt.Errorf("row %d: %w", i, err)
		}
		if columns == nil {
			columns = sorted(keys)
		}
		if i == 0 {
			dense.Type = values.Type
		}
		if values.Type != dense.Type || len(keys) != len(columns) {
			return tensor.Tensor{}, nil, fmt.Errorf("row %d has %d %s values; want %d of type %s",
				i, len(keys), values.Type, len(columns), dense.Type)
		}
		if dense.Data, err = appendRow(dense.Data, columns, keys, &values); err != nil {
			return tensor.Tensor{}, nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	dense.Shape = []int64{int64(len(rows)), int64(len(columns))}
	return dense, columns, nil
}

// readMap reads a map of numbers; its keys, whole numbers or strings, as text.
func readMap(v ort.Value) (keys []string, values tensor.Tensor, err error) {
	m, ok := v.(*ort.Map)
	if !ok {
		return nil, values, fmt.Errorf("it is a %s where a map was expected", v.GetONNXType())
	}
	k, n, err := m.GetKeysAndValues()
	if err != nil {
		return nil, values, err
	}
	names, err := contents(k)
	if err != nil {
		return nil, values, err
	}
	if values, err = contents(n); err != nil {
		return nil, values, err
	}
	switch names.Type {
	case tensor.Bytes:
		keys = names.Strings
	case tensor.Int64:
		for i := range names.Len() {
			keys = append(keys, strconv.FormatInt(names.Int64(i), 10))
		}
	default:
		return nil, values, fmt.Errorf("a map has keys of type %s; want INT64 or BYTES", names.Type)
	}
	if values.Type == tensor.Bytes || values.Len() != len(keys) {
		return nil, values, errors.New("a map does not hold one number for each key")
	}
	return keys, values, nil
}

// sorted orders keys as numbers when all are, else as text.
func sorted(keys []string) []string {
	s := slices.Clone(keys)
	slices.SortFunc(s, func(a, b string) int {
		x, errX := strconv.ParseInt(a, 10, 64)
		y, errY := strconv.ParseInt(b, 10, 64)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(a, b)
	})
	return s
}

func appendRow(dst []byte, columns, keys []string, values *tensor.Tensor) ([]byte, error) {
	size := values.Type.Size()
	for c, column := range columns {
		// Maps come in their keys' order, so the key is nearly always where the column is.
		i := c
		if keys[i] != column {
			if i = slices.Index(keys, column); i < 0 {
				return dst, fmt.Errorf("it has no value for %q", column)
			}
		}
		dst = append(dst, values.Data[i*size:(i+1)*size]...)
	}
	return dst, nil
}
