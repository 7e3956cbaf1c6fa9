package cache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// Key tells requests apart. It is a keyed digest: who sends requests can neither find two with the same key by
// trying at home nor by anything known of SHA-256.
type Key [16]byte

// Keyer makes keys.
type Keyer struct{ secret [32]byte }

// NewKeyer returns a Keyer whose keys are like nobody else's.
func NewKeyer() *Keyer {
	k := new(Keyer)
	_, _ = rand.Read(k.secret[:]) // never fails
	return k
}

// Begin begins the parts of a key at b[:0].
func (k *Keyer) Begin(b []byte) []byte { return append(b[:0], k.secret[:]...) }

// Part appends a part: its length keeps it apart from the next.
func Part[T []byte | string](b []byte, part T) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}

// Body appends a part that is too long to be copied.
func Body(b, body []byte) []byte {
	sum := sha256.Sum256(body)
	return Part(b, sum[:])
}

// Sum ends the parts.
func Sum(b []byte) (key Key) {
	sum := sha256.Sum256(b)
	return Key(sum[:len(key)])
}

// Varied is the key of answers that differ by the fields called names (Vary) of a request with these lines.
// It uses b[:0].
func (k *Keyer) Varied(b []byte, key Key, names, lines []byte) Key {
	b = append(k.Begin(b), key[:]...)
	for len(names) > 0 {
		name, rest, _ := bytes.Cut(names, []byte(","))
		names = rest
		b = Fields(Part(b, name), lines, name)
	}
	return Sum(b)
}

// Fields appends the values of all lines with that name, which is in lower case, as parts, and then what is the
// length of none: so the fields of one name are kept apart from those of the next.
func Fields[T []byte | string](b, lines []byte, name T) []byte {
	for line := range bytes.Lines(lines) {
		if len(line) > len(name) && line[len(name)] == ':' && fold(line[:len(name)], string(name)) {
			b = Part(b, bytes.TrimSpace(line[len(name)+1:]))
		}
	}
	return binary.LittleEndian.AppendUint32(b, math.MaxUint32)
}
