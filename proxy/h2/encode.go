package h2

import (
	"hash/maphash"
	"slices"
	"strings"
)

// encoder compresses field lists (RFC 7541). A field gets into the table when it is met for the second time, so that
// what changes with every request (IDs, times, lengths) does not drive out what stays the same, and costs no memory;
// of a name that is met again one field gets there, for the name. Nothing is Huffman coded: what repeats is an index, and the rest is not worth both sides' time.
type encoder struct {
	entries []entry // the newest last
	size    int     // of the entries, as RFC 7541, 4.1 counts it
	max     int

	// The peer has changed the table's size since the last list: the smallest that it asked for.
	resized  bool
	smallest int

	seen   [seenSlots]uint64 // hashes of fields and names that were met lately, and are not in the table
	oldest int
}

func newEncoder() *encoder { return &encoder{max: defaultTableSize} }

type entry struct {
	hash        uint64
	name, value string
}

const (
	seenSlots     = 32
	entryOverhead = 32
	maxIndexed    = defaultTableSize / 8 // bytes of a field that may go into the table
)

var hashSeed = maphash.MakeSeed()

// resize puts a size in force that the peer allows.
func (e *encoder) resize(max int) {
	max = min(max, defaultTableSize)
	if !e.resized {
		e.resized, e.smallest = true, max
	}
	e.smallest = min(e.smallest, max)
	e.max = max
	e.evict(0)
}

// evict makes room for so many bytes.
func (e *encoder) evict(room int) {
	n := 0
	for n < len(e.entries) && e.size+room > e.max {
		e.size -= len(e.entries[n].name) + len(e.entries[n].value) + entryOverhead
		n++
	}
	kept := copy(e.entries, e.entries[n:])
	clear(e.entries[kept:])
	e.entries = e.entries[:kept]
}

// list appends a field list.
func (e *encoder) list(b []byte, fields []Field) []byte {
	if e.resized {
		if e.smallest < e.max {
			// The table was to be smaller in between. Emptied, it is what all decoders expect: Go's takes a second
			// change only then.
			e.size, e.entries = 0, nil
			b = appendInt(b, 0x20, 5, 0)
		}
		b = appendInt(b, 0x20, 5, e.max)
		e.resized = false
	}
	for i := range fields {
		b = e.field(b, &fields[i])
	}
	return b
}

func (e *encoder) field(b []byte, f *Field) []byte {
	name := staticIndex(f.Name)
	for i := name; i > 0 && i < len(static) && static[i].Name == f.Name; i++ {
		if static[i].Value == f.Value && f.Value != "" {
			return appendInt(b, 0x80, 7, i)
		}
	}
	if f.Sensitive {
		return appendLiteral(b, 0x10, 4, name, f)
	}
	nameHash := maphash.String(hashSeed, f.Name)
	hash := nameHash ^ maphash.String(hashSeed, f.Value)<<1
	for i := len(e.entries) - 1; i >= 0; i-- {
		if t := &e.entries[i]; t.hash == hash && t.name == f.Name && t.value == f.Value {
			return appendInt(b, 0x80, 7, e.index(i))
		}
	}
	for i := len(e.entries) - 1; i >= 0 && name == 0; i-- {
		if e.entries[i].name == f.Name {
			name = e.index(i)
		}
	}
	size := len(f.Name) + len(f.Value) + entryOverhead
	worth := e.met(hash)
	if name == 0 {
		worth = e.met(nameHash) || worth
	}
	if !worth || size > min(maxIndexed, e.max) {
		return appendLiteral(b, 0, 4, name, f)
	}
	b = appendLiteral(b, 0x40, 6, name, f)
	e.evict(size)
	e.entries = append(e.entries, entry{hash, strings.Clone(f.Name), strings.Clone(f.Value)})
	e.size += size
	return b
}

// met reports whether something with the hash was met before, and not too long ago.
func (e *encoder) met(hash uint64) bool {
	if slices.Contains(e.seen[:], hash) {
		return true
	}
	e.seen[e.oldest] = hash
	e.oldest = (e.oldest + 1) % seenSlots
	return false
}

// index is how the entry is referred to.
func (e *encoder) index(i int) int { return len(static) + len(e.entries) - 1 - i }

// appendLiteral appends a field whose value is not in the table, and whose name is where name says, or 0.
func appendLiteral(b []byte, pattern byte, bits, name int, f *Field) []byte {
	b = appendInt(b, pattern, bits, name)
	if name == 0 {
		b = append(appendInt(b, 0, 7, len(f.Name)), f.Name...)
	}
	return append(appendInt(b, 0, 7, len(f.Value)), f.Value...)
}

// appendInt appends a number behind a pattern, in a byte's last bits and as many bytes as it needs (RFC 7541, 5.1).
func appendInt(b []byte, pattern byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, pattern|byte(n))
	}
	b = append(b, pattern|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, 0x80|byte(n))
	}
	return append(b, byte(n))
}
