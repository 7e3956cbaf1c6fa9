package backend

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"weir/backend/tensor"
)

// skips reads the whole text as one JSON value.
func skips(text string) error {
	s := &scanner{data: []byte(text)}
	if err := s.skip(); err != nil {
		return err
	}
	return s.end()
}

// jsonTexts are valid and invalid; the fuzz target starts from them.
func jsonTexts() []string {
	return []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `1.5e+10`, `-1E-3`, `""`, ` [ 1 , 2 ] `,
		`{"a":{"b":[1,{"c":null}]},"d":"\u00e9\n\"\\\/"}`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"grün"`,
		``, ` `, `{`, `}`, `[`, `[1`, `[1,`, `[1,]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `{"a" 1}`,
		`01`, `-`, `+1`, `.5`, `1.`, `1e`, `1e+`, `0x1`, `NaN`, `Infinity`, `-Infinity`, `tru`, `nulls`, `nul`,
		`"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"", "\"\xff\"", `"a" "b"`, `1 2`, `[1 2]`, "\ufeff1", `[1,,2]`,
	}
}

// agree fails the test when the scanner and encoding/json disagree on whether text is JSON,
// but for what the scanner refuses on purpose.
func agree(t *testing.T, text string) {
	t.Helper()
	err := skips(text)
	valid := json.Valid([]byte(text))
	if err == nil && !valid {
		t.Errorf("%q was taken for JSON", text)
	}
	if err != nil && valid && utf8.ValidString(text) && !strings.Contains(err.Error(), "nested deeper") {
		t.Errorf("%q was refused: %v", text, err)
	}
}

func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range jsonTexts() {
		agree(t, text)
		agree(t, "["+text+"]")
		agree(t, `{"k":`+text+`}`)
	}
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	if err := skips(deep); err == nil || !strings.Contains(err.Error(), "nested deeper than 64") {
		t.Errorf("%d levels: %v", maxDepth+1, err)
	}
	if err := skips(deep[1 : len(deep)-1]); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
}

func TestScannerReadsStringsAsEncodingJSON(t *testing.T) {
	for _, text := range jsonTexts() {
		var want string
		if json.Unmarshal([]byte(text), &want) != nil || !strings.HasPrefix(text, `"`) || !utf8.ValidString(text) {
			continue
		}
		s := &scanner{data: []byte(text)}
		if got, err := s.str(); err != nil || got != want {
			t.Errorf("%s was read as %q, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, text := range jsonTexts() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		agree(t, text)
		s := &scanner{data: []byte(text)}
		if got, err := s.str(); err == nil && s.end() == nil {
			var want string
			if err := json.Unmarshal([]byte(text), &want); err != nil || got != want {
				t.Errorf("%q was read as %q; encoding/json reads %q, %v", text, got, want, err)
			}
		}
	})
}

// TestFloat32AgreesWithStrconv checks the fast conversion on short numbers of every form, on
// the numbers halfway between two float32, and on random ones.
func TestFloat32AgreesWithStrconv(t *testing.T) {
	check := func(text string) {
		t.Helper()
		want, wantErr := strconv.ParseFloat(text, 32)
		s := &scanner{data: []byte(text)}
		got, err := s.float32()
		if (err != nil) != (wantErr != nil) || err == nil && math.Float32bits(got) != math.Float32bits(float32(want)) {
			t.Errorf("%s is %v, %v; want %v, %v", text, got, err, float32(want), wantErr)
		}
	}
	for _, text := range []string{
		"0", "-0", "0.0", "-0.000", "1", "-1", "0.1", "16777217", "16777219", "33554435", "9007199254740993", "999999999999999", "1000000000000000",
		"0.000000000000000001", "3.4028234e38", "3.4028236e38", "1e39", "-1e400", "1e-46", "1.401298464324817e-45", "123456789012345678901234567890",
		"0.30000001192092896", "0.003921568859368563", "1e0", "1E+2", "8388608.5", "8388609.5", "4194304.25", "4194304.75",
	} {
		check(text)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		f := math.Float32frombits(r.Uint32() & 0x7fffffff)
		if f-f != 0 {
			continue
		}
		next := math.Nextafter32(f, 0)
		middle := (float64(f) + float64(next)) / 2
		check(strconv.FormatFloat(float64(f), 'f', -1, 32))
		check(strconv.FormatFloat(float64(f), 'g', -1, 32))
		check(strconv.FormatFloat(middle, 'f', -1, 64))
		check(strconv.FormatFloat(r.Float64(), 'f', 1+r.IntN(18), 64))
		check(strconv.FormatUint(r.Uint64()>>r.UintN(64), 10))
	}
}

func BenchmarkFeatures784(b *testing.B) {
	text := []byte{'['}
	for i := range 784 {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, float64(float32(i%256)/255), 'g', -1, 32)
	}
	text = append(text, ']')
	b.Run("weir", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			s := &scanner{data: text}
			v := tensor.Tensor{Type: tensor.FP32, Shape: []int64{1, 784}}
			if err := s.tensorData(&v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding_json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var v []float32
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestTensorData checks the elements of every type against encoding/json's reading of them.
func TestTensorData(t *testing.T) {
	f := func(typ tensor.Type, shape []int64, data string, want ...float64) {
		t.Helper()
		v := tensor.Tensor{Type: typ, Shape: shape}
		s := &scanner{data: []byte(data)}
		if err := s.tensorData(&v); err != nil {
			t.Errorf("%s%v %s: %v", typ, shape, data, err)
			return
		}
		if v.Len() != len(want) || len(v.Data) != cap(v.Data) {
			t.Errorf("%s%v %s: %d elements in %d of %d bytes, want %d", typ, shape, data, v.Len(), len(v.Data), cap(v.Data), len(want))
			return
		}
		for i, w := range want {
			if got := v.Float64(i); got != w {
				t.Errorf("%s%v %s: element %d is %v, want %v", typ, shape, data, i, got, w)
			}
		}
	}
	f(tensor.FP32, []int64{1, 2}, "[0.5, -1e3]", 0.5, -1000)
	f(tensor.FP32, []int64{2, 2}, "[[1,2],[3,4]]", 1, 2, 3, 4)
	f(tensor.FP64, []int64{2, 1, 2}, "[[[1,2]],[[3,0.1]]]", 1, 2, 3, 0.1)
	f(tensor.FP16, []int64{3}, "[1, 65504, 0.0000001]", 1, 65504, 1.1920928955078125e-07)
	f(tensor.BF16, []int64{2}, "[1, 3.14159]", 1, 3.140625)
	f(tensor.Bool, []int64{2}, "[true,false]", 1, 0)
	f(tensor.Uint8, []int64{2}, "[0,255]", 0, 255)
	f(tensor.Uint16, []int64{1}, "[65535]", 65535)
	f(tensor.Uint32, []int64{1}, "[4294967295]", math.MaxUint32)
	f(tensor.Uint64, []int64{1}, "[18446744073709551615]", math.MaxUint64)
	f(tensor.Int8, []int64{2}, "[-128,127]", -128, 127)
	f(tensor.Int16, []int64{1}, "[-32768]", -32768)
	f(tensor.Int32, []int64{1}, "[-2147483648]", math.MinInt32)
	f(tensor.Int64, []int64{1}, "[-9223372036854775808]", math.MinInt64)
	f(tensor.FP32, []int64{}, "[7]", 7)

	v := tensor.Tensor{Type: tensor.Int64, Shape: []int64{1}}
	s := &scanner{data: []byte("[9007199254740993]")}
	if err := s.tensorData(&v); err != nil || v.Int64(0) != 9007199254740993 {
		t.Errorf("an integer above 2^53 became %d, %v", v.Int64(0), err)
	}
	if binary.LittleEndian.Uint64(v.Data) != 9007199254740993 {
		t.Errorf("got the bytes %v", v.Data)
	}
}

func TestTensorDataRefuses(t *testing.T) {
	f := func(typ tensor.Type, shape []int64, data, want string) {
		t.Helper()
		v := tensor.Tensor{Type: typ, Shape: shape}
		s := &scanner{data: []byte(data)}
		err := s.tensorData(&v)
		if err == nil {
			err = s.end()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s%v %s: %v; want %q in it", typ, shape, data, err, want)
		}
	}
	f(tensor.FP32, []int64{3}, "[1,2]", "2 elements, but shape [3] has 3")
	f(tensor.FP32, []int64{1}, "[1,2]", "more elements than 1")
	f(tensor.FP32, []int64{2, 2}, "[[1,2],[3]]", "an array of 1 where dimension 1 of shape [2,2] is 2")
	f(tensor.FP32, []int64{2, 2}, "[[1,2],[3,4],[5,6]]", "more elements")
	f(tensor.FP32, []int64{2, 2}, "[[1,2,3,4]]", "an array of 4 where dimension 1")
	f(tensor.FP32, []int64{2, 2}, "[[1,2],3,4]", `want an array, found "3,4]"`)
	f(tensor.FP32, []int64{4}, "[[1,2],[3,4]]", `element 0: want a number, found "[1,2],[3,4]]"`)
	f(tensor.FP32, []int64{1}, "[NaN]", "JSON has no NaN or infinity, send them as binary data")
	f(tensor.FP64, []int64{1}, "[-Infinity]", "send them as binary data")
	f(tensor.FP32, []int64{1}, "[null]", `want a number, found "null]"`)
	f(tensor.FP32, []int64{1}, `["1"]`, "want a number")
	f(tensor.FP32, []int64{1}, "[1e39]", "does not fit FP32")
	f(tensor.FP64, []int64{1}, "[1e999]", "does not fit FP64")
	f(tensor.FP16, []int64{1}, "[65520]", "does not fit FP16")
	f(tensor.BF16, []int64{1}, "[3.38e38,1]", "more elements")
	f(tensor.BF16, []int64{1}, "[1e39]", "does not fit BF16")
	f(tensor.Int8, []int64{1}, "[128]", "want a whole number that fits INT8, found 128")
	f(tensor.Uint8, []int64{1}, "[-1]", "want a whole number that fits UINT8, found -1")
	f(tensor.Int64, []int64{1}, "[1.0]", "want a whole number that fits INT64, found 1.0")
	f(tensor.Int64, []int64{1}, "[1e2]", "found 1e2")
	f(tensor.Int32, []int64{1}, "[NaN]", "send them as binary data")
	f(tensor.Bool, []int64{1}, "[1]", "want true or false")
	f(tensor.Bytes, []int64{1}, "[1]", "want a string")
	f(tensor.FP32, []int64{1}, "1", "want an array")
	f(tensor.FP32, []int64{1}, "", "want an array, found the end")
	f(tensor.FP32, []int64{1}, "[1", `want "," or "]", found the end`)
	// Shapes that no body can fill must not be allocated.
	f(tensor.FP64, []int64{1 << 40}, "[1,2]", "more than the rest of the body can hold")
	f(tensor.FP32, []int64{1 << 32, 1 << 32}, "[1,2]", "more elements than can be counted")
	f(tensor.Bytes, []int64{maxStrings + 1}, "["+strings.Repeat(`"",`, maxStrings)+`""]`, fmt.Sprintf("more than %d BYTES", maxStrings))
}
