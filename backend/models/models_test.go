package models

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestSample(t *testing.T) {
	sample := Sample()
	perClass := make([]int, len(Labels()))
	for _, i := range sample {
		perClass[i.Label]++
	}
	if diff := cmp.Diff([]int{50, 50, 50, 50, 50, 50, 50, 50, 50, 50}, perClass); diff != "" {
		t.Errorf("images per class (-want +got):\n%s", diff)
	}
	features := sample[0].Features()
	if len(features) != Pixels {
		t.Fatalf("%d features, want %d", len(features), Pixels)
	}
	if low, high := slices.Min(features), slices.Max(features); low != 0 || high < 0.9 || high > 1 {
		t.Errorf("features from %g to %g, want them to fill 0 to 1", low, high)
	}
}

// The three fashion models are one model to a client: they differ in their weights alone.
func TestFashionModels(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		low, high     float64 // of test_accuracy
		size          int
	}{
		{"fashion-v1.onnx", "v1.0.0", 0.82, 0.84, 40 << 10},
		{"fashion-v2.onnx", "v2.0.0", 0.85, 0.87, 220 << 10},
		{"fashion-bad.onnx", "v2.1.0", 0.62, 0.68, 40 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content, err := fs.ReadFile(Files(), tt.name)
			if err != nil {
				t.Fatal(err)
			}
			if len(content) > tt.size {
				t.Errorf("%d bytes, want at most %d", len(content), tt.size)
			}
			m := decodeModel(t, content)
			if diff := cmp.Diff([]port{{"image", elemFloat, []int64{-1, 784}}}, m.inputs); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]port{{"label", elemInt64, []int64{-1}}, {"probabilities", elemFloat, []int64{-1, 10}}}, m.outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			if got := m.metadata["version"]; got != tt.version {
				t.Errorf("version %q, want %q", got, tt.version)
			}
			var labels []string
			if err := json.Unmarshal([]byte(m.metadata["labels"]), &labels); err != nil || !slices.Equal(labels, Labels()) {
				t.Errorf("labels %q (%v), want %q", labels, err, Labels())
			}
			if m.metadata["dataset"] == "" || !strings.HasPrefix(m.metadata["licence"], "MIT") {
				t.Errorf("dataset %q and licence %q, want both told", m.metadata["dataset"], m.metadata["licence"])
			}
			if a := number(t, m.metadata["test_accuracy"]); a < tt.low || a > tt.high {
				t.Errorf("test_accuracy %g, want %g to %g", a, tt.low, tt.high)
			}
			checkSampleAccuracy(t, m)
		})
	}
}

// checkSampleAccuracy runs the committed graph on the committed images.
func checkSampleAccuracy(t *testing.T, m model) {
	t.Helper()
	sample, right := Sample(), 0
	for _, i := range sample {
		label, probabilities := m.run(t, i.Features())
		var sum float64
		for _, p := range probabilities {
			sum += float64(p)
		}
		if math.Abs(sum-1) > 1e-4 {
			t.Fatalf("probabilities %v add up to %g", probabilities, sum)
		}
		if label == i.Label {
			right++
		}
	}
	want, got := number(t, m.metadata["sample_accuracy"]), float64(right)/float64(len(sample))
	if math.Abs(got-want) > 0.004 { // two images whose best classes are all but equal
		t.Errorf("right about %.4f of the sample, the metadata says %.4f", got, want)
	}
	// The sample must stand for the test set: 500 images, three standard deviations.
	whole := number(t, m.metadata["test_accuracy"])
	if margin := 3 * math.Sqrt(whole*(1-whole)/float64(len(sample))); math.Abs(got-whole) > margin {
		t.Errorf("right about %.4f of the sample and %.4f of the test set: more than %.4f apart", got, whole, margin)
	}
}

func TestIrisForest(t *testing.T) {
	content, err := fs.ReadFile(Files(), "iris-forest.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m := decodeModel(t, content)
	if diff := cmp.Diff([]port{{"X", elemFloat, []int64{-1, 4}}}, m.inputs); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	if len(m.outputs) != 2 {
		t.Errorf("outputs %v, want a label and probabilities", m.outputs)
	}
}

func TestReadImagesRefusesBrokenFiles(t *testing.T) {
	var images, labels bytes.Buffer
	if err := WriteImages(&images, &labels, Sample()[:3]); err != nil {
		t.Fatal(err)
	}
	gz := func(b []byte) []byte {
		var buf bytes.Buffer
		if err := writeIDX(&buf, b, len(b)); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for name, tt := range map[string]struct {
		images, labels []byte
		want           string
	}{
		"not gzip":        {[]byte("hello, this is text"), labels.Bytes(), "images: gzip: invalid header"},
		"cut short":       {images.Bytes()[:images.Len()/2], labels.Bytes(), "images: the data is cut short"},
		"labels as image": {labels.Bytes(), labels.Bytes(), "want 00 00 08 03"},
		"too few labels":  {images.Bytes(), gz([]byte{1, 2}), "has 2 labels"},
		"no such class":   {images.Bytes(), gz([]byte{1, 2, 10}), "label 10 of image 2, want 0 to 9"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fstest.MapFS{"images": {Data: tt.images}, "labels": {Data: tt.labels}}
			if _, err := ReadImages(dir, "images", "labels"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestREADMEHasTheMeasuredAccuracies(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fashion-v1.onnx", "fashion-v2.onnx", "fashion-bad.onnx"} {
		content, err := fs.ReadFile(Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		m := decodeModel(t, content).metadata
		row := fmt.Sprintf("| %.2f %% | %.1f %% |", 100*number(t, m["test_accuracy"]), 100*number(t, m["sample_accuracy"]))
		found := false
		for line := range strings.Lines(string(readme)) {
			found = found || strings.Contains(line, name) && strings.Contains(line, m["version"]) && strings.Contains(line, row)
		}
		if !found {
			t.Errorf("README.md has no row of %s with %s and %q", name, m["version"], row)
		}
	}
}
