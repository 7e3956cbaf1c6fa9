package balancer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// twoChoices draws one endpoint by weight and another one evenly, and takes the less
// loaded, the first when they are alike. That is nearly as good as looking at all and costs
// the same in a pool of any size.
type twoChoices struct {
	members []member
	alias   alias
}

func newTwoChoices(members []member) *twoChoices {
	return &twoChoices{members: members, alias: newAlias(members)}
}

func (t *twoChoices) pick(tried []*Endpoint) *Endpoint {
	first := t.alias.other(t.members, tried)
	if first < 0 {
		return least(t.members, tried)
	}
	a, b := &t.members[first], another(t.members, first)
	if !slices.Contains(tried, b.e) && b.load() < a.load() {
		return b.e
	}
	return a.e
}

// another draws evenly one of those that are not first.
func another(members []member, first int) *member {
	second, _ := bits.Mul64(rand.Uint64(), uint64(len(members)-1))
	if int(second) >= first {
		second++
	}
	return &members[second]
}
