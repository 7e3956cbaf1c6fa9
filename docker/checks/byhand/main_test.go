package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImages builds every image of weir's own by hand and starts what is in it.
func TestImages(t *testing.T) {
	var out, log strings.Builder
	root := t.TempDir()
	if err := run("../../..", root, "v9.8.7-test", &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for _, want := range []string{"weir ", "weir-bench ", "weir-backend "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it tells nothing of %s: %q", want, &out)
		}
	}
	// The last stage has what the image adds to its base, and nothing else.
	for image, files := range map[string][]string{
		"weir/image":       {"licenses/weir", "weir", "var/lib/weir"},
		"weir-bench/image": {"licenses/weir", "weir-bench"},
		"weir-backend/cpu": {"licenses/weir", "weir-backend", "usr/local/lib/libonnxruntime.so"},
	} {
		for _, file := range files {
			if _, err := os.Stat(filepath.Join(root, image, file)); err != nil {
				t.Errorf("%s: %v", image, err)
			}
		}
		if _, err := os.Stat(filepath.Join(root, image, "src")); err == nil {
			t.Errorf("%s has the sources", image)
		}
	}
}
