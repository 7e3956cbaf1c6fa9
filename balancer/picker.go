package balancer

import (
	"slices"

	"weir/config"
)

// member is an endpoint that may be picked, and its weight in this pool. The weight is a
// copy, because the next configuration may give the same endpoint another one while this
// pool still serves.
type member struct {
	e      *Endpoint
	weight float64 // > 0
}

// picker is a policy over a fixed set of at least two members. It never blocks and never
// allocates. When tried is not empty, it holds at least one member fewer than the set, and
// none of it is picked.
type picker interface {
	pick(tried []*Endpoint) *Endpoint
}

// selection is the usable part of a pool at one moment. It is never changed.
type selection struct {
	members   []member
	panicking bool   // ejected endpoints are among them
	picker    picker // nil with fewer than two members
}

// newSelection builds the policy of c over members. turn is what round robin counts on.
func newSelection(c *config.Pool, members []member, turn *turn) *selection {
	s := &selection{members: members}
	if len(members) < 2 {
		return s
	}
	switch c.Policy {
	case "least_request":
		s.picker = newLeastRequest(members)
	case "two_choices":
		s.picker = newTwoChoices(members)
	case "peak_ewma":
		s.picker = newPeakEWMA(members)
	case "prequal":
		s.picker = newPrequal(members)
	case "utilization":
		s.picker = newStride(members, turn)
	case "hash":
		bound := 0.0
		if c.Hash != nil {
			bound = c.Hash.MaxLoad / 100
		}
		s.picker = newHashRing(members, bound)
	case "random":
		s.picker = newRandom(members)
	default:
		s.picker = newRoundRobin(members, turn)
	}
	return s
}

// pick returns an endpoint by policy, for a subject where the policy goes by one and it is not empty, not one of tried while there is another; nil when
// the selection is empty.
func (s *selection) pick(subject []byte, tried []*Endpoint) *Endpoint {
	switch len(s.members) {
	case 0:
		return nil
	case 1:
		return s.members[0].e
	}
	if len(tried) > 0 && s.exhausted(tried) {
		tried = nil
	}
	if len(subject) > 0 {
		if h, ok := s.picker.(*hashRing); ok {
			return h.pickFor(subject, tried)
		}
	}
	return s.picker.pick(tried)
}

// exhausted reports whether every member was tried.
func (s *selection) exhausted(tried []*Endpoint) bool {
	for i := range s.members {
		if !slices.Contains(tried, s.members[i].e) {
			return false
		}
	}
	return true
}
