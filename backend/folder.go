package backend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Folder is a folder of models as Triton's model repository has it: NAME/VERSION/model.onnx, or any one .onnx file
// there. Names and versions have the alphabet of Source; what begins with a dot is passed over.
type Folder struct {
	Path string
	// Versions is how many versions of each model are served, the newest first, which is what
	// requests without a version get; default 1, less than 0 for all. Numbers in versions count as
	// such: 10 is newer than 9, and v1.10.0 than v1.9.0.
	Versions int
	// Poll is how often the folder is looked at for models and versions that came, went or changed;
	// 0 for never.
	Poll time.Duration
	// Open loads the file at path as the model name.
	Open func(name, path string) (Runner, error)
	// Serving says how requests for the model name are run; nil is the default for all.
	Serving func(name string) Serving
}

// list is all that the folder has: the models by name, of each its versions with the newest first.
func (f *Folder) list() ([]Source, error) {
	names, err := f.folders(f.Path, "model")
	if err != nil {
		return nil, err
	}
	var all []Source
	for _, name := range names {
		versions, err := f.folders(filepath.Join(f.Path, name), "version")
		if err != nil {
			return nil, err
		}
		slices.SortFunc(versions, func(a, b string) int { return compareVersions(b, a) })
		for _, version := range versions {
			all = append(all, f.source(name, version))
		}
	}
	return all, nil
}

// folders are the names of the folders in the one at path, which are those of a model or version.
func (f *Folder) folders(path, what string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the folder of models: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(path, e.Name())) // of what a link leads to
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the folder of models: %w", err)
		}
		if !info.IsDir() {
			continue
		}
		if !validName(e.Name()) {
			return nil, fmt.Errorf("the folder %s cannot be the name of a %s; want %s", filepath.Join(path, e.Name()), what, nameAlphabet)
		}
		names = append(names, e.Name())
	}
	return names, nil
}

func (f *Folder) source(name, version string) Source {
	path := filepath.Join(f.Path, name, version)
	s := Source{Name: name, Version: version, Path: path, Open: func() (Runner, error) {
		file, err := ModelFile(path)
		if err != nil {
			return nil, err
		}
		return f.Open(name, file)
	}}
	if f.Serving != nil {
		s.Serving = f.Serving(name)
	}
	return s
}

// ModelFile is the file of the model at path: path itself, or in a folder its model.onnx, or its only .onnx file.
func ModelFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the model: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	found, err := filepath.Glob(filepath.Join(path, "*.onnx"))
	if at := slices.Index(found, filepath.Join(path, "model.onnx")); at >= 0 {
		return found[at], nil
	}
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("the folder %s holds %d .onnx files; want one, or name the file", path, len(found))
	}
	return found[0], nil
}

// stamp tells one state of the source's file from another; it is "" when there is none.
func (s *Source) stamp() string {
	file, err := ModelFile(s.Path)
	if err != nil {
		return ""
	}
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return fmt.Sprint(file, " ", info.Size(), " ", info.ModTime().UnixNano())
}

// compareVersions orders versions by their parts, in which digits count as numbers. The part of a version that goes on
// is newer.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		partA, restA := versionPart(a)
		partB, restB := versionPart(b)
		x, errX := strconv.ParseUint(partA, 10, 64)
		y, errY := strconv.ParseUint(partB, 10, 64)
		switch {
		case errX == nil && errY == nil && x != y:
			if x < y {
				return -1
			}
			return 1
		case (errX != nil || errY != nil) && partA != partB:
			return strings.Compare(partA, partB)
		}
		a, b = restA, restB
	}
	return len(a) - len(b)
}

// versionPart is what a version begins with: digits, or what is none.
func versionPart(v string) (part, rest string) {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	end := 1
	for end < len(v) && digit(v[end]) == digit(v[0]) {
		end++
	}
	return v[:end], v[end:]
}
