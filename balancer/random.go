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
	return drawn(r.members, tried)
}

// drawn looks at all members and draws one by weight that was not tried.
func drawn(members []member, tried []*Endpoint) *Endpoint {
	var chosen *Endpoint
	sum := 0.0
	for i := range members {
		m := &members[i]
		if slices.Contains(tried, m.e) {
			continue
		}
		if sum += m.weight; chosen == nil || rand.Float64()*sum < m.weight {
			chosen = m.e
		}
	}
	return chosen
}
