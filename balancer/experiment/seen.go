package experiment

import (
	"encoding/binary"
	"math/bits"
)

const (
	// seenBits is the size of a shard's filter: with 200,000 units in all shards, one in ten new ones is taken for one that
	// was seen, and with 60,000 one in two hundred.
	seenBits = 1 << 14
	// seenLeast is the size of the smallest one that is saved.
	seenLeast = 64
)

// seen knows every unit that ever was added, and takes a few others for such (Bloom, 1970). It is how a unit that was
// forgotten, or that comes again after a restart, is not counted as one more.
type seen [seenBits / 64]uint64

// places of a unit are parts of its hash; their low bits are its places in a smaller filter.
func (s *seen) add(unit uint64) (fresh bool) {
	for range 3 {
		at := unit % seenBits
		if s[at/64]&(1<<(at%64)) == 0 {
			s[at/64] |= 1 << (at % 64)
			fresh = true
		}
		unit /= seenBits
	}
	return fresh
}

// used is the part of the bits that are set.
func (s *seen) used() float64 {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return float64(n) / seenBits
}

// folded appends the filter, made smaller to so many bits, a power of two from seenLeast on.
func (s *seen) folded(b []byte, size int) []byte {
	words := make([]uint64, size/64)
	for i, word := range s {
		words[i%len(words)] |= word
	}
	for _, word := range words {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}

// unfold takes what folded has made.
func (s *seen) unfold(b []byte) {
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[i*8%len(b):])
	}
}

// saveSeen returns the filters of all shards, as small as what they have seen allows. Called with no shard's mu held.
func (l *Ledger) saveSeen() []byte {
	size, all := seenLeast, make([]seen, shards)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all[i] = s.seen
		s.mu.Unlock()
		// Folded to half the size, twice the part of the bits is set: a quarter leaves one in sixty taken for another.
		for size < seenBits && all[i].used()*seenBits/float64(size) > 0.25 {
			size *= 2
		}
	}
	var b []byte
	for i := range all {
		b = all[i].folded(b, size)
	}
	return b
}

// restoreSeen takes what saveSeen has made. What is of no such size is left: it costs that units are counted once more.
func (l *Ledger) restoreSeen(b []byte) {
	size := len(b) / shards
	if len(b)%shards != 0 || size < seenLeast/8 || size > seenBits/8 || bits.OnesCount(uint(size)) != 1 {
		return
	}
	for i := range l.shards {
		l.shards[i].seen.unfold(b[i*size : (i+1)*size])
	}
}
