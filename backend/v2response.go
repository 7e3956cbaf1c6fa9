package backend

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"weir/backend/tensor"
)

// writeInfer answers a V2 inference.
func writeInfer(ctx *fasthttp.RequestCtx, m *Model, r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) error {
	body, jsonSize, err := appendInfer(make([]byte, 0, 512), m, r, outputs, chosen)
	if err != nil {
		return err
	}
	contentType := "application/json"
	if slices.ContainsFunc(chosen, func(c chosenOutput) bool { return c.binary }) {
		contentType = "application/octet-stream"
		ctx.Response.Header.Set(jsonSizeHeader, strconv.Itoa(jsonSize))
	}
	ctx.SetContentType(contentType)
	ctx.Response.SetBodyRaw(body)
	return nil
}

// appendInfer appends the answer's JSON, which ends at jsonSize, and then the binary outputs.
func appendInfer(dst []byte, m *Model, r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) (body []byte, jsonSize int, err error) {
	dst = appendString(append(dst, `{"model_name":`...), m.Name)
	dst = appendString(append(dst, `,"model_version":`...), m.Version)
	if r.hasID {
		dst = appendString(append(dst, `,"id":`...), r.id)
	}
	dst = append(dst, `,"outputs":[`...)
	var tail []byte
	for i, c := range chosen {
		out := &outputs[c.at]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"name":`...), out.Name)
		dst = append(append(append(dst, `,"datatype":"`...), out.Type.String()...), '"')
		dst = appendInts(append(dst, `,"shape":`...), out.Shape)
		if c.binary {
			before := len(tail)
			tail = appendBinary(tail, out)
			dst = append(dst, `,"parameters":{"binary_data_size":`...)
			dst = append(strconv.AppendInt(dst, int64(len(tail)-before), 10), '}', '}')
			continue
		}
		if dst, err = appendData(append(dst, `,"data":`...), out); err != nil {
			return nil, 0, err
		}
		dst = append(dst, '}')
	}
	dst = append(dst, ']', '}')
	return append(dst, tail...), len(dst), nil
}

func appendBinary(dst []byte, t *tensor.Tensor) []byte {
	if t.Type == tensor.Bytes {
		return tensor.AppendStrings(dst, t.Strings)
	}
	return append(dst, t.Data...)
}

func appendInts(dst []byte, values []int64) []byte {
	dst = append(dst, '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, v, 10)
	}
	return append(dst, ']')
}

// appendData appends all elements as one flat JSON array. It is an error when JSON cannot carry
// an element: a NaN, an infinity, bytes that are no text.
func appendData(dst []byte, t *tensor.Tensor) ([]byte, error) {
	dst = append(dst, '[')
	for i := range t.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = appendElement(dst, t, i); !ok {
			return dst, fmt.Errorf("element %d of output %s is nothing that JSON can carry (NaN, infinity or bytes that are not UTF-8); "+
				`ask for it with parameters {"binary_data": true}`, i, t.Name)
		}
	}
	return append(dst, ']'), nil
}

func appendElement(dst []byte, t *tensor.Tensor, i int) (_ []byte, ok bool) {
	switch t.Type {
	case tensor.FP32:
		f := math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		return strconv.AppendFloat(dst, float64(f), 'g', -1, 32), f-f == 0
	case tensor.FP16, tensor.BF16:
		// Such a number has an exact float32, whose shortest form reads back as the same.
		f := t.Float64(i)
		return strconv.AppendFloat(dst, f, 'g', -1, 32), f-f == 0
	case tensor.FP64:
		f := t.Float64(i)
		return strconv.AppendFloat(dst, f, 'g', -1, 64), f-f == 0
	case tensor.Bool:
		return strconv.AppendBool(dst, t.Data[i] != 0), true
	case tensor.Bytes:
		return appendString(dst, t.Strings[i]), utf8.ValidString(t.Strings[i])
	case tensor.Uint64:
		return strconv.AppendUint(dst, binary.LittleEndian.Uint64(t.Data[8*i:]), 10), true
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return strconv.AppendUint(dst, uint64(t.Float64(i)), 10), true
	}
	return strconv.AppendInt(dst, t.Int64(i), 10), true
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(dst, '"'), s...), '"')
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a string does not marshal: " + err.Error())
	}
	return append(dst, quoted...)
}
