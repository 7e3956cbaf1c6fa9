package onnx_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/onnx"
	"weir/backend/onnx/onnxtest"
	"weir/backend/tensor"
)

// longChain is a model that multiplies its matrix with itself so often that a run takes seconds on any machine.
func longChain() onnxtest.Model {
	m := onnxtest.Model{
		Inputs:  []tensor.Spec{{Name: "x", Type: tensor.FP32, Shape: []int64{-1, -1}}},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP32, Shape: []int64{-1, -1}}},
	}
	const links = 4000
	last := "x"
	for i := range links {
		next := fmt.Sprint("h", i)
		if i == links-1 {
			next = "y"
		}
		m.Nodes = append(m.Nodes, onnxtest.Node{Op: "MatMul", In: []string{last, "x"}, Out: []string{next}})
		last = next
	}
	return m
}

// TestRunBrokenOff ends the context of a run under way, beside one that goes on; the model serves on.
func TestRunBrokenOff(t *testing.T) {
	m := load(t, longChain().Write(t))
	square := func(n int64) []tensor.Tensor {
		return []tensor.Tensor{{Name: "x", Type: tensor.FP32, Shape: []int64{n, n}, Data: make([]byte, 4*n*n)}}
	}
	why := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	var beside sync.WaitGroup
	beside.Go(func() {
		for range 20 {
			if _, err := m.Run(t.Context(), square(2)); err != nil {
				t.Errorf("a run beside it: %v", err)
			}
		}
	})
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if _, err := m.Run(ctx, square(512)); !errors.Is(err, why) || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("the run's error is %v; want that it was broken off", err)
	}
	beside.Wait()
	if _, err := m.Run(ctx, square(2)); !errors.Is(err, why) {
		t.Errorf("a run whose context has ended: %v", err)
	}
	if out, err := m.Run(context.Background(), square(2)); err != nil || out[0].Len() != 4 {
		t.Errorf("afterwards: %v, %v", out, err)
	}
}

// TestProvidersFallBack asks this machine's ONNX Runtime, which has the CPU only, for more: the model is served by the
// CPU, and says what is missing.
func TestProvidersFallBack(t *testing.T) {
	path := onnxtest.Identity(tensor.FP32, -1).Write(t)
	for _, test := range []struct {
		asked []onnx.Provider
		want  []string // in the fallback
	}{
		{nil, nil},
		{[]onnx.Provider{{Name: "cpu"}}, nil},
		{[]onnx.Provider{{Name: "cuda", Options: map[string]string{"device_id": "1"}}}, []string{"execution provider cuda cannot be used: "}},
		{
			[]onnx.Provider{{Name: "tensorrt", Options: map[string]string{"trt_fp16_enable": "1"}}, {Name: "cuda"}, {Name: "cpu"}},
			[]string{"execution provider tensorrt cannot be used: ", "execution provider cuda cannot be used: "},
		},
	} {
		m, warning, err := onnxtest.Runtime(t).Load(path, onnx.Options{Providers: test.asked})
		if err != nil || warning != nil {
			t.Fatalf("%v: %v, %v", test.asked, warning, err)
		}
		if diff := cmp.Diff([]string{"cpu"}, m.Signature().Providers); diff != "" {
			t.Errorf("%v: providers: %s", test.asked, diff)
		}
		if fallback := m.Fallback(); (fallback == nil) != (test.want == nil) {
			t.Errorf("%v: fallback %v", test.asked, fallback)
		}
		for _, want := range test.want {
			if !strings.Contains(m.Fallback().Error(), want) {
				t.Errorf("%v: fallback %v; want %q in it", test.asked, m.Fallback(), want)
			}
		}
		in := []tensor.Tensor{{Name: "x", Type: tensor.FP32, Shape: []int64{1}, Data: floats(3)}}
		if out, err := m.Run(t.Context(), in); err != nil || out[0].Float64(0) != 3 {
			t.Errorf("%v: %v, %v", test.asked, out, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestProvidersStrict wants what this machine does not have, and nothing else.
func TestProvidersStrict(t *testing.T) {
	path := onnxtest.Identity(tensor.FP32, -1).Write(t)
	for _, name := range []string{"cuda", "tensorrt"} {
		for _, asked := range [][]onnx.Provider{{{Name: name}}, {{Name: name}, {Name: "cpu"}}} {
			m, _, err := onnxtest.Runtime(t).Load(path, onnx.Options{Providers: asked, Strict: true})
			if err == nil || !strings.Contains(err.Error(), "execution provider "+name+" cannot be used: ") || !strings.Contains(err.Error(), "without strict") {
				t.Errorf("%v: %v", asked, err)
			}
			if m != nil {
				t.Errorf("%v: a model came with the error", asked)
			}
		}
	}
	for _, asked := range [][]onnx.Provider{nil, {{Name: "cpu"}}} {
		m, _, err := onnxtest.Runtime(t).Load(path, onnx.Options{Providers: asked, Strict: true})
		if err != nil {
			t.Errorf("%v: %v", asked, err)
			continue
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBadModelWithProviders is told as on the CPU: no provider is to blame for it.
func TestBadModelWithProviders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.onnx")
	if err := os.WriteFile(path, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := onnxtest.Runtime(t).Load(path, onnx.Options{Providers: []onnx.Provider{{Name: "cuda"}}}); err == nil || !strings.Contains(err.Error(), "cannot load the model "+path) {
		t.Errorf("%v", err)
	}
}

func TestCheckProviders(t *testing.T) {
	f := func(want string, providers ...onnx.Provider) {
		t.Helper()
		err := onnx.CheckProviders(providers)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v; want %q", providers, err, want)
		}
	}
	cuda, cpu := onnx.Provider{Name: "cuda"}, onnx.Provider{Name: "cpu"}
	f("")
	f("", onnx.Provider{Name: "tensorrt"}, cuda, cpu)
	f(`unknown execution provider "gpu" (have cpu, cuda, tensorrt)`, onnx.Provider{Name: "gpu"})
	f("cuda is given twice", cuda, cuda)
	f("put cpu last", cpu, cuda)
	f("cpu has no options", onnx.Provider{Name: "cpu", Options: map[string]string{"device_id": "0"}})
	if _, _, err := onnxtest.Runtime(t).Load(onnxtest.Identity(tensor.FP32, 1).Write(t), onnx.Options{Providers: []onnx.Provider{cpu, cuda}}); err == nil {
		t.Error("a model was loaded on what CheckProviders refuses")
	}
}
