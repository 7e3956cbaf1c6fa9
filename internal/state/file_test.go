package state

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openFile(t *testing.T, path string) (f *File, warnings *[]string) {
	t.Helper()
	warnings = new([]string)
	f, err := OpenFile(path, FileOptions{Warn: func(s string) { *warnings = append(*warnings, s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, warnings
}

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.state.json")
	f, _ := openFile(t, path)
	save(t, f, sample(9, 3, 4))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, warnings := openFile(t, path)
	wantLoad(t, f, sample(9, 3, 4))
	if len(*warnings) > 0 {
		t.Errorf("warned: %q", *warnings)
	}
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"weir.state.json", "weir.state.json.lock"}) {
		t.Errorf("in the directory: %q", got)
	}
}

func TestLoadAcceptsIndentedEnvelope(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	data, err := encode(sample(2, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, bytes.Replace(data, []byte(`,"document":`), []byte(",\n\n \"document\": "), 1))
	f, _ := openFile(t, path)
	wantLoad(t, f, sample(2, 1, 1))
}

// TestLoadTakesFormat1: what a weir without rollouts wrote is read.
func TestLoadTakesFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	document := []byte(`{"format":1,"generation":3,"config":"x","routes":{"a":{"generation":3,"split":[{"pool":"b","weight":2}]}},"pools":{},"history":[]}`)
	writeFile(t, path, fmt.Appendf(nil, `{"weir_state":1,"sha256":"%x","document":%s}`, sha256.Sum256(document), document))
	f, warnings := openFile(t, path)
	d, err := f.Load()
	if err != nil || d == nil || d.Generation != 3 || d.Format != Format || len(*warnings) > 0 {
		t.Errorf("%+v, %v, %v", d, err, *warnings)
	}
}

// TestLoadPutsAside: a file that is not what Save wrote is kept under another name, whole, and the
// warning says what it was and where it is.
func TestLoadPutsAside(t *testing.T) {
	good, err := encode(sample(5, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	edited := func(old, replacement string) []byte {
		data := bytes.Replace(good, []byte(old), []byte(replacement), 1)
		if bytes.Equal(data, good) {
			t.Fatalf("there is no %s in %s", old, good)
		}
		return data
	}
	document := func(s string) []byte { return seal([]byte(s)) }
	tests := map[string]struct {
		file []byte
		want string
	}{
		"empty":                {nil, "is empty"},
		"blank":                {[]byte("\n"), "is empty"},
		"zeros":                {make([]byte, len(good)), "is torn or none of weir's"},
		"first half":           {good[:len(good)/2], "is torn or none of weir's"},
		"zeros at the end":     {append(slices.Clone(good[:len(good)/2]), make([]byte, len(good)/2)...), "is torn or none of weir's"},
		"one byte missing":     {good[:len(good)-2], "is torn or none of weir's"},
		"more at the end":      {append(slices.Clone(good), good...), "is torn or none of weir's"},
		"two mixed":            {edited(`"generation":5`, `"generation":6`), "is torn or was edited: its checksum is another"},
		"checksum missing":     {[]byte(`{"weir_state":1,"document":{"format":1}}`), "is torn or was edited: its checksum is another"},
		"document missing":     {[]byte(`{"weir_state":1,"sha256":""}`), "is torn or was edited: its checksum is another"},
		"YAML":                 {[]byte("listeners: []\n"), "is torn or none of weir's"},
		"other JSON":           {[]byte(`{"version":3}`), `is none of weir's: it has no "weir_state"`},
		"no object":            {[]byte(`[1]`), "is torn or none of weir's"},
		"null":                 {[]byte(`null`), `is none of weir's: it has no "weir_state"`},
		"unknown name":         {edited(`"sha256"`, `"owner":"me","sha256"`), `is not what weir writes: json: unknown field "owner"`},
		"unknown name, inside": {document(`{"format":1,"pipes":{}}`), `is not what weir writes: json: unknown field "pipes"`},
		"another type":         {document(`{"format":1,"routes":[]}`), "is not what weir writes"},
		"null inside":          {document(`null`), "has format 0, which weir never wrote"},
		"huge weight":          {document(`{"format":1,"routes":{"a":{"split":[{"pool":"b","weight":1e999}]}}}`), "is not what weir writes"},
		"negative weight":      {document(`{"format":1,"routes":{"a":{"split":[{"pool":"b","weight":-2}]}}}`), `holds what cannot be: routes["a"]: split: pool "b" has weight -2`},
		"history beyond":       {document(`{"format":1,"generation":1,"history":[{"generation":2}]}`), "holds what cannot be: history[0]: generation 2 is above the document's, 1"},
		"format 0":             {edited(`"weir_state":2`, `"weir_state":0`), "has format 0, which weir never wrote"},
		"newer":                {[]byte(`{"weir_state":3,"crc":7,"parts":[]}`), "was written by a newer weir: its format is 3, this weir knows up to 2"},
		"newer inside":         {document(`{"format":3,"pipes":{}}`), "was written by a newer weir: its format is 3, this weir knows up to 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weir.state.json")
			writeFile(t, path, test.file)
			f, warnings := openFile(t, path)
			wantLoad(t, f, nil)
			aside, err := filepath.Glob(path + ".broken-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("put aside: %q, %v; in the directory: %q", aside, err, names(t, filepath.Dir(path)))
			}
			if _, err := time.Parse("20060102T150405", strings.TrimPrefix(aside[0], path+".broken-")); err != nil {
				t.Error(err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, test.file) {
				t.Errorf("the file put aside is another (%v)", err)
			}
			if len(*warnings) != 1 || !strings.HasPrefix((*warnings)[0], "state.file "+f.path+" "+test.want) || !strings.Contains((*warnings)[0], aside[0]) {
				t.Errorf("warned: %q\nwant %s", *warnings, test.want)
			}
			save(t, f, sample(1, 1, 1))
			wantLoad(t, f, sample(1, 1, 1))
			if len(*warnings) != 1 {
				t.Errorf("warned again: %q", *warnings)
			}
		})
	}
}

// TestLoadFindsEveryFlip: whichever byte of the document changes, it is not loaded.
func TestLoadFindsEveryFlip(t *testing.T) {
	good, err := encode(sample(5, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	for i := bytes.Index(good, []byte(`"document":`)) + len(`"document":`); i < len(good)-2; i++ {
		for _, flip := range []byte{1, 0x20} {
			bad := slices.Clone(good)
			bad[i] ^= flip
			if _, err := decode(bad); err == nil {
				t.Fatalf("byte %d flipped by %#x is accepted: %s", i, flip, bad)
			}
		}
	}
}

func TestPutAsideOverwritesNothing(t *testing.T) {
	f, _ := openFile(t, filepath.Join(t.TempDir(), "s"))
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600))
	base := f.path + ".broken-20260304T040607"
	for _, want := range []string{base, base + "-2", base + "-3"} {
		writeFile(t, f.path, []byte(want))
		got, err := f.putAside(now)
		if err != nil || got != want {
			t.Fatalf("%s, %v; want %s", got, err, want)
		}
	}
	for _, path := range []string{base, base + "-2", base + "-3"} {
		if data, err := os.ReadFile(path); err != nil || string(data) != path {
			t.Errorf("%s holds %s (%v)", path, data, err)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f, warnings := openFile(t, path)
	if d, err := f.Load(); err == nil || !strings.Contains(err.Error(), "it is no regular file") {
		t.Errorf("a directory: %v, %v", d, err)
	}
	if err := f.Save(sample(1, 1, 1)); err == nil {
		t.Error("saved over a directory")
	}
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"s", "s.lock"}) || len(*warnings) > 0 {
		t.Errorf("in the directory: %q; warned: %q", got, *warnings)
	}
	if _, err := OpenFile(path+"/", FileOptions{}); err == nil {
		t.Error("opened again by another spelling")
	}
	_, err := OpenFile(filepath.Join(t.TempDir(), "none", "s"), FileOptions{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestOpenRemovesTemporary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, _ := openFile(t, path)
	save(t, f, sample(1, 1, 1))
	f.Close()
	for _, name := range []string{".tmp", ".tmp2", ".broken-20260304T040607"} {
		writeFile(t, path+name, []byte("half"))
	}
	f, _ = openFile(t, path)
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"s", "s.broken-20260304T040607", "s.lock", "s.tmp2"}) {
		t.Errorf("in the directory: %q", got)
	}
	wantLoad(t, f, sample(1, 1, 1))
}

// TestTemporaryInTheWay: what cannot be removed is not written through.
func TestTemporaryInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, _ := openFile(t, path)
	save(t, f, sample(1, 1, 1))
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(path+".tmp", "in the way"), nil)
	if err := f.Save(sample(2, 1, 1)); err == nil {
		t.Error("saved through a directory")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed (%v)", err)
	}
}

func BenchmarkSave(b *testing.B) {
	d := sample(5000, 1000, MaxHistory)
	f, err := OpenFile(filepath.Join(b.TempDir(), "state"), FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for name, s := range map[string]Store{"file": f, "memory": new(Memory)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := s.Save(d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	info, err := os.Stat(f.path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d KiB", info.Size()>>10)
}
