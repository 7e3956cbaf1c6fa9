// Package onnxtest gives tests a running ONNX Runtime and small models to run on it.
package onnxtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"weir/backend/onnx"
)

// library is where "make setup" puts the shared library, from the root of the checkout.
const library = "bin/lib/libonnxruntime.so"

// started holds the one Runtime a test process can have; it runs until the process ends.
var started = sync.OnceValues(func() (*onnx.Runtime, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	return onnx.Start(path)
})

// Runtime returns the test process's ONNX Runtime. A test that needs it fails when the shared
// library is missing; it is never skipped.
func Runtime(tb testing.TB) *onnx.Runtime {
	tb.Helper()
	r, err := started()
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Library returns the path of the shared library.
func Library(tb testing.TB) string {
	tb.Helper()
	path, err := find()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func find() (string, error) {
	if os.Getenv(onnx.LibraryEnv) != "" {
		return onnx.Locate("")
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, library)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no %s above %s. %s", library, start, onnx.Remedy)
		}
	}
}
