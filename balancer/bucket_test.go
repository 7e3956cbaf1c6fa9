package balancer

import (
	"math"
	"slices"
)

// bucketTable is what table means, bucket by bucket: the oracle of its tests.
type bucketTable struct {
	names  []string
	counts []int
	owner  []uint16   // bucket → column
	since  [][]uint32 // column → bucket → when the column got the bucket last, 0 for never
	next   uint32
}

// unowned are the buckets of a variant that is gone.
const unowned = math.MaxUint16

// after returns the table after t, which may be nil.
func (t *bucketTable) after(names []string, counts []int) *bucketTable {
	if t == nil {
		t = firstBuckets(names)
	}
	if slices.Equal(t.names, names) && slices.Equal(t.counts, counts) {
		return t
	}
	out := t.renamed(names)
	out.move(counts)
	return out
}

// firstBuckets gives everything to the first column; the first weights are a move from there.
func firstBuckets(names []string) *bucketTable {
	t := &bucketTable{names: names, counts: make([]int, len(names)), owner: make([]uint16, Buckets), next: Buckets + 1}
	for range names {
		t.since = append(t.since, make([]uint32, Buckets))
	}
	for b := range Buckets {
		t.since[0][b] = uint32(b + 1)
	}
	t.counts[0] = Buckets
	return t
}

// renamed returns a copy of t with other columns: those of the same name keep their
// buckets, new ones have none, and those that are gone leave theirs to unowned.
func (t *bucketTable) renamed(names []string) *bucketTable {
	out := &bucketTable{names: names, counts: make([]int, len(names)), owner: make([]uint16, Buckets), next: t.next}
	column := make([]uint16, len(t.names))
	for i := range column {
		column[i] = unowned
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
		if column[owner] != unowned {
			out.counts[column[owner]]++
		}
	}
	return out
}

// move gives every column its count.
func (t *bucketTable) move(counts []int) {
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

// surplus returns the buckets that unowned owns and those that columns have above counts,
// the last they got first.
func (t *bucketTable) surplus(counts []int) []uint16 {
	left := slices.Clone(t.counts)
	var moving []uint16
	for _, b := range slices.Backward(t.byStamp()) {
		owner := t.owner[b]
		if owner == unowned {
			moving = append(moving, b)
		} else if left[owner] > counts[owner] {
			left[owner]--
			moving = append(moving, b)
		}
	}
	return moving
}

// byStamp returns all buckets in the order in which they came to their owners; those that
// unowned owns come first.
func (t *bucketTable) byStamp() []uint16 {
	keys := make([]uint64, Buckets) // stamp and bucket in one number sort faster than by a function
	for b, owner := range t.owner {
		keys[b] = uint64(b)
		if owner != unowned {
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

// lastOwner returns who, of the columns that need more, had bucket b last; -1 for unowned.
func (t *bucketTable) lastOwner(b uint16, need []int) int {
	last, when := -1, uint32(0)
	for i := range need {
		if need[i] > 0 && t.since[i][b] > when {
			last, when = i, t.since[i][b]
		}
	}
	return last
}
