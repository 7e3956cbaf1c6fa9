// Package tensor holds the values that go into and come out of a model, in the types of the
// Open Inference Protocol V2. It knows neither HTTP nor ONNX Runtime; both the server and the
// runtime's wrapper speak it.
package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Type is the type of a tensor's elements.
type Type uint8

// The element types of the protocol. BF16 is an extension that Triton and KServe share.
const (
	Invalid Type = iota
	Bool
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	FP16
	BF16
	FP32
	FP64
	Bytes
)

type typeInfo struct {
	name string
	size int
}

func (t Type) info() typeInfo {
	switch t {
	case Bool:
		return typeInfo{"BOOL", 1}
	case Uint8:
		return typeInfo{"UINT8", 1}
	case Uint16:
		return typeInfo{"UINT16", 2}
	case Uint32:
		return typeInfo{"UINT32", 4}
	case Uint64:
		return typeInfo{"UINT64", 8}
	case Int8:
		return typeInfo{"INT8", 1}
	case Int16:
		return typeInfo{"INT16", 2}
	case Int32:
		return typeInfo{"INT32", 4}
	case Int64:
		return typeInfo{"INT64", 8}
	case FP16:
		return typeInfo{"FP16", 2}
	case BF16:
		return typeInfo{"BF16", 2}
	case FP32:
		return typeInfo{"FP32", 4}
	case FP64:
		return typeInfo{"FP64", 8}
	case Bytes:
		return typeInfo{"BYTES", 0}
	}
	return typeInfo{"INVALID", 0}
}

// String is the protocol's name of the type.
func (t Type) String() string { return t.info().name }

// Size is how many bytes an element takes, 0 for Bytes, whose elements differ.
func (t Type) Size() int { return t.info().size }

// Float says whether the elements are floating-point numbers.
func (t Type) Float() bool { return t >= FP16 && t <= FP64 }

// Integer says whether the elements are whole numbers.
func (t Type) Integer() bool { return t >= Uint8 && t <= Int64 }

// Types are all types in the order of the constants.
func Types() []Type {
	all := make([]Type, 0, Bytes)
	for t := Bool; t <= Bytes; t++ {
		all = append(all, t)
	}
	return all
}

// ParseType finds a type by its name in the protocol.
func ParseType(name string) (Type, error) {
	names := make([]string, 0, Bytes)
	for _, t := range Types() {
		if t.String() == name {
			return t, nil
		}
		names = append(names, t.String())
	}
	return Invalid, fmt.Errorf("unknown datatype %q (have %s)", name, strings.Join(names, ", "))
}

// Tensor is one named value.
type Tensor struct {
	Name  string
	Type  Type
	Shape []int64
	// Data are the elements row by row, little-endian (the byte order of every machine ONNX
	// Runtime is built for), for all types but Bytes. A Bool is one byte, 0 or 1.
	Data []byte
	// Strings are the elements of type Bytes; they need not be text.
	Strings []string
}

// Spec is what a model wants or gives under a name.
type Spec struct {
	Name string
	Type Type
	// Shape has -1 for a dimension that may have any size.
	Shape []int64
	// Columns names the last dimension's elements where the model does (the classes of a
	// classifier's probabilities), else it is nil.
	Columns []string
}

// String is, for example, "X FP32[-1,4]".
func (s Spec) String() string {
	return fmt.Sprintf("%s %s%s", s.Name, s.Type, ShapeString(s.Shape))
}

// Signature is what a loaded model wants, gives and says about itself.
type Signature struct {
	Inputs, Outputs []Spec
	// Metadata are the notes in the model's file, such as "version" and "labels".
	Metadata map[string]string
	// Platform names what runs the model, in the protocol's words: "onnxruntime_onnx".
	Platform string
	// Providers are the execution providers that run the model, in their order: "cuda", "cpu".
	Providers []string
}

// ShapeString is, for example, "[-1,4]".
func ShapeString(shape []int64) string {
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ",")
}

// Elements is how many elements a tensor of this shape has. It is an error when a dimension is
// negative or the number does not fit an int64.
func Elements(shape []int64) (int64, error) {
	n := int64(1)
	for i, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d of shape %s is negative", i, ShapeString(shape))
		}
		if d != 0 && n > math.MaxInt64/d {
			return 0, fmt.Errorf("shape %s has more elements than can be counted", ShapeString(shape))
		}
		n *= d
	}
	return n, nil
}

// Len is how many elements the tensor holds.
func (t *Tensor) Len() int {
	if t.Type == Bytes {
		return len(t.Strings)
	}
	if size := t.Type.Size(); size > 0 {
		return len(t.Data) / size
	}
	return 0
}

// Float64 is element i as a float64, whatever the number's type; a Bool is 0 or 1, and Bytes
// are NaN.
func (t *Tensor) Float64(i int) float64 {
	// Of every value of every request: no way through the type's name.
	switch t.Type {
	case FP32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
	case FP64:
		return math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:]))
	case Bool, Uint8:
		return float64(t.Data[i])
	case Uint16:
		return float64(binary.LittleEndian.Uint16(t.Data[2*i:]))
	case Uint32:
		return float64(binary.LittleEndian.Uint32(t.Data[4*i:]))
	case Uint64:
		return float64(binary.LittleEndian.Uint64(t.Data[8*i:]))
	case Int8, Int16, Int32, Int64:
		return float64(t.Int64(i))
	case FP16:
		return float64(Float16(binary.LittleEndian.Uint16(t.Data[2*i:])).Float32())
	case BF16:
		return float64(BFloat16(binary.LittleEndian.Uint16(t.Data[2*i:])).Float32())
	}
	return math.NaN()
}

// Int64 is element i of a signed integer tensor; of the other types it is zero.
func (t *Tensor) Int64(i int) int64 {
	raw := t.Data[i*t.Type.Size():]
	switch t.Type {
	case Int8:
		return int64(int8(raw[0]))
	case Int16:
		return int64(int16(binary.LittleEndian.Uint16(raw)))
	case Int32:
		return int64(int32(binary.LittleEndian.Uint32(raw)))
	case Int64:
		return int64(binary.LittleEndian.Uint64(raw))
	}
	return 0
}
