package balancer

import (
	"math/bits"
	"math/rand/v2"
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
	if len(tried) > 0 {
		return least(t.members, tried)
	}
	first := t.alias.draw(rand.Uint64())
	second, _ := bits.Mul64(rand.Uint64(), uint64(len(t.members)-1))
	if int(second) >= first {
		second++
	}
	a, b := &t.members[first], &t.members[second]
	if b.load() < a.load() {
		return b.e
	}
	return a.e
}
