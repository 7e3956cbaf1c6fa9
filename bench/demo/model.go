package demo

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// model is a model file and what it says of itself.
type model struct {
	path     string
	version  string
	accuracy float64 // on the sample of images, 0 to 1
}

// Names of a model's metadata, written by the program that trains it.
const (
	metaVersion  = "version"
	metaAccuracy = "sample_accuracy"
)

func readModel(path string) (model, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return model{}, err
	}
	meta, err := metadata(data)
	if err != nil {
		return model{}, fmt.Errorf("%s: %w", path, err)
	}
	accuracy, err := strconv.ParseFloat(meta[metaAccuracy], 64)
	if err != nil || meta[metaVersion] == "" {
		return model{}, fmt.Errorf("%s: its metadata needs %s and %s, it has %q", path, metaVersion, metaAccuracy, meta)
	}
	return model{path: path, version: meta[metaVersion], accuracy: accuracy}, nil
}

// Fields of ONNX's ModelProto and StringStringEntryProto.
const (
	modelMetadata = 14
	entryKey      = 1
	entryValue    = 2
)

// metadata reads the metadata properties of an ONNX model.
func metadata(onnx []byte) (map[string]string, error) {
	meta := map[string]string{}
	err := fields(onnx, func(number protowire.Number, value []byte) error {
		if number != modelMetadata {
			return nil
		}
		var k, v string
		err := fields(value, func(number protowire.Number, value []byte) error {
			switch number {
			case entryKey:
				k = string(value)
			case entryValue:
				v = string(value)
			}
			return nil
		})
		meta[k] = v
		return err
	})
	return meta, err
}

// fields calls f for every length-delimited field of a protocol buffer.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errors.New("is not an ONNX model")
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return errors.New("is not an ONNX model, or cut short")
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			if err := f(number, value); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}
