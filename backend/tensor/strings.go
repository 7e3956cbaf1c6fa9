package tensor

import (
	"encoding/binary"
	"fmt"
)

// DecodeStrings reads n elements of type Bytes from their binary form: each is its length in
// four bytes, little-endian, and then its bytes. raw must hold exactly these.
func DecodeStrings(raw []byte, n int) ([]string, error) {
	if n > len(raw)/4 {
		return nil, fmt.Errorf("%d bytes cannot hold %d BYTES elements", len(raw), n)
	}
	elements := make([]string, n)
	for i := range elements {
		if len(raw) < 4 {
			return nil, fmt.Errorf("the binary data ends in the length of BYTES element %d", i)
		}
		size := binary.LittleEndian.Uint32(raw)
		raw = raw[4:]
		if uint64(size) > uint64(len(raw)) {
			return nil, fmt.Errorf("BYTES element %d says it has %d bytes but only %d are left", i, size, len(raw))
		}
		elements[i] = string(raw[:size])
		raw = raw[size:]
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("%d bytes are left over after %d BYTES elements", len(raw), n)
	}
	return elements, nil
}

// AppendStrings appends the binary form of elements to dst.
func AppendStrings(dst []byte, elements []string) []byte {
	for _, e := range elements {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e)))
		dst = append(dst, e...)
	}
	return dst
}
