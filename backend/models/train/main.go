// Train makes the models of backend/models again: it trains them on Fashion-MNIST and writes
// them as ONNX, together with the labelled sample of test images.
//
//	go run ./backend/models/train            # writes backend/models
//	go run ./backend/models/train -check     # writes nothing, fails if anything differs
//
// It takes about a minute. The data set is Debian's package dataset-fashion-mnist. The same
// version of Go on the same architecture gives the same bytes.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"weir/backend/models"
)

// perClass is how many test images of each class the sample holds.
const perClass = 50

// release is one model to make.
type release struct {
	name, version string
	plan          plan
}

func releases() []release {
	return []release{
		{"fashion-v1", "v1.0.0", plan{epochs: 1, rate: 0.005, seed: 1}},
		{"fashion-v2", "v2.0.0", plan{hidden: []int{64}, epochs: 2, rate: 0.01, seed: 2}},
		{"fashion-bad", "v2.1.0", plan{images: 500, epochs: 1, rate: 0.008, seed: 3}},
	}
}

func main() {
	data := flag.String("data", "/usr/share/datasets/fashion-mnist", "`directory` of the data set's four .gz files")
	out := flag.String("out", "backend/models", "`directory` to write to")
	check := flag.Bool("check", false, "write nothing; compare with the files in -out")
	flag.Parse()
	if err := run(os.DirFS(*data), *out, *check, releases()); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(data fs.FS, out string, check bool, list []release) error {
	training, err := models.ReadImages(data, "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
	if err != nil {
		return fmt.Errorf("%w; the data set is Debian's package dataset-fashion-mnist, -data names another place", err)
	}
	test, err := models.ReadImages(data, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
	if err != nil {
		return err
	}
	sample := pick(test)
	var images, labels bytes.Buffer
	if err := models.WriteImages(&images, &labels, sample); err != nil {
		return err
	}
	made := map[string][]byte{models.SampleImages: images.Bytes(), models.SampleLabels: labels.Bytes()}
	for _, r := range list {
		net := train(r.plan, training)
		accuracy, ofSample := net.accuracy(test), net.accuracy(sample)
		fmt.Printf("%-12s %s  %.2f %% of %d test images, %.1f %% of the sample\n",
			r.name, r.version, 100*accuracy, len(test), 100*ofSample)
		made[r.name+".onnx"] = net.encode("fashion", r.metadata(accuracy, ofSample, len(training)))
	}
	for name, content := range made {
		if err := keep(filepath.Join(out, name), content, check); err != nil {
			return err
		}
	}
	return nil
}

// keep writes a file, or, for a check, compares it with the one that is there.
func keep(path string, content []byte, check bool) error {
	if !check {
		return os.WriteFile(path, content, 0o644)
	}
	there, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(there, content) {
		err = fmt.Errorf("%s is not what training makes: was it made by another version of Go? make models writes it anew", path)
	}
	return err
}

// pick takes every nth image of each class, spread over the whole test set.
func pick(test []models.LabelledImage) []models.LabelledImage {
	var sample []models.LabelledImage
	seen := make([]int, len(models.Labels()))
	every := max(len(test)/len(seen)/perClass, 1)
	for _, i := range test {
		if seen[i.Label]%every == 0 {
			sample = append(sample, i)
		}
		seen[i.Label]++
	}
	return sample
}

func (r release) metadata(accuracy, ofSample float64, trainingSize int) []property {
	labels, err := json.Marshal(models.Labels())
	if err != nil {
		panic(err) // strings always encode
	}
	if r.plan.images > 0 {
		trainingSize = r.plan.images
	}
	return []property{
		{"version", r.version},
		{"test_accuracy", strconv.FormatFloat(accuracy, 'f', 4, 64)},
		{"sample_accuracy", strconv.FormatFloat(ofSample, 'f', 4, 64)},
		{"labels", string(labels)},
		{"dataset", fmt.Sprintf("Fashion-MNIST, trained on %d images", trainingSize)},
		{"input", "28x28 grey pixels from 0 (background) to 1, row by row"},
		{"licence", "MIT (data set: Copyright 2017 Zalando SE)"},
	}
}
