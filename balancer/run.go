package balancer

// run is a range of neighbouring buckets of a table that always moved together.
type run struct {
	from, to int // the buckets [from, to)
	owner    int // a column, or nobody
	// since tells when each column got the buckets last. It stays when they go; the owner's
	// is the greatest.
	since []stamps
}

// nobody owns the buckets of a variant that is gone.
const nobody = -1

// stamps number the buckets of a run in the order in which a column got them: those of its
// first and its last bucket, the others follow one by one. Zeros stand for never. No stamp is
// given twice, so that within a run one column's are all greater than another's.
type stamps struct{ first, last uint64 }

// move is a run on its way to another column; to is nobody while that is open.
type move struct {
	run run
	to  int
}

func (r *run) size() int { return r.to - r.from }

// got returns the owner's greatest stamp, 0 when there is no owner.
func (r *run) got() uint64 {
	if r.owner == nobody {
		return 0
	}
	s := r.since[r.owner]
	return max(s.first, s.last)
}

// leavesUpward reports in which order buckets leave: those the owner got last leave first.
func (r *run) leavesUpward() bool {
	return r.owner != nobody && r.since[r.owner].first > r.since[r.owner].last
}

// part divides the run into the n buckets that leave first and the others.
func (r run) part(n int) (first, rest run) {
	at := r.to - n
	if r.leavesUpward() {
		at = r.from + n
	}
	low, high := r, r
	low.to, high.from = at, at
	if low.size() > 0 && high.size() > 0 {
		low.since, high.since = make([]stamps, len(r.since)), make([]stamps, len(r.since))
		for i, s := range r.since {
			low.since[i], high.since[i] = s.cut(uint64(low.size()))
		}
	}
	if r.leavesUpward() {
		return low, high
	}
	return high, low
}

// cut returns the stamps of the first n buckets and of the others.
func (s stamps) cut(n uint64) (low, high stamps) {
	switch {
	case s.first == 0:
		return s, s
	case s.first < s.last:
		return stamps{s.first, s.first + n - 1}, stamps{s.first + n, s.last}
	default:
		return stamps{s.first, s.first - n + 1}, stamps{s.first - n, s.last}
	}
}

// lastOwner returns who, of the columns that need more, had the run last; nobody when none
// ever had.
func (r *run) lastOwner(need []int) int {
	last, when := nobody, uint64(0)
	for i, s := range r.since {
		if need[i] > 0 && s.first > when {
			last, when = i, s.first
		}
	}
	return last
}

// stamped returns the run as its new owner's. Stamped in the order in which they leave, the
// buckets come back in the reverse order.
func (m *move) stamped(next uint64) run {
	s := stamps{first: next + uint64(m.run.size()) - 1, last: next}
	if m.run.leavesUpward() {
		s.first, s.last = s.last, s.first
	}
	r := m.run
	r.since[m.to], r.owner = s, m.to
	return r
}
