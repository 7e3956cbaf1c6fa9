package balancer

import (
	"math/rand/v2"
	"slices"
)

// random draws an endpoint by weight, whatever its load.
type random struct {
	members []member
	alias   alias
}

func newRandom(members []member) *random {
	return &random{members: members, alias: newAlias(members)}
}

func (r *random) pick(tried []*Endpoint) *Endpoint {
	if i := r.alias.other(r.members, tried); i >= 0 {
		return r.members[i].e
	}
	var chosen *Endpoint
	sum := 0.0
	for i := range r.members {
		m := &r.members[i]
		if slices.Contains(tried, m.e) {
			continue
		}
		if sum += m.weight; chosen == nil || rand.Float64()*sum < m.weight {
			chosen = m.e
		}
	}
	return chosen
}
