package balancer

import (
	"math/rand/v2"
	"slices"
)

// Up to scanAll endpoints, least_request looks at all of them and is exact. Beyond, it takes
// the best of sampled ones drawn by weight: fetching hundreds of counters that other cores
// write would cost more than the last bit of balance is worth.
const (
	scanAll = 64
	sampled = 8
)

// leastRequest takes the endpoint with the fewest requests in flight for its weight, in a pool of
// more than scanAll of them the best of sampled ones.
type leastRequest struct {
	members []member
	alias   alias
}

func newLeastRequest(members []member) *leastRequest {
	return &leastRequest{members: members, alias: newAlias(members)}
}

func (l *leastRequest) pick(tried []*Endpoint) *Endpoint {
	first := -1
	if len(l.members) > scanAll {
		first = l.alias.other(l.members, tried)
	}
	if first < 0 {
		return least(l.members, tried)
	}
	best := &l.members[first]
	load := best.load()
	for range sampled - 1 {
		if load == 0 {
			break
		}
		m := &l.members[l.alias.draw(rand.Uint64())]
		if x := m.load(); x < load && !slices.Contains(tried, m.e) {
			best, load = m, x
		}
	}
	return best.e
}

// load is how busy the member would be with one more request: (in flight + 1) / weight.
// An idle one counts 0 whatever its weight, so that idle endpoints are alike and share
// requests by weight, instead of the heaviest taking all of a light load.
func (m *member) load() float64 {
	n := m.e.inflight.Load()
	if n <= 0 {
		return 0
	}
	return float64(n+1) / m.weight
}

// least returns the member with the least load that was not tried; among equals, one drawn
// by weight.
func least(members []member, tried []*Endpoint) *Endpoint {
	var chosen *Endpoint
	var best, sum float64
	for i := range members {
		m := &members[i]
		if len(tried) > 0 && slices.Contains(tried, m.e) {
			continue
		}
		switch x := m.load(); {
		case chosen == nil || x < best:
			chosen, best, sum = m.e, x, m.weight
		case x == best:
			if sum += m.weight; rand.Float64()*sum < m.weight {
				chosen = m.e
			}
		}
	}
	return chosen
}
