package balancer

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// alias draws from members by weight in constant time (Vose's alias method): every member
// has a cell of equal width, which it shares with at most one other.
type alias struct{ cells []cell }

type cell struct {
	own   uint64 // the part of the cell that is its member's, of 2^64
	other int    // whose the rest is
}

func newAlias(members []member) alias {
	n := len(members)
	largest, sum := 0.0, 0.0
	for _, m := range members {
		largest = max(largest, m.weight)
	}
	for _, m := range members {
		sum += m.weight / largest
	}
	part := make([]float64, n) // of a cell, what is still to be placed
	var small, large []int
	for i, m := range members {
		part[i] = m.weight / largest / sum * float64(n)
		if part[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	a := alias{cells: make([]cell, n)}
	for i := range a.cells {
		a.cells[i] = cell{own: math.MaxUint64, other: i}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.cells[s] = cell{own: fraction(part[s]), other: l}
		if part[l] -= 1 - part[s]; part[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return a
}

// draw returns an index by weight, for a uniform u.
func (a alias) draw(u uint64) int {
	i, within := bits.Mul64(u, uint64(len(a.cells)))
	c := a.cells[i]
	if within < c.own {
		return int(i)
	}
	return c.other
}

// redraws is how often chance is asked for a member that was not tried, before all are looked at.
const redraws = 16

// other draws the index of a member that was not tried; -1 when chance found none.
func (a alias) other(members []member, tried []*Endpoint) int {
	for range redraws {
		if i := a.draw(rand.Uint64()); !slices.Contains(tried, members[i].e) {
			return i
		}
	}
	return -1
}

// fraction returns x, 0 to 1, as parts of 2^64.
func fraction(x float64) uint64 {
	if x >= 1 {
		return math.MaxUint64
	}
	return uint64(math.Ldexp(max(x, 0), 64))
}
