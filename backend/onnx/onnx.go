// Package onnx runs models by ONNX Runtime, whose shared library is loaded when the program
// starts. It is one of the two packages of weir that need cgo; it is a leaf.
package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// LibraryEnv is the environment variable that names ONNX Runtime's shared library.
const LibraryEnv = "ORT_DYLIB_PATH"

// libraryNames are tried in each directory: the developers' name, and the one that
// distributions and containers keep without it.
func libraryNames() []string { return []string{"libonnxruntime.so", "libonnxruntime.so.1"} }

// Remedy says how to get the library; it ends every message that the library is missing.
const Remedy = `"make setup" puts it into bin/lib. By hand: npm pack sherpa-onnx-linux-x64@1.13.8, ` +
	`unpack package/libonnxruntime.so, and name that file by --onnxruntime or ` + LibraryEnv

// Locate finds the shared library: explicit when it is not empty, else the one the environment
// names, else one beside the running program or in lib there, else one of the system's. A file
// that was named but is not there is an error, never a reason to look further.
func Locate(explicit string) (string, error) {
	if explicit != "" {
		return named(explicit, "--onnxruntime")
	}
	if env := os.Getenv(LibraryEnv); env != "" {
		return named(env, LibraryEnv)
	}
	directories := []string{"/usr/lib", "/usr/local/lib"}
	if program, err := os.Executable(); err == nil {
		beside := filepath.Dir(program)
		directories = append([]string{beside, filepath.Join(beside, "lib")}, directories...)
	}
	return search(directories)
}

// named checks a library that the operator named: the file, or the directory that holds it.
func named(path, by string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%s names %s, which cannot be read: %w. %s", by, path, err, Remedy)
	}
	if !info.IsDir() {
		return path, nil
	}
	found, err := search([]string{path})
	if err != nil {
		return "", fmt.Errorf("%s names a directory: %w", by, err)
	}
	return found, nil
}

func search(directories []string) (string, error) {
	for _, d := range directories {
		for _, name := range libraryNames() {
			path := filepath.Join(d, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("ONNX Runtime's shared library was not found: no %s in %s. %s",
		strings.Join(libraryNames(), " or "), strings.Join(directories, ", "), Remedy)
}

// Runtime is the process's ONNX Runtime.
type Runtime struct {
	library string
}

// Start loads the shared library at this path. A process has one ONNX Runtime at a time: a
// second Start before Close is an error. Neither may run beside the other or beside Load.
func Start(library string) (*Runtime, error) {
	if ort.IsInitialized() {
		return nil, errors.New("ONNX Runtime is running already in this process; close it first")
	}
	ort.SetSharedLibraryPath(library)
	// What it logs goes to stderr in a form of its own, among JSON lines; errors are returned too.
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("cannot start ONNX Runtime from %s: %w. %s", library, err, Remedy)
	}
	return &Runtime{library: library}, nil
}

// Version is the library's own, such as "1.28.2".
func (r *Runtime) Version() string { return ort.GetVersion() }

// Library is the path the library was loaded from.
func (r *Runtime) Library() string { return r.library }

// Close unloads the library. Every Model must be closed before.
func (r *Runtime) Close() error { return ort.DestroyEnvironment() }
