package backend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"weir/backend/tensor"
)

// maxStrings bounds the BYTES elements of one tensor: an empty string is 3 bytes of JSON but
// some 80 bytes of memory on its way into the model.
const maxStrings = 1 << 20

// tensorData reads a tensor's JSON data into t, whose type and shape are set: either all
// elements in one flat array, or arrays nested as the shape says.
func (s *scanner) tensorData(t *tensor.Tensor) error {
	n, err := tensor.Elements(t.Shape)
	if err != nil {
		return err
	}
	// An element takes at least a byte and its comma, so a shape that does not fit its data
	// allocates nothing.
	if left := int64(len(s.data)-s.pos)/2 + 1; n > left {
		return s.errorf("shape %s has %d elements, more than the rest of the body can hold", tensor.ShapeString(t.Shape), n)
	}
	if t.Type == tensor.Bytes {
		if n > maxStrings {
			return fmt.Errorf("shape %s has more than %d BYTES elements", tensor.ShapeString(t.Shape), maxStrings)
		}
		t.Strings = make([]string, 0, n)
	} else {
		t.Data = make([]byte, 0, n*int64(t.Type.Size()))
	}
	e := elements{s: s, t: t, n: n}
	if s.nested() {
		err = e.level(0)
	} else {
		err = e.flat()
	}
	if err == nil && e.read != n {
		err = s.errorf("%d elements, but shape %s has %d", e.read, tensor.ShapeString(t.Shape), n)
	}
	return err
}

// nested says whether an array of arrays follows.
func (s *scanner) nested() bool {
	ahead := scanner{data: s.data, pos: s.pos}
	return ahead.take('[') && ahead.peek() == '['
}

// elements fills one tensor with n elements at most; read counts them.
type elements struct {
	s       *scanner
	t       *tensor.Tensor
	n, read int64
}

func (e *elements) flat() error {
	return e.s.array(func(int) error { return e.next() })
}

// level reads the array of this dimension.
func (e *elements) level(dimension int) error {
	if dimension == len(e.t.Shape) {
		return e.next()
	}
	count := int64(0)
	err := e.s.array(func(int) error {
		count++
		return e.level(dimension + 1)
	})
	if err == nil && count != e.t.Shape[dimension] {
		err = e.s.errorf("an array of %d where dimension %d of shape %s is %d",
			count, dimension, tensor.ShapeString(e.t.Shape), e.t.Shape[dimension])
	}
	return err
}

func (e *elements) next() error {
	if e.read == e.n {
		return e.s.errorf("more elements than %d", e.n)
	}
	if err := e.element(); err != nil {
		return fmt.Errorf("element %d: %w", e.read, err)
	}
	e.read++
	return nil
}

// element appends the next JSON value to the tensor.
func (e *elements) element() error {
	t, s := e.t, e.s
	switch {
	case t.Type == tensor.FP32:
		f, err := s.float32()
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(f))
		return err
	case t.Type.Float():
		return e.float()
	case t.Type.Integer():
		return e.integer()
	case t.Type == tensor.Bool:
		b, err := s.boolean()
		if b {
			t.Data = append(t.Data, 1)
		} else {
			t.Data = append(t.Data, 0)
		}
		return err
	}
	text, err := s.str()
	t.Strings = append(t.Strings, text)
	return err
}

func (e *elements) float() error {
	f, err := e.s.float64()
	if err != nil {
		return err
	}
	t := e.t
	switch t.Type {
	case tensor.FP64:
		t.Data = binary.LittleEndian.AppendUint64(t.Data, math.Float64bits(f))
		return nil
	case tensor.FP16:
		h := tensor.ToFloat16(f)
		t.Data = binary.LittleEndian.AppendUint16(t.Data, uint16(h))
		f = float64(h.Float32())
	case tensor.BF16:
		h := tensor.ToBFloat16(f)
		t.Data = binary.LittleEndian.AppendUint16(t.Data, uint16(h))
		f = float64(h.Float32())
	}
	if math.IsInf(f, 0) {
		return e.s.errorf("the number does not fit %s", t.Type)
	}
	return nil
}

func (e *elements) integer() error {
	t := e.t
	token, err := e.s.number()
	if err != nil {
		return e.s.noNaN(err)
	}
	bits := 8 * t.Type.Size()
	var value uint64
	if t.Type >= tensor.Int8 {
		var n int64
		n, err = strconv.ParseInt(string(token), 10, bits)
		value = uint64(n)
	} else {
		value, err = strconv.ParseUint(string(token), 10, bits)
	}
	if err != nil {
		return e.s.errorf("want a whole number that fits %s, found %s", t.Type, token)
	}
	switch bits {
	case 8:
		t.Data = append(t.Data, byte(value))
	case 16:
		t.Data = binary.LittleEndian.AppendUint16(t.Data, uint16(value))
	case 32:
		t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(value))
	case 64:
		t.Data = binary.LittleEndian.AppendUint64(t.Data, value)
	}
	return nil
}

// float32 reads a number and rounds it to the nearest float32.
func (s *scanner) float32() (float32, error) {
	token, err := s.number()
	if err != nil {
		return 0, s.noNaN(err)
	}
	if f, ok := shortFloat32(token); ok {
		return f, nil
	}
	f, err := strconv.ParseFloat(string(token), 32)
	if err != nil {
		return 0, s.errorf("the number does not fit FP32")
	}
	return float32(f), nil
}

func (s *scanner) float64() (float64, error) {
	token, err := s.number()
	if err != nil {
		return 0, s.noNaN(err)
	}
	f, err := strconv.ParseFloat(string(token), 64)
	if err != nil {
		return 0, s.errorf("the number does not fit FP64")
	}
	return f, nil
}

// noNaN adds to the error about a number what many a client needs to hear.
func (s *scanner) noNaN(err error) error {
	rest := s.data[s.pos:]
	for _, word := range []string{"NaN", "nan", "Inf", "-Inf", "inf", "-inf"} {
		if bytes.HasPrefix(rest, []byte(word)) {
			return fmt.Errorf("%w; JSON has no NaN or infinity, send them as binary data", err)
		}
	}
	return err
}

// shortFloat32 converts a JSON number of few digits, as most are, and is never wrong: decimal
// digits that fit 53 bits and a power of ten that a float64 holds exactly make one correctly
// rounded float64, and rounding that again gives the nearest float32 unless it lies exactly
// between two. ok is false for all other numbers.
func shortFloat32(token []byte) (f float32, ok bool) {
	if len(token) > 20 {
		return 0, false
	}
	var mantissa uint64
	digits, fraction := 0, 0
	negative, point := false, false
	for _, c := range token {
		switch {
		case c-'0' <= 9:
			if mantissa = mantissa*10 + uint64(c-'0'); mantissa > 0 {
				digits++
			}
			if point {
				fraction++
			}
		case c == '.':
			point = true
		case c == '-':
			negative = true
		default:
			return 0, false // an exponent
		}
	}
	if digits > 15 { // 10^15 < 2^53
		return 0, false
	}
	d := float64(mantissa) / powerOfTen(fraction)
	const below = 1<<29 - 1 // the bits a float32 does not have
	if math.Float64bits(d)&below == 1<<28 {
		return 0, false // exactly between two float32
	}
	if negative {
		d = -d
	}
	return float32(d), true
}

// powerOfTen is 10^n, exactly, for n up to 22.
func powerOfTen(n int) float64 {
	return [...]float64{
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
	}[n]
}
