package balancer

import (
	"cmp"
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
// so that replicas that start alike agree; what came after it is in Split.Memory.
//
// Neighbours move together, so that a table is a few runs of buckets. Making one costs as
// much as there are runs, and a first table has one for each variant.
type table struct {
	names  []string // of the columns, ascending, so that the order in the file is no matter
	counts []int    // buckets of each column
	runs   []run    // ascending
	starts []uint16 // where each run starts, for ownerOf
	next   uint64   // the next stamp
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
	return before.moved(names, counts), columns
}

// firstTable gives everything to the first column; the first weights are a move from there.
func firstTable(names []string) *table {
	t := &table{names: names, counts: make([]int, len(names)), starts: []uint16{0}, next: Buckets + 1}
	t.counts[0] = Buckets
	all := run{from: 0, to: Buckets, owner: 0, since: make([]stamps, len(names))}
	all.since[0] = stamps{first: 1, last: Buckets}
	t.runs = []run{all}
	return t
}

// ownerOf returns the column of a bucket.
func (t *table) ownerOf(bucket int) int {
	low, high := 0, len(t.starts) // the bucket's run is in [low, high)
	for high-low > 1 {
		if middle := (low + high) / 2; int(t.starts[middle]) <= bucket {
			low = middle
		} else {
			high = middle
		}
	}
	return t.runs[low].owner
}

// moved returns the table after t, with these columns at these counts. Columns are the same
// when their names are; those that are gone leave their buckets to the others.
func (t *table) moved(names []string, counts []int) *table {
	runs, have := t.renamed(names)
	kept, leaving := surplus(runs, have, counts)
	need := make([]int, len(counts))
	for i := range counts {
		need[i] = max(0, counts[i]-have[i])
	}
	moves := assign(leaving, need, func(r *run) int { return r.lastOwner(need) })
	column := 0
	moves = assign(moves, need, func(*run) int {
		for need[column] == 0 {
			column++
		}
		return column
	})
	out := &table{names: names, counts: counts, runs: kept, next: t.next}
	for _, m := range moves {
		out.runs = append(out.runs, m.stamped(out.next))
		out.next += uint64(m.run.size())
	}
	out.settle()
	return out
}

// settle puts the runs of a table that is being made in order.
func (t *table) settle() {
	slices.SortFunc(t.runs, func(a, b run) int { return cmp.Compare(a.from, b.from) })
	for _, r := range t.runs {
		t.starts = append(t.starts, uint16(r.from))
	}
}

// renamed returns copies of t's runs with other columns, and how many buckets each column
// has: those of the same name keep theirs, new ones have none, and those that are gone leave
// theirs to nobody.
func (t *table) renamed(names []string) (runs []run, have []int) {
	before := make([]int, len(names)) // the column of the same name
	after := make([]int, len(t.names))
	for i := range after {
		after[i] = nobody
	}
	have = make([]int, len(names))
	for i, name := range names {
		before[i] = nobody
		if from, ok := slices.BinarySearch(t.names, name); ok {
			before[i], after[from], have[i] = from, i, t.counts[from]
		}
	}
	runs = make([]run, len(t.runs))
	for k, r := range t.runs {
		runs[k] = run{from: r.from, to: r.to, owner: after[r.owner], since: make([]stamps, len(names))}
		for i, from := range before {
			if from != nobody {
				runs[k].since[i] = r.since[from]
			}
		}
	}
	return runs, have
}

// surplus divides runs into what stays and, in the order of leaving, what moves: all that
// nobody owns, and what columns have above counts, the last they got first.
func surplus(runs []run, have, counts []int) (kept []run, leaving []move) {
	slices.SortFunc(runs, func(a, b run) int {
		return cmp.Or(cmp.Compare(b.got(), a.got()), cmp.Compare(b.from, a.from))
	})
	left := slices.Clone(have)
	for _, r := range runs {
		n := r.size()
		if r.owner != nobody {
			n = min(n, max(0, left[r.owner]-counts[r.owner]))
			left[r.owner] -= n
		}
		first, rest := r.part(n)
		if first.size() > 0 {
			leaving = append(leaving, move{run: first, to: nobody})
		}
		if rest.size() > 0 {
			kept = append(kept, rest)
		}
	}
	return kept, leaving
}

// assign gives those of moves that go to nobody yet to whom choose says, at most what that
// column needs; choose may leave a run to nobody.
func assign(moves []move, need []int, choose func(*run) int) []move {
	var out []move
	for _, m := range moves {
		if m.to != nobody {
			out = append(out, m)
			continue
		}
		for rest := m.run; rest.size() > 0; {
			to, n := choose(&rest), rest.size()
			if to != nobody {
				n = min(n, need[to])
				need[to] -= n
			}
			m.run, rest = rest.part(n)
			out = append(out, move{run: m.run, to: to})
		}
	}
	return out
}
