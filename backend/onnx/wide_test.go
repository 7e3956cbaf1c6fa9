package onnx_test

import (
	"bytes"
	"math"
	"os"
	"testing"

	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

// TestWide: the committed file is what onnxtest writes, and a small model of that kind computes what it says.
func TestWide(t *testing.T) {
	want, err := os.ReadFile(onnxtest.Wide(1024, 16384).Write(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../models/wide.onnx")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("wide.onnx has %d bytes, %v; onnxtest writes %d others", len(got), err, len(want))
	}

	const inputs, columns, rows = 3, 5, 2
	x := []float32{1, -2, 0.5, 0, 1, 1}
	m := load(t, onnxtest.Wide(inputs, columns).Write(t))
	out, err := m.Run(t.Context(), []tensor.Tensor{{Name: "x", Type: tensor.FP32, Shape: []int64{rows, inputs}, Data: floats(x...)}})
	if err != nil {
		t.Fatal(err)
	}
	for r := range rows {
		sum := 0.0
		for c := range columns {
			h := 0.0
			for i := range inputs {
				h += float64(x[r*inputs+i]) * math.Sin(float64(i*columns+c))
			}
			sum += max(h, 0)
		}
		if got := out[0].Float64(r); math.Abs(got-sum) > 1e-5 {
			t.Errorf("row %d is %v, want %v", r, got, sum)
		}
	}
}
