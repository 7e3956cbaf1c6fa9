package tensor

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTypesHaveDistinctNames(t *testing.T) {
	want := "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES"
	var names []string
	for _, typ := range Types() {
		names = append(names, typ.String())
		if got, err := ParseType(typ.String()); err != nil || got != typ {
			t.Errorf("ParseType(%s) = %v, %v", typ, got, err)
		}
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	_, err := ParseType("fp32")
	if err == nil || !strings.Contains(err.Error(), "have BOOL, UINT8") {
		t.Errorf("ParseType(fp32): %v", err)
	}
}

func TestElements(t *testing.T) {
	f := func(shape []int64, want int64) {
		t.Helper()
		if got, err := Elements(shape); err != nil || got != want {
			t.Errorf("Elements(%v) = %d, %v; want %d", shape, got, err, want)
		}
	}
	f(nil, 1)
	f([]int64{3}, 3)
	f([]int64{2, 3, 4}, 24)
	f([]int64{0, 1 << 62, 1 << 62}, 0)
	for _, bad := range [][]int64{{-1}, {1 << 32, 1 << 32}, {math.MaxInt64, 2}} {
		if n, err := Elements(bad); err == nil {
			t.Errorf("Elements(%v) = %d, want an error", bad, n)
		}
	}
}

// TestHalves goes through every half and bfloat16: widening and rounding back is the identity.
func TestHalves(t *testing.T) {
	for i := range 1 << 16 {
		h := Float16(i)
		f := float64(h.Float32())
		if back := ToFloat16(f); math.IsNaN(f) != math.IsNaN(float64(back.Float32())) || !math.IsNaN(f) && back != h {
			t.Fatalf("half %04x is %v, which became %04x", i, f, back)
		}
		b := BFloat16(i)
		f = float64(b.Float32())
		if back := ToBFloat16(f); math.IsNaN(f) != math.IsNaN(float64(back.Float32())) || !math.IsNaN(f) && back != b {
			t.Fatalf("bfloat16 %04x is %v, which became %04x", i, f, back)
		}
	}
}

// TestRoundingToHalf checks the numbers between neighbours: below the middle goes down, above
// goes up, the middle goes to the even one.
func TestRoundingToHalf(t *testing.T) {
	for i := range 0x7bff { // every finite positive half but the last, and its successor
		low, high := float64(Float16(i).Float32()), float64(Float16(i+1).Float32())
		middle := (low + high) / 2
		even := Float16(i + i&1)
		if got := ToFloat16(middle); got != even {
			t.Fatalf("%v between %04x and %04x became %04x, want %04x", middle, i, i+1, got, even)
		}
		if got := ToFloat16(math.Nextafter(middle, 0)); got != Float16(i) {
			t.Fatalf("just under %v became %04x, want %04x", middle, got, i)
		}
		if got := ToFloat16(-math.Nextafter(middle, high)); got != Float16(i+1)|0x8000 {
			t.Fatalf("just over -%v became %04x, want %04x", middle, got, Float16(i+1)|0x8000)
		}
	}
	if got := ToFloat16(65519.9); got != 0x7bff {
		t.Errorf("65519.9 became %04x, want the largest half", got)
	}
	if got := ToFloat16(65520); got != 0x7c00 {
		t.Errorf("65520 became %04x, want infinity", got)
	}
}

func TestFloat64(t *testing.T) {
	le := binary.LittleEndian
	f := func(typ Type, data []byte, want ...float64) {
		t.Helper()
		v := Tensor{Type: typ, Data: data}
		if v.Len() != len(want) {
			t.Fatalf("%s: Len() = %d, want %d", typ, v.Len(), len(want))
		}
		for i, w := range want {
			if got := v.Float64(i); got != w {
				t.Errorf("%s[%d] = %v, want %v", typ, i, got, w)
			}
		}
	}
	f(Bool, []byte{0, 1}, 0, 1)
	f(Uint8, []byte{255}, 255)
	f(Int8, []byte{255, 128}, -1, -128)
	f(Uint16, []byte{1, 2}, 513)
	f(Int16, []byte{0xfe, 0xff}, -2)
	f(Uint32, le.AppendUint32(nil, math.MaxUint32), math.MaxUint32)
	f(Int32, le.AppendUint32(nil, 1<<31), math.MinInt32)
	f(Uint64, le.AppendUint64(nil, 1<<63), 1<<63)
	f(Int64, le.AppendUint64(nil, math.MaxUint64), -1)
	f(FP16, le.AppendUint16(nil, 0x3c00), 1)
	f(BF16, le.AppendUint16(nil, 0xc000), -2)
	f(FP32, le.AppendUint32(nil, math.Float32bits(0.5)), 0.5)
	f(FP64, le.AppendUint64(nil, math.Float64bits(-0.1)), -0.1)
}

func TestStrings(t *testing.T) {
	want := []string{"", "grün", "\x00\xff", strings.Repeat("x", 300)}
	raw := AppendStrings(nil, want)
	got, err := DecodeStrings(raw, len(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f := func(raw []byte, n int, message string) {
		t.Helper()
		if _, err := DecodeStrings(raw, n); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("DecodeStrings(%v, %d): %v; want %q in it", raw, n, err, message)
		}
	}
	f(nil, 1, "cannot hold")
	f([]byte{0, 0, 0, 0}, 1<<40, "cannot hold")
	f([]byte{5, 0, 0, 0, 'a', 'b', 'c', 'd'}, 1, "says it has 5 bytes but only 4 are left")
	f([]byte{4, 0, 0, 0, 'a', 'b', 'c', 'd'}, 2, "ends in the length of BYTES element 1")
	f([]byte{1, 0, 0, 0, 'a', 'b'}, 1, "1 bytes are left over")
	f([]byte{255, 255, 255, 255, 'a'}, 1, "says it has 4294967295 bytes")
}

func TestSpecString(t *testing.T) {
	s := Spec{Name: "X", Type: FP32, Shape: []int64{-1, 4}}
	if got := s.String(); got != "X FP32[-1,4]" {
		t.Error(got)
	}
}
