package models

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
)

// IDX is the format of the MNIST family of data sets: two zero bytes, the type of the
// elements (8: unsigned byte), the number of dimensions, each dimension's size as a big-endian
// 32-bit number, then the elements in row-major order.
const idxUnsignedByte = 8

// maxElements bounds what a file's header can make ReadImages allocate.
const maxElements = 1 << 30

// ReadImages reads images and their labels from two IDX files compressed by gzip.
func ReadImages(dir fs.FS, images, labels string) ([]LabelledImage, error) {
	sizes, pixels, err := readIDX(dir, images, 3)
	if err != nil {
		return nil, err
	}
	if sizes[1]*sizes[2] != Pixels {
		return nil, fmt.Errorf("%s: images of %d×%d pixels, want 28×28", images, sizes[1], sizes[2])
	}
	_, classes, err := readIDX(dir, labels, 1)
	if err != nil {
		return nil, err
	}
	if len(classes) != sizes[0] {
		return nil, fmt.Errorf("%s has %d labels, %s has %d images: want as many", labels, len(classes), images, sizes[0])
	}
	list := make([]LabelledImage, len(classes))
	for i, class := range classes {
		if int(class) >= len(Labels()) {
			return nil, fmt.Errorf("%s: label %d of image %d, want 0 to %d", labels, class, i, len(Labels())-1)
		}
		list[i] = LabelledImage{Pixels: pixels[i*Pixels : (i+1)*Pixels : (i+1)*Pixels], Label: int(class)}
	}
	return list, nil
}

func readIDX(dir fs.FS, name string, dimensions int) (sizes []int, data []byte, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	var magic [4]byte
	if _, err := io.ReadFull(z, magic[:]); err != nil {
		return nil, nil, fmt.Errorf("%s: the head is cut short: %w", name, err)
	}
	if want := [4]byte{0, 0, idxUnsignedByte, byte(dimensions)}; magic != want {
		return nil, nil, fmt.Errorf("%s: begins with % x, want % x (IDX, bytes, %d dimensions)", name, magic, want, dimensions)
	}
	head := make([]byte, 4*dimensions)
	if _, err := io.ReadFull(z, head); err != nil {
		return nil, nil, fmt.Errorf("%s: the head is cut short: %w", name, err)
	}
	total := 1
	for i := range dimensions {
		size := int(binary.BigEndian.Uint32(head[4*i:]))
		if total *= size; size > maxElements || total > maxElements {
			return nil, nil, fmt.Errorf("%s: more than %d elements", name, maxElements)
		}
		sizes = append(sizes, size)
	}
	data = make([]byte, total)
	if _, err := io.ReadFull(z, data); err != nil {
		return nil, nil, fmt.Errorf("%s: the data is cut short: %w", name, err)
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, nil, fmt.Errorf("%s: more data than the %d elements it announces (%v)", name, total, err)
	}
	return sizes, data, nil
}

// WriteImages writes what ReadImages reads.
func WriteImages(images, labels io.Writer, list []LabelledImage) error {
	pixels, classes := make([]byte, 0, len(list)*Pixels), make([]byte, 0, len(list))
	for _, i := range list {
		pixels, classes = append(pixels, i.Pixels...), append(classes, byte(i.Label))
	}
	if err := writeIDX(images, pixels, len(list), 28, 28); err != nil {
		return err
	}
	return writeIDX(labels, classes, len(list))
}

func writeIDX(w io.Writer, data []byte, sizes ...int) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	head := []byte{0, 0, idxUnsignedByte, byte(len(sizes))}
	for _, size := range sizes {
		head = binary.BigEndian.AppendUint32(head, uint32(size))
	}
	if _, err := z.Write(append(head, data...)); err != nil {
		return err
	}
	return z.Close()
}
