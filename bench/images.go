package bench

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Image is a labelled grey image.
type Image struct {
	Pixels []byte // row by row from the top left, 0 to 255
	Label  int
}

// LabelsFor returns the name that the labels of an images file have by convention:
// "sample-images-idx3-ubyte.gz" goes with "sample-labels-idx1-ubyte.gz".
func LabelsFor(images string) (string, error) {
	i := strings.LastIndex(images, "images-idx3")
	if i < 0 {
		return "", fmt.Errorf("images %s: the name holds no \"images-idx3\" to find the labels by; name their file too", images)
	}
	return images[:i] + "labels-idx1" + images[i+len("images-idx3"):], nil
}

// ReadImages reads images and their labels from two files in the IDX format of the MNIST family
// of data sets: two zero bytes, the type of the elements (8: unsigned byte), the number of
// dimensions, each dimension's size as a big-endian 32-bit number, then the elements in row-major
// order. Files whose name ends in .gz are compressed by gzip.
func ReadImages(images, labels string) ([]Image, error) {
	sizes, pixels, err := readIDX(images, 3)
	if err != nil {
		return nil, err
	}
	_, classes, err := readIDX(labels, 1)
	if err != nil {
		return nil, err
	}
	if len(classes) != sizes[0] || len(classes) == 0 {
		return nil, fmt.Errorf("%s has %d labels, %s has %d images: want as many, and at least one", labels, len(classes), images, sizes[0])
	}
	list, each := make([]Image, len(classes)), sizes[1]*sizes[2]
	for i, class := range classes {
		list[i] = Image{Pixels: pixels[i*each : (i+1)*each], Label: int(class)}
	}
	return list, nil
}

const (
	idxUnsignedByte = 8
	// maxIDX bounds what a file's head can make readIDX allocate, in bytes.
	maxIDX = 1 << 30
)

func readIDX(name string, dimensions int) (sizes []int, data []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r := io.Reader(bufio.NewReader(f))
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	sizes, data, err = decodeIDX(r, dimensions)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return sizes, data, nil
}

func decodeIDX(r io.Reader, dimensions int) (sizes []int, data []byte, err error) {
	head := make([]byte, 4+4*dimensions)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, nil, fmt.Errorf("the head is cut short: %w", err)
	}
	if head[0] != 0 || head[1] != 0 || head[2] != idxUnsignedByte || int(head[3]) != dimensions {
		return nil, nil, fmt.Errorf("begins with % x, want 00 00 08 %02x (IDX, bytes, %d dimensions)", head[:4], dimensions, dimensions)
	}
	total := 1
	for i := range dimensions {
		size := int(binary.BigEndian.Uint32(head[4+4*i:]))
		if size == 0 || size > maxIDX/total {
			return nil, nil, fmt.Errorf("dimension %d has size %d: want at least 1, and %d elements at most", i, size, maxIDX)
		}
		total *= size
		sizes = append(sizes, size)
	}
	data = make([]byte, total)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, nil, fmt.Errorf("the data is cut short: %w", err)
	}
	switch n, err := r.Read(make([]byte, 1)); {
	case n > 0:
		return nil, nil, fmt.Errorf("more data than the %d elements it announces", total)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, nil, err
	}
	return sizes, data, nil
}
