package balancer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A memory is, in base64, a version, a table as encode writes it, and a sum over both and the
// salt. Only an order of stamps is kept, not the stamps: no later move asks for more.
const (
	memoryVersion = 1
	memorySum     = 4 // bytes
)

// Memory returns the affinity table as a short text for NewSplitFrom, "" when it depends on
// the weights alone: when NewSplit without prev makes one with the same owners now and the same
// moves later. It is made at the first call and kept.
//
// Its size follows the history: about 100 bytes for three variants and a ramp of six steps, 15 kB
// after 1,000 random changes of five variants, and never more than 8 bytes for each bucket
// and a few for each order in which variants can follow each other.
func (s *Split) Memory() string {
	s.remember.Do(func() {
		if s.table == nil {
			return
		}
		now := s.table.encode()
		if fresh, _ := newTable(s.variants, nil); bytes.Equal(now, fresh.encode()) {
			return
		}
		b := append([]byte{memoryVersion}, now...)
		s.memory = base64.RawURLEncoding.EncodeToString(binary.LittleEndian.AppendUint32(b, s.sum(b)))
	})
	return s.memory
}

// NewSplitFrom builds the split of v as it was when a split of this salt and the same variants
// returned this memory: every subject is where it was, and later changes move the subjects
// that they would have moved then. If the weights are others, it is the split that NewSplit makes
// from the remembered one. A memory of "" holds no weights: v must have those of then. An error says
// why the memory does not fit; NewSplit builds without.
func NewSplitFrom(salt string, v []Variant, memory string) (*Split, error) {
	if memory == "" {
		return NewSplit(salt, v, nil), nil
	}
	s := newSplit(salt, v)
	if !s.sticky() {
		return nil, errors.New("the affinity memory is of a split with affinity, and this one has none")
	}
	before, err := s.recall(memory)
	if err != nil {
		return nil, fmt.Errorf("the affinity memory %w", err)
	}
	s.table, s.columns = newTable(v, before)
	return s, nil
}

func (s *Split) recall(memory string) (*table, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(memory)
	if err != nil || len(b) < 1+memorySum {
		return nil, errors.New("is damaged: it is not the text that was written")
	}
	if b[0] != memoryVersion {
		return nil, fmt.Errorf("is of version %d, this weir reads version %d", b[0], memoryVersion)
	}
	b, sum := b[:len(b)-memorySum], binary.LittleEndian.Uint32(b[len(b)-memorySum:])
	if sum != s.sum(b) {
		return nil, errors.New("is damaged, or of another route")
	}
	var names []string
	for _, v := range s.variants {
		names = append(names, v.Pool.Name())
	}
	slices.Sort(names)
	return decodeTable(b[1:], names)
}

// sum makes a memory of another salt, whose buckets hold other subjects, as good as a damaged one.
func (s *Split) sum(b []byte) uint32 {
	h := s.hash
	_, _ = h.Write(b)
	return uint32(h.Sum64())
}

// encode returns what decides over the table's owners and later moves: its columns, and
// its spans in the order in which their owners got them, each as
//
//	the way from the end of the run before to its start, signed
//	its size, doubled, plus 1 if it leaves upward
//	its past, by number; one that did not occur yet follows
//
// Runs that behave as one are one span, so that tables that behave alike are the same bytes.
func (t *table) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(t.names)))
	for _, name := range t.names {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	known := map[string]uint64{}
	end := 0
	for _, s := range t.spans() {
		b = binary.AppendVarint(b, int64(s.from-end))
		size := uint64(s.to-s.from) << 1
		if s.upward {
			size |= 1
		}
		b = binary.AppendUvarint(b, size)
		number, ok := known[s.past]
		if !ok {
			number = uint64(len(known))
			known[s.past] = number
		}
		b = binary.AppendUvarint(b, number)
		if !ok {
			b = append(b, s.past...)
		}
		end = s.to
	}
	return b
}

// span is a range of buckets with one past, which leave one after the other.
type span struct {
	from, to int
	upward   bool // false also for one bucket alone
	past     string
}

// spans returns the runs in the order in which their owners got them, as few spans.
func (t *table) spans() []span {
	runs := slices.Clone(t.runs)
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.got(), b.got()) })
	var out []span
	for _, r := range runs {
		s := span{from: r.from, to: r.to, upward: r.leavesUpward(), past: r.past()}
		if len(out) == 0 || !out[len(out)-1].join(s) {
			out = append(out, s)
		}
	}
	return out
}

// join takes next, which the owner got right after s, into s if they are neighbours and leave in
// the same direction.
func (s *span) join(next span) bool {
	alone, nextAlone := s.to-s.from == 1, next.to-next.from == 1
	switch {
	case s.past != next.past:
		return false
	case s.to == next.from && (alone || !s.upward) && (nextAlone || !next.upward):
		s.to, s.upward = next.to, false
		return true
	case s.from == next.to && (alone || s.upward) && (nextAlone || next.upward):
		s.from, s.upward = next.from, true
		return true
	}
	return false
}

// past encodes who had the run: how many columns, the owner first, and then the others from the
// one that had it last. Of the others' stamps, only this order ever matters: when the run
// returns to one of them, it gets new ones.
func (r *run) past() string {
	var columns []int
	for i, s := range r.since {
		if s.first != 0 {
			columns = append(columns, i)
		}
	}
	slices.SortFunc(columns, func(a, b int) int { return cmp.Compare(r.since[b].first, r.since[a].first) })
	b := binary.AppendUvarint(nil, uint64(len(columns)))
	for _, i := range columns {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return string(b)
}

// errCut is what a reader finds at the end of a memory that should have gone on.
var errCut = errors.New("is damaged: it ends too early, or holds a number that is none")

// reader takes numbers from a memory. After the first that is missing, all are 0.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) unsigned() uint64 {
	x, n := binary.Uvarint(r.rest)
	return taken(r, x, n)
}

func (r *reader) signed() int64 {
	x, n := binary.Varint(r.rest)
	return taken(r, x, n)
}

func taken[T uint64 | int64](r *reader, x T, n int) T {
	if n <= 0 {
		r.rest, r.broken = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return x
}

func (r *reader) text() string {
	n := r.unsigned()
	if n > uint64(len(r.rest)) {
		r.rest, r.broken = nil, true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// decodeTable returns the table that encode made b of, if it has these columns, ascending. Its
// work and its size are bounded whatever b is.
func decodeTable(b []byte, names []string) (*table, error) {
	in := &reader{rest: b}
	if err := in.columns(names); err != nil {
		return nil, err
	}
	t := &table{names: names, counts: make([]int, len(names)), next: uint64(len(names))*Buckets + 1}
	var pasts [][]int
	for end, total := int64(0), 0; total < Buckets; {
		from, size, number := end+in.signed(), in.unsigned(), in.unsigned()
		if number == uint64(len(pasts)) && !in.broken {
			past, err := in.past(len(names))
			if err != nil {
				return nil, err
			}
			pasts = append(pasts, past)
		}
		upward := size&1 != 0
		size >>= 1
		switch {
		case in.broken:
			return nil, errCut
		case number >= uint64(len(pasts)):
			return nil, fmt.Errorf("is damaged: a run has past %d of %d", number, len(pasts))
		case from < 0 || from >= Buckets || size == 0 || size > uint64(Buckets-from):
			return nil, fmt.Errorf("is damaged: a run of %d buckets from %d, of %d", size, from, Buckets)
		}
		r := remembered(int(from), int(size), upward, pasts[number], t)
		t.runs = append(t.runs, r)
		t.counts[r.owner] += r.size()
		total += r.size()
		end = int64(r.to)
	}
	if len(in.rest) > 0 {
		return nil, fmt.Errorf("is damaged: %d bytes follow the last bucket", len(in.rest))
	}
	t.settle()
	end := 0
	for _, r := range t.runs {
		if r.from != end {
			return nil, fmt.Errorf("is damaged: runs overlap before bucket %d", max(r.from, end))
		}
		end = r.to
	}
	return t, nil
}

// columns reads the names of the columns, which must be these.
func (r *reader) columns(names []string) error {
	n := r.unsigned()
	if n > uint64(len(r.rest)) {
		return errCut
	}
	var got []string
	for range n {
		got = append(got, r.text())
	}
	if r.broken {
		return errCut
	}
	if !slices.Equal(got, names) {
		return fmt.Errorf("is of the variants %q, this split has %q", got, names)
	}
	return nil
}

// past reads what run.past wrote, for a table of n columns.
func (r *reader) past(n int) ([]int, error) {
	length := r.unsigned()
	if !r.broken && (length == 0 || length > uint64(n)) {
		return nil, fmt.Errorf("is damaged: %d of %d variants had a run", length, n)
	}
	var out []int
	for range length {
		column := r.unsigned()
		if column >= uint64(n) || slices.Contains(out, int(column)) {
			return nil, errors.New("is damaged: a run was with a variant that there is not, or with one twice")
		}
		out = append(out, int(column))
	}
	return out, nil
}

// remembered returns a run of t with new stamps in the old order: the owner's are the next of the
// table's, those of the others below all owners'.
func remembered(from, size int, upward bool, past []int, t *table) run {
	r := run{from: from, to: from + size, owner: past[0], since: make([]stamps, len(t.names))}
	for i, column := range past[1:] {
		oldest := uint64(len(past)-2-i)*Buckets + 1
		r.since[column] = stamps{first: oldest, last: oldest + uint64(size) - 1}
	}
	s := stamps{first: t.next, last: t.next + uint64(size) - 1}
	if upward {
		s.first, s.last = s.last, s.first
	}
	r.since[r.owner] = s
	t.next += uint64(size)
	return r
}
