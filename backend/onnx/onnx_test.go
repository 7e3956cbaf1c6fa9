package onnx_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/backend/models"
	"weir/backend/onnx"
	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

func load(t *testing.T, path string) *onnx.Model {
	t.Helper()
	m, warning, err := onnxtest.Runtime(t).Load(path, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if warning != nil {
		t.Errorf("%s: %v", path, warning)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func floats(values ...float32) []byte {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

// TestEveryType sends two rows of every type through a model that gives them back.
func TestEveryType(t *testing.T) {
	for _, typ := range tensor.Types() {
		t.Run(typ.String(), func(t *testing.T) {
			m := load(t, onnxtest.Identity(typ, -1, 3).Write(t))
			want := tensor.Spec{Name: "x", Type: typ, Shape: []int64{-1, 3}}
			if diff := cmp.Diff(want, m.Signature().Inputs[0]); diff != "" {
				t.Errorf("signature: %s", diff)
			}
			in := tensor.Tensor{Name: "x", Type: typ, Shape: []int64{2, 3}}
			if typ == tensor.Bytes {
				in.Strings = []string{"", "grün", "\xff\xfe", "a", "b", strings.Repeat("z", 500)}
			} else {
				for i := range 6 * typ.Size() {
					in.Data = append(in.Data, byte(i&1))
				}
			}
			out, err := m.Run(t.Context(), []tensor.Tensor{in})
			if err != nil {
				t.Fatal(err)
			}
			in.Name = "y"
			if diff := cmp.Diff([]tensor.Tensor{in}, out); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSingleNumbers sends tensors without dimensions.
func TestSingleNumbers(t *testing.T) {
	for _, typ := range tensor.Types() {
		if typ == tensor.FP16 || typ == tensor.BF16 || typ == tensor.Bytes {
			continue // onnxruntime_go has no such scalars
		}
		t.Run(typ.String(), func(t *testing.T) {
			m := load(t, onnxtest.Identity(typ).Write(t))
			in := tensor.Tensor{Name: "x", Type: typ, Data: make([]byte, typ.Size())}
			in.Data[0] = 1
			out, err := m.Run(t.Context(), []tensor.Tensor{in})
			if err != nil {
				t.Fatal(err)
			}
			if len(out[0].Shape) != 0 || !bytes.Equal(out[0].Data, in.Data) {
				t.Errorf("got %+v", out[0])
			}
		})
	}
}

// TestUnalignedData gives a tensor that begins at an odd address, as in a binary request.
func TestUnalignedData(t *testing.T) {
	m := load(t, onnxtest.Identity(tensor.FP64, -1).Write(t))
	raw := make([]byte, 8*8+1)
	binary.LittleEndian.PutUint64(raw[1:], math.Float64bits(2.5))
	out, err := m.Run(t.Context(), []tensor.Tensor{{Name: "x", Type: tensor.FP64, Shape: []int64{8}, Data: raw[1:]}})
	if err != nil || out[0].Float64(0) != 2.5 {
		t.Errorf("got %v, %v", out, err)
	}
}

// TestIrisForest compares with what scikit-learn's own export answered for these flowers, as
// recorded in onnxruntime_go's test of the same file.
func TestIrisForest(t *testing.T) {
	m := load(t, "../models/iris-forest.onnx")
	want := []tensor.Spec{
		{Name: "output_label", Type: tensor.Int64, Shape: []int64{-1}},
		{Name: "output_probability", Type: tensor.FP32, Shape: []int64{-1, 3}, Columns: []string{"0", "1", "2"}},
	}
	if diff := cmp.Diff(want, m.Signature().Outputs); diff != "" {
		t.Error(diff)
	}
	out, err := m.Run(t.Context(), []tensor.Tensor{{Name: "X", Type: tensor.FP32, Shape: []int64{6, 4}, Data: floats(
		5.9, 3.0, 5.1, 1.8,
		6.8, 2.8, 4.8, 1.4,
		6.3, 2.3, 4.4, 1.3,
		6.5, 3.0, 5.5, 1.8,
		7.7, 2.8, 6.7, 2.0,
		5.5, 2.5, 4.0, 1.3,
	)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, label := range []int64{2, 1, 1, 2, 2, 1} {
		if got := out[0].Int64(i); got != label {
			t.Errorf("flower %d is %d, want %d", i, got, label)
		}
	}
	if diff := cmp.Diff([]int64{6, 3}, out[1].Shape); diff != "" {
		t.Fatal(diff)
	}
	probabilities := []float64{
		0, 0.12999998, 0.86999947, 0, 0.76999956, 0.23000003, 0, 0.96999937, 0.03,
		0, 0, 0.99999934, 0, 0, 0.99999934, 0, 0.99999934, 0,
	}
	for i, p := range probabilities {
		if got := out[1].Float64(i); math.Abs(got-p) > 1e-6 {
			t.Errorf("probability %d is %v, want %v", i, got, p)
		}
	}
}

// TestFashionModels checks the models against the sample's labels and against the accuracy that
// their own metadata states for it.
func TestFashionModels(t *testing.T) {
	sample := models.Sample()
	var data []byte
	for _, image := range sample {
		data = append(data, floats(image.Features()...)...)
	}
	for _, name := range []string{"fashion-v1", "fashion-v2", "fashion-bad"} {
		m := load(t, "../models/"+name+".onnx")
		out, err := m.Run(t.Context(), []tensor.Tensor{{
			Name: "image", Type: tensor.FP32, Shape: []int64{int64(len(sample)), models.Pixels}, Data: data,
		}})
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		for i, image := range sample {
			if out[0].Int64(i) == int64(image.Label) {
				right++
			}
		}
		stated := m.Signature().Metadata["sample_accuracy"]
		got := float64(right) / float64(len(sample))
		if want, err := strconv.ParseFloat(stated, 64); err != nil || math.Abs(got-want) > 0.001 {
			t.Errorf("%s: %d of %d are right; its metadata says %q", name, right, len(sample), stated)
		}
	}
}

// TestRunsSideBySide checks that runs of one model do not disturb each other.
func TestRunsSideBySide(t *testing.T) {
	m := load(t, "../models/iris-forest.onnx")
	var running sync.WaitGroup
	for g := range 8 {
		running.Go(func() {
			rows := int64(g + 1)
			in := tensor.Tensor{Name: "X", Type: tensor.FP32, Shape: []int64{rows, 4}}
			for r := range rows {
				if (r+int64(g))%2 == 0 {
					in.Data = append(in.Data, floats(5.1, 3.5, 1.4, 0.2)...)
				} else {
					in.Data = append(in.Data, floats(6.3, 3.3, 6.0, 2.5)...)
				}
			}
			for range 200 {
				out, err := m.Run(t.Context(), []tensor.Tensor{in})
				if err != nil {
					t.Error(err)
					return
				}
				for r := range rows {
					want := (r + int64(g)) % 2 * 2
					if got := out[0].Int64(int(r)); got != want {
						t.Errorf("row %d is %d, want %d", r, got, want)
						return
					}
				}
			}
		})
	}
	running.Wait()
}

func TestCloseWaitsForRuns(t *testing.T) {
	m := load(t, onnxtest.Identity(tensor.FP32, -1).Write(t))
	in := []tensor.Tensor{{Name: "x", Type: tensor.FP32, Shape: []int64{1}, Data: floats(1)}}
	var running sync.WaitGroup
	begun := make(chan struct{})
	for range 4 {
		running.Go(func() {
			for i := 0; ; i++ {
				if _, err := m.Run(t.Context(), in); err != nil {
					if !strings.Contains(err.Error(), "closed") {
						t.Error(err)
					}
					return
				}
				if i == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	if err := m.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestSeveralInputsAndMetadata(t *testing.T) {
	m := load(t, onnxtest.Model{
		Inputs: []tensor.Spec{
			{Name: "a", Type: tensor.FP32, Shape: []int64{-1, 2}},
			{Name: "b", Type: tensor.FP32, Shape: []int64{-1, 2}},
		},
		Outputs: []tensor.Spec{
			{Name: "sum", Type: tensor.FP32, Shape: []int64{-1, 2}},
			{Name: "difference", Type: tensor.FP32, Shape: []int64{-1, 2}},
		},
		Nodes: []onnxtest.Node{
			{Op: "Add", In: []string{"a", "b"}, Out: []string{"sum"}},
			{Op: "Sub", In: []string{"a", "b"}, Out: []string{"difference"}},
		},
		Metadata: map[string]string{"version": "v7", "note": "grün"},
	}.Write(t))
	if diff := cmp.Diff(map[string]string{"version": "v7", "note": "grün"}, m.Signature().Metadata); diff != "" {
		t.Error(diff)
	}
	out, err := m.Run(t.Context(), []tensor.Tensor{
		{Name: "a", Type: tensor.FP32, Shape: []int64{1, 2}, Data: floats(5, 6)},
		{Name: "b", Type: tensor.FP32, Shape: []int64{1, 2}, Data: floats(1, 2)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out[0].Data, floats(6, 8)) || !bytes.Equal(out[1].Data, floats(4, 4)) {
		t.Errorf("got %v", out)
	}
}

// outOfRange fails when its index is not 0, and so cannot tell a fault of its own from the
// caller's.
func outOfRange() onnxtest.Model {
	return onnxtest.Model{
		Inputs: []tensor.Spec{
			{Name: "data", Type: tensor.FP32, Shape: []int64{1}},
			{Name: "index", Type: tensor.Int64, Shape: []int64{1}},
		},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP32, Shape: []int64{1}}},
		Nodes:   []onnxtest.Node{{Op: "Gather", In: []string{"data", "index"}, Out: []string{"y"}}},
	}
}

func TestRunThatFails(t *testing.T) {
	m := load(t, outOfRange().Write(t))
	inputs := []tensor.Tensor{
		{Name: "data", Type: tensor.FP32, Shape: []int64{1}, Data: floats(4)},
		{Name: "index", Type: tensor.Int64, Shape: []int64{1}, Data: binary.LittleEndian.AppendUint64(nil, 7)},
	}
	if _, err := m.Run(t.Context(), inputs); err == nil || !strings.Contains(err.Error(), "out of data bounds") {
		t.Errorf("got %v", err)
	}
	inputs[1].Data = make([]byte, 8)
	if out, err := m.Run(t.Context(), inputs); err != nil || out[0].Float64(0) != 4 {
		t.Errorf("after a failed run: %v, %v", out, err)
	}
	if _, err := m.Run(t.Context(), inputs[:1]); err == nil || !strings.Contains(err.Error(), "2 inputs, 1 were given") {
		t.Errorf("got %v", err)
	}
}

// TestZerosThatFail loads two models that cannot reshape to [0,0]. One has no other input, so
// zeros are surely meant to work; the other may want a shape that fits its data.
func TestZerosThatFail(t *testing.T) {
	broken := onnxtest.Model{
		Inputs:  []tensor.Spec{{Name: "shape", Type: tensor.Int64, Shape: []int64{2}}},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.Int64, Shape: []int64{-1, -1}}},
		Nodes:   []onnxtest.Node{{Op: "Reshape", In: []string{"shape", "shape"}, Out: []string{"y"}}},
	}
	_, _, err := onnxtest.Runtime(t).Load(broken.Write(t), onnx.Options{})
	if err == nil || !strings.Contains(err.Error(), "on zeros, failed") {
		t.Errorf("a model that fails on its only input: %v", err)
	}
	choosy := onnxtest.Model{
		Inputs: []tensor.Spec{
			{Name: "data", Type: tensor.FP32, Shape: []int64{4}},
			{Name: "shape", Type: tensor.Int64, Shape: []int64{2}},
		},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP32, Shape: []int64{-1, -1}}},
		Nodes:   []onnxtest.Node{{Op: "Reshape", In: []string{"data", "shape"}, Out: []string{"y"}}},
	}
	m, warning, err := onnxtest.Runtime(t).Load(choosy.Write(t), onnx.Options{})
	if err != nil || warning == nil {
		t.Fatalf("a model that may refuse zeros: %v, warning %v", err, warning)
	}
	defer m.Close()
	shape := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 2), 2)
	out, err := m.Run(t.Context(), []tensor.Tensor{
		{Name: "data", Type: tensor.FP32, Shape: []int64{4}, Data: floats(1, 2, 3, 4)},
		{Name: "shape", Type: tensor.Int64, Shape: []int64{2}, Data: shape},
	})
	if err != nil || !cmp.Equal(out[0].Shape, []int64{2, 2}) {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.onnx")
	if err := os.WriteFile(garbage, []byte("this is no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(path, want string) {
		t.Helper()
		m, _, err := onnxtest.Runtime(t).Load(path, onnx.Options{})
		if err == nil {
			m.Close()
			t.Errorf("%s was loaded", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", path, err, want)
		}
	}
	f("no/such.onnx", "no such file")
	f(t.TempDir(), "is a directory")
	f(garbage, "cannot load the model")
	f(onnxtest.Identity(tensor.FP16, -1, -1).Write(t), "let the model give FP32")
}

func TestLocate(t *testing.T) {
	library := onnxtest.Library(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "libonnxruntime.so")
	if err := os.Symlink(library, link); err != nil {
		t.Fatal(err)
	}
	f := func(explicit, env, want, message string) {
		t.Helper()
		t.Setenv(onnx.LibraryEnv, env)
		got, err := onnx.Locate(explicit)
		if got != want {
			t.Errorf("Locate(%q) with %q: %s, %v; want %s", explicit, env, got, err, want)
		}
		if message != "" && (err == nil || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), "sherpa-onnx-linux-x64@1.13.8")) {
			t.Errorf("Locate(%q) with %q: %v; want %q and the remedy in it", explicit, env, err, message)
		}
	}
	f(library, "", library, "")
	f(dir, "", link, "")
	f("", library, library, "")
	f(link, library, link, "")
	f("/no/such.so", library, "", "--onnxruntime names /no/such.so")
	f("", "/no/such.so", "", "ORT_DYLIB_PATH names /no/such.so")
	f(t.TempDir(), "", "", "was not found")
}

func TestStartTwice(t *testing.T) {
	onnxtest.Runtime(t)
	if _, err := onnx.Start(onnxtest.Library(t)); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("a second Start: %v", err)
	}
	if v := onnxtest.Runtime(t).Version(); !strings.Contains(v, ".") {
		t.Errorf("version %q", v)
	}
}
