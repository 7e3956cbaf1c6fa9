// Package models holds the models that weir's demonstration and tests serve, and a labelled
// sample of images to ask them about. README.md describes their common contract, how accurate
// each is, and under which licences they come. The program in train makes them.
package models

import (
	"embed"
	"fmt"
	"io/fs"
)

// Pixels is how many pixels an image has: 28 rows of 28.
const Pixels = 28 * 28

// Names of the sample's files, in the IDX format, compressed by gzip.
const (
	SampleImages = "fashion-sample-images-idx3-ubyte.gz"
	SampleLabels = "fashion-sample-labels-idx1-ubyte.gz"
)

//go:embed fashion-v1.onnx fashion-v2.onnx fashion-bad.onnx iris-forest.onnx
//go:embed fashion-sample-images-idx3-ubyte.gz fashion-sample-labels-idx1-ubyte.gz
var files embed.FS

// Files holds the models (fashion-v1.onnx, fashion-v2.onnx, fashion-bad.onnx,
// iris-forest.onnx) and the sample's two files.
func Files() fs.FS { return files }

// Labels names the classes of the fashion models in the order of their numbers, 0 to 9.
func Labels() []string {
	return []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}
}

// LabelledImage is an image and what it shows.
type LabelledImage struct {
	// Pixels row by row from the top left, 0 (background) to 255.
	Pixels []byte
	// Label is an index into Labels.
	Label int
}

// Features is the image as the fashion models want it: 784 numbers from 0 to 1.
func (i LabelledImage) Features() []float32 {
	f := make([]float32, len(i.Pixels))
	for n, p := range i.Pixels {
		f[n] = float32(p) / 255
	}
	return f
}

// Sample returns 500 images that no fashion model was trained on, 50 of each class, in a
// mixed order that is always the same.
func Sample() []LabelledImage {
	sample, err := ReadImages(files, SampleImages, SampleLabels)
	if err != nil {
		panic(fmt.Sprintf("models: the embedded sample is broken: %v", err))
	}
	return sample
}
