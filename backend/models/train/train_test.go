package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/backend/models"
)

// make models must give the committed bytes again; here on a hundredth of the work.
func TestTrainingIsDeterministic(t *testing.T) {
	p := plan{hidden: []int{4}, epochs: 1, rate: 0.01, seed: 7}
	encode := func(p plan) []byte { return train(p, models.Sample()).encode("fashion", nil) }
	first := encode(p)
	if !bytes.Equal(first, encode(p)) {
		t.Error("the same plan on the same images gave another model")
	}
	p.seed++
	if bytes.Equal(first, encode(p)) {
		t.Error("another seed gave the same model: the test cannot tell models apart")
	}
}

func TestTrainingLearns(t *testing.T) {
	sample := models.Sample()
	half := len(sample) / 2
	for name, p := range map[string]plan{
		"softmax":      {epochs: 6, rate: 0.01, seed: 1},
		"hidden layer": {hidden: []int{16}, epochs: 6, rate: 0.02, seed: 1},
	} {
		if got := train(p, sample[:half]).accuracy(sample[half:]); got < 0.6 {
			t.Errorf("%s: %.2f of unseen images right after training on %d, want 0.6 or more", name, got, half)
		}
	}
}

// TestRun makes everything from a small data set in the place of the real one.
func TestRun(t *testing.T) {
	data, out := t.TempDir(), t.TempDir()
	for _, set := range []string{"train", "t10k"} {
		var images, labels bytes.Buffer
		if err := models.WriteImages(&images, &labels, models.Sample()[:60]); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(data, set+"-images-idx3-ubyte.gz"), images.Bytes())
		write(t, filepath.Join(data, set+"-labels-idx1-ubyte.gz"), labels.Bytes())
	}
	dir, list := os.DirFS(data), []release{{"fashion-v1", "v1.0.0", plan{images: 50, epochs: 1, rate: 0.01}}}
	if err := run(dir, out, true, list); err == nil {
		t.Error("the check of an empty directory found nothing missing")
	}
	if err := run(dir, out, false, list); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, out, true, list); err != nil {
		t.Errorf("the check of what was just made: %v", err)
	}
	write(t, filepath.Join(out, "fashion-v1.onnx"), []byte("other"))
	if err := run(dir, out, true, list); err == nil || !strings.Contains(err.Error(), "fashion-v1.onnx") {
		t.Errorf("the check of a changed model: %v, want an error that names it", err)
	}
	if err := run(os.DirFS(t.TempDir()), out, false, list); err == nil || !strings.Contains(err.Error(), "dataset-fashion-mnist") {
		t.Errorf("without data: %v, want an error that names the package", err)
	}
}

// Reading and writing again gives the sample's files, so that make models leaves them alone.
func TestSampleIsWrittenAsItWasRead(t *testing.T) {
	var images, labels bytes.Buffer
	if err := models.WriteImages(&images, &labels, models.Sample()); err != nil {
		t.Fatal(err)
	}
	for name, made := range map[string][]byte{models.SampleImages: images.Bytes(), models.SampleLabels: labels.Bytes()} {
		f, err := models.Files().Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !bytes.Equal(unzip(t, f), unzip(t, bytes.NewReader(made))) {
			t.Errorf("%s is not what WriteImages writes", name)
		}
	}
}

func unzip(t *testing.T, r io.Reader) []byte {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
