package onnx

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"weir/backend/tensor"
)

func elementType(t tensor.Type) (ort.TensorElementDataType, bool) {
	for _, pair := range elementTypes() {
		if pair.ours == t {
			return pair.theirs, true
		}
	}
	return ort.TensorElementDataTypeUndefined, false
}

func tensorType(t ort.TensorElementDataType) (tensor.Type, bool) {
	for _, pair := range elementTypes() {
		if pair.theirs == t {
			return pair.ours, true
		}
	}
	return tensor.Invalid, false
}

type typePair struct {
	ours   tensor.Type
	theirs ort.TensorElementDataType
}

func elementTypes() [14]typePair {
	return [...]typePair{
		{tensor.FP32, ort.TensorElementDataTypeFloat},
		{tensor.Int64, ort.TensorElementDataTypeInt64},
		{tensor.Bool, ort.TensorElementDataTypeBool},
		{tensor.Uint8, ort.TensorElementDataTypeUint8},
		{tensor.Uint16, ort.TensorElementDataTypeUint16},
		{tensor.Uint32, ort.TensorElementDataTypeUint32},
		{tensor.Uint64, ort.TensorElementDataTypeUint64},
		{tensor.Int8, ort.TensorElementDataTypeInt8},
		{tensor.Int16, ort.TensorElementDataTypeInt16},
		{tensor.Int32, ort.TensorElementDataTypeInt32},
		{tensor.FP16, ort.TensorElementDataTypeFloat16},
		{tensor.BF16, ort.TensorElementDataTypeBFloat16},
		{tensor.FP64, ort.TensorElementDataTypeDouble},
		{tensor.Bytes, ort.TensorElementDataTypeString},
	}
}

// newValue wraps a tensor for ONNX Runtime. Its data is not copied (but strings are): ONNX
// Runtime keeps a pointer to it, so it is pinned and must stay as it is until the value is
// destroyed.
func newValue(t *tensor.Tensor, pins *runtime.Pinner) (ort.Value, error) {
	if len(t.Shape) == 0 {
		return newScalar(t)
	}
	if t.Type == tensor.Bytes {
		v, err := ort.NewStringTensor(t.Shape)
		if err != nil {
			return nil, err
		}
		if err := v.SetContents(t.Strings); err != nil {
			destroy(v)
			return nil, err
		}
		return v, nil
	}
	theirs, ok := elementType(t.Type)
	if !ok {
		return nil, fmt.Errorf("the type %s is not one of ONNX Runtime's", t.Type)
	}
	data := aligned(t.Data, t.Type.Size())
	if len(data) > 0 {
		pins.Pin(unsafe.SliceData(data))
	}
	return ort.NewCustomDataTensor(t.Shape, data, theirs)
}

// aligned returns data at an address that a machine may read elements of this size from: the
// tensors of a binary request begin wherever its JSON ends.
func aligned(data []byte, size int) []byte {
	if len(data) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(data)))%uintptr(size) == 0 {
		return data
	}
	return slices.Clone(data)
}

// newScalar wraps a tensor without dimensions, which onnxruntime_go keeps apart from tensors.
func newScalar(t *tensor.Tensor) (ort.Value, error) {
	switch t.Type {
	case tensor.Bool:
		return scalar[bool](t)
	case tensor.Uint8:
		return scalar[uint8](t)
	case tensor.Uint16:
		return scalar[uint16](t)
	case tensor.Uint32:
		return scalar[uint32](t)
	case tensor.Uint64:
		return scalar[uint64](t)
	case tensor.Int8:
		return scalar[int8](t)
	case tensor.Int16:
		return scalar[int16](t)
	case tensor.Int32:
		return scalar[int32](t)
	case tensor.Int64:
		return scalar[int64](t)
	case tensor.FP32:
		return scalar[float32](t)
	case tensor.FP64:
		return scalar[float64](t)
	}
	return nil, fmt.Errorf("a %s without dimensions cannot be given to ONNX Runtime; want shape [1]", t.Type)
}

func scalar[T ort.TensorData](t *tensor.Tensor) (ort.Value, error) {
	var v T
	if len(t.Data) != int(unsafe.Sizeof(v)) {
		return nil, fmt.Errorf("%d bytes for one %s", len(t.Data), t.Type)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), t.Data)
	return ort.NewScalar(v)
}

// contents is the tensor that a value holds. Numbers are not copied: the slice behind a value
// of onnxruntime_go is Go's and outlives the value's Destroy.
func contents(v ort.Value) (tensor.Tensor, error) {
	t := tensor.Tensor{Shape: v.GetShape()}
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		t.Type, t.Data = tensor.FP32, bytesOf(v.GetData())
	case *ort.Tensor[float64]:
		t.Type, t.Data = tensor.FP64, bytesOf(v.GetData())
	case *ort.Tensor[int64]:
		t.Type, t.Data = tensor.Int64, bytesOf(v.GetData())
	case *ort.Tensor[int32]:
		t.Type, t.Data = tensor.Int32, bytesOf(v.GetData())
	case *ort.Tensor[int16]:
		t.Type, t.Data = tensor.Int16, bytesOf(v.GetData())
	case *ort.Tensor[int8]:
		t.Type, t.Data = tensor.Int8, bytesOf(v.GetData())
	case *ort.Tensor[uint64]:
		t.Type, t.Data = tensor.Uint64, bytesOf(v.GetData())
	case *ort.Tensor[uint32]:
		t.Type, t.Data = tensor.Uint32, bytesOf(v.GetData())
	case *ort.Tensor[uint16]:
		t.Type, t.Data = tensor.Uint16, bytesOf(v.GetData())
	case *ort.Tensor[uint8]:
		t.Type, t.Data = tensor.Uint8, v.GetData()
	case *ort.Tensor[bool]:
		t.Type, t.Data = tensor.Bool, bytesOf(v.GetData())
	case *ort.StringTensor:
		var err error
		t.Type = tensor.Bytes
		t.Strings, err = v.GetContents()
		return t, err
	case *ort.CustomDataTensor:
		t.Type, _ = tensorType(ort.TensorElementDataType(v.DataType()))
		t.Data = v.GetData()
	default:
		return t, fmt.Errorf("ONNX Runtime gave a %s where a tensor was expected", v.GetONNXType())
	}
	return t, nil
}

func bytesOf[T any](elements []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(elements))), len(elements)*int(unsafe.Sizeof(one)))
}
