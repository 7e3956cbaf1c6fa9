package balancer

import (
	"math/rand/v2"
	"slices"
)

// alike is the ratio of two expectations up to which they are no reason to prefer an endpoint: averages are not better
// than that.
const alike = 1.25

// candidate is a member that a policy which looks at latency considers for one request.
type candidate struct {
	m        *member
	inflight int64
	filled   float64 // requests in flight for a weight like the least of the pool
	expected float64 // what a request may expect, as the policy has it; less is better
}

// candidates are the members of such a policy, with weights in proportion to the least.
type candidates struct {
	members []member
	alias   alias
}

func newCandidates(members []member) candidates {
	c := candidates{members: slices.Clone(members), alias: newAlias(members)}
	least := members[0].weight
	for _, m := range members {
		least = min(least, m.weight)
	}
	for i := range c.members {
		c.members[i].weight /= least
	}
	return c
}

// all appends every member that was not tried.
func (c *candidates) all(to []candidate, tried []*Endpoint) []candidate {
	for i := range c.members {
		to = consider(to, &c.members[i], tried)
	}
	return to
}

func consider(to []candidate, m *member, tried []*Endpoint) []candidate {
	if len(tried) > 0 && slices.Contains(tried, m.e) {
		return to
	}
	n := m.e.inflight.Load()
	return append(to, candidate{m: m, inflight: n, filled: float64(n) / m.weight})
}

// expect notes what is expected of an endpoint, 0 when nothing is known: that is worth one request at once, and further
// ones as if it took its time.
func (c *candidate) expect(x float64) {
	if c.expected = x; x == 0 {
		c.expected = assumed * c.filled
	}
}

// best returns the candidate of which the least is expected, of those that are filled up to limit: among alike
// ones that which is least filled, and among these one drawn by weight, or the first where they were drawn so already.
// So weights decide where latency does not; to divide by them what is expected would send all to the heaviest of
// endpoints that serve many requests at one time, whose latency does not grow with their load.
func best(c []candidate, limit float64, drawn bool) *Endpoint {
	least := -1.0
	for i := range c {
		if c[i].filled <= limit && (least < 0 || c[i].expected < least) {
			least = c[i].expected
		}
	}
	var chosen *candidate
	sum := 0.0
	for i := range c {
		x := &c[i]
		switch {
		case x.filled > limit || x.expected > least*alike:
		case chosen == nil || x.filled < chosen.filled:
			chosen, sum = x, x.m.weight
		case x.filled == chosen.filled && !drawn:
			if sum += x.m.weight; rand.Float64()*sum < x.m.weight {
				chosen = x
			}
		}
	}
	return chosen.m.e
}
