package bench

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// idx writes a file in the IDX format.
func idx(t *testing.T, name string, head []byte, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	content := append(append([]byte(nil), head...), data...)
	if filepath.Ext(name) == ".gz" {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		content = b.Bytes()
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	head2x2x3 = []byte{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3}
	pixels12  = []byte{0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255}
	head2     = []byte{0, 0, 8, 1, 0, 0, 0, 2}
)

func TestReadImages(t *testing.T) {
	want := []Image{{Pixels: pixels12[:6], Label: 9}, {Pixels: pixels12[6:], Label: 4}}
	for _, suffix := range []string{"", ".gz"} {
		got, err := ReadImages(idx(t, "i"+suffix, head2x2x3, pixels12), idx(t, "l"+suffix, head2, []byte{9, 4}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("images%s (-want +got):\n%s", suffix, diff)
		}
	}
}

func TestReadImagesRefuses(t *testing.T) {
	good := func() string { return idx(t, "l", head2, []byte{9, 4}) }
	huge := []byte{0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}
	tests := []struct{ name, images, labels string }{
		{"no file", filepath.Join(t.TempDir(), "absent"), good()},
		{"short head", idx(t, "i", head2x2x3[:10], nil), good()},
		{"short data", idx(t, "i", head2x2x3, pixels12[:11]), good()},
		{"more data", idx(t, "i", head2x2x3, append(pixels12[:12:12], 0)), good()},
		{"huge", idx(t, "i", huge, nil), good()},
		{"wrong magic", idx(t, "i", append([]byte{0, 0, 13}, head2x2x3[3:]...), pixels12), good()},
		{"swapped", good(), idx(t, "i", head2x2x3, pixels12)},
		{"not gzip", idx(t, "i", head2x2x3, pixels12), rename(t, good(), "l.gz")},
		{"other count", idx(t, "i", head2x2x3, pixels12), idx(t, "l", []byte{0, 0, 8, 1, 0, 0, 0, 3}, []byte{1, 2, 3})},
	}
	for _, tt := range tests {
		if got, err := ReadImages(tt.images, tt.labels); err == nil {
			t.Errorf("%s: read %d images, want an error", tt.name, len(got))
		}
	}
}

func rename(t *testing.T, path, name string) string {
	t.Helper()
	to := filepath.Join(filepath.Dir(path), name)
	if err := os.Rename(path, to); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestLabelsFor(t *testing.T) {
	if got, err := LabelsFor("a/images-idx3/fashion-sample-images-idx3-ubyte.gz"); err != nil || got != "a/images-idx3/fashion-sample-labels-idx1-ubyte.gz" {
		t.Errorf("LabelsFor = %q, %v", got, err)
	}
	if got, err := LabelsFor("pictures.gz"); err == nil {
		t.Errorf("LabelsFor(pictures.gz) = %q, want an error", got)
	}
}
