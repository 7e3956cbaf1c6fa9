package balancer

import "slices"

// stride is weighted round robin for weights that change all the time: gRPC's static stride scheduler (gRFC A58). Turns
// go round over the members, and one of weight w takes its turn in w of strideMax rounds, evenly spread. Other than
// roundRobin it computes no round beforehand.
type stride struct {
	members []member
	turn    *turn
	weights []uint64 // of strideMax, which the heaviest has
}

const (
	strideMax = 1<<16 - 1
	// strideSkips bounds how many turns are passed over on average; beyond it weights are so unequal that chance is
	// cheaper and as even.
	strideSkips = 16
)

func newStride(members []member, t *turn) picker {
	s := &stride{members: members, turn: t}
	largest, sum := 0.0, 0.0
	for _, m := range members {
		largest = max(largest, m.weight)
	}
	for _, m := range members {
		sum += m.weight / largest
		s.weights = append(s.weights, max(1, uint64(m.weight/largest*strideMax)))
	}
	if sum*strideSkips < float64(len(members)) {
		return newRandom(members)
	}
	return s
}

func (s *stride) pick(tried []*Endpoint) *Endpoint {
	n := uint64(len(s.members))
	for range 4 * strideSkips {
		at := s.turn.Add(1) - 1
		i, round := at%n, at/n
		w := s.weights[i]
		if (w*round+i*(strideMax/2))%strideMax < strideMax-w {
			continue
		}
		if e := s.members[i].e; len(tried) == 0 || !slices.Contains(tried, e) {
			return e
		}
	}
	return drawn(s.members, tried)
}
