package balancer

import (
	"cmp"
	"math"
	"slices"
)

// Buckets is the number of buckets that subjects are hashed into; one is a hundredth of a
// percent of the subjects.
const Buckets = 10_000

// saltEnd separates salt and subject in the hash, so that ("ab", "c") is not ("a", "bc").
const saltEnd = 0x1f

// table assigns buckets to variants. It is never changed.
//
// A change of weights moves as few buckets as it can: a variant that shrinks gives exactly
// what it loses, and one that grows gives nothing. So a ramp is nested: who is with a
// variant at 10 % is at 30 %. What a variant gives is what it got last, and a bucket goes
// to whoever had it last among those that grow. So the way back of a ramp, or of any one
// change, and the way there again, pass the same assignments. For two variants the table
// depends on the weights alone, not on how they came about. For more, the first one does,
// so that replicas that start alike agree.
type table struct {
	names  []string // of the columns, ascending, so that the order in the file is no matter
	counts []int    // buckets of each column
	owner  []uint16 // bucket → column
	// since[column][bucket] is a stamp: when the column got the bucket last, 0 for never. It
	// stays when the bucket goes; the owner's is the greatest of the bucket's.
	since [][]uint32
	next  uint32 // the next stamp
}

// newTable returns the table for v and the variant of each of its columns. It is before
// itself when nothing moves.
func newTable(v []Variant, before *table) (t *table, columns []int) {
	columns = make([]int, len(v))
	for i := range columns {
		columns[i] = i
	}
	slices.SortFunc(columns, func(a, b int) int { return cmp.Compare(v[a].Pool.Name(), v[b].Pool.Name()) })
	names := make([]string, len(v))
	weights := make([]float64, len(v))
	for column, i := range columns {
		names[column], weights[column] = v[i].Pool.Name(), v[i].Weight
	}
	counts := apportion(weights, Buckets)
	if before == nil {
		before = firstTable(names)
	}
	if slices.Equal(before.names, names) && slices.Equal(before.counts, counts) {
		return before, columns
	}
	t = before.renamed(names)
	t.move(counts)
	return t, columns
}

// firstTable gives everything to the first column; the first weights are a move from there.
func firstTable(names []string) *table {
	t := &table{names: names, counts: make([]int, len(names)), owner: make([]uint16, Buckets), next: Buckets + 1}
	for range names {
		t.since = append(t.since, make([]uint32, Buckets))
	}
	for b := range Buckets {
		t.since[0][b] = uint32(b + 1)
	}
	t.counts[0] = Buckets
	return t
}

// nobody owns the buckets of a variant that is gone.
const nobody = math.MaxUint16

// renamed returns a copy of t with other columns: those of the same name keep their
// buckets, new ones have none, and those that are gone leave theirs to nobody.
func (t *table) renamed(names []string) *table {
	out := &table{names: names, counts: make([]int, len(names)), owner: make([]uint16, Buckets), next: t.next}
	column := make([]uint16, len(t.names))
	for i := range column {
		column[i] = nobody
	}
	for i, name := range names {
		from, ok := slices.BinarySearch(t.names, name)
		if !ok {
			out.since = append(out.since, make([]uint32, Buckets))
			continue
		}
		column[from] = uint16(i)
		out.since = append(out.since, slices.Clone(t.since[from]))
	}
	for b, owner := range t.owner {
		out.owner[b] = column[owner]
		if column[owner] != nobody {
			out.counts[column[owner]]++
		}
	}
	return out
}

// move gives every column its count.
func (t *table) move(counts []int) {
	if t.next > math.MaxUint32-Buckets {
		t.forget()
	}
	need := make([]int, len(counts))
	for i := range counts {
		need[i] = max(0, counts[i]-t.counts[i])
	}
	moving := t.surplus(counts)
	to := make([]int, len(moving))
	for k, b := range moving {
		if to[k] = t.lastOwner(b, need); to[k] >= 0 {
			need[to[k]]--
		}
	}
	column := 0
	for k, b := range moving {
		if to[k] < 0 {
			for need[column] == 0 {
				column++
			}
			to[k] = column
			need[column]--
		}
		// Stamped in the order in which they leave, they come back in the reverse order.
		t.owner[b] = uint16(to[k])
		t.since[to[k]][b] = t.next
		t.next++
	}
	t.counts = counts
}

// surplus returns the buckets that nobody owns and those that columns have above counts,
// the last they got first.
func (t *table) surplus(counts []int) []uint16 {
	left := slices.Clone(t.counts)
	var moving []uint16
	for _, b := range slices.Backward(t.byStamp()) {
		owner := t.owner[b]
		if owner == nobody {
			moving = append(moving, b)
		} else if left[owner] > counts[owner] {
			left[owner]--
			moving = append(moving, b)
		}
	}
	return moving
}

// byStamp returns all buckets in the order in which they came to their owners; those that
// nobody owns come first.
func (t *table) byStamp() []uint16 {
	keys := make([]uint64, Buckets) // stamp and bucket in one number sort faster than by a function
	for b, owner := range t.owner {
		keys[b] = uint64(b)
		if owner != nobody {
			keys[b] |= uint64(t.since[owner][b]) << 16
		}
	}
	slices.Sort(keys)
	order := make([]uint16, Buckets)
	for i, key := range keys {
		order[i] = uint16(key)
	}
	return order
}

// lastOwner returns who, of the columns that need more, had bucket b last; -1 for nobody.
func (t *table) lastOwner(b uint16, need []int) int {
	last, when := -1, uint32(0)
	for i := range need {
		if need[i] > 0 && t.since[i][b] > when {
			last, when = i, t.since[i][b]
		}
	}
	return last
}

// forget drops who had what before, and starts the stamps anew in the same order. It is
// needed once in four billion moves.
func (t *table) forget() {
	order := t.byStamp()
	for i := range t.since {
		t.since[i] = make([]uint32, Buckets)
	}
	t.next = 1
	for _, b := range order {
		if owner := t.owner[b]; owner != nobody {
			t.since[owner][b] = t.next
			t.next++
		}
	}
}
