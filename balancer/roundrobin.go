package balancer

import (
	"math"
	"slices"
	"sync/atomic"
)

// maxSequence bounds the memory of a round-robin sequence (32-bit entries), sequenceWork the
// time to compute one (about 2 ms). Weights that need a longer sequence to be exact are
// rounded to it; each endpoint keeps at least one place.
const (
	maxSequence  = 1 << 14
	sequenceWork = 1 << 21
)

// turn counts the picks of a pool, over all its pickers and across reloads, so that a
// change of the set does not start again at the first endpoint.
type turn struct{ atomic.Uint64 }

// roundRobin is smooth weighted round robin: each endpoint gets its share of every round,
// spread over the round as evenly as possible (5, 1, 1 is a a b a c a a). The round is
// computed once; a pick is one atomic addition.
type roundRobin struct {
	turn     *turn
	sequence []*Endpoint
}

func newRoundRobin(members []member, t *turn) *roundRobin {
	r := &roundRobin{turn: t}
	for _, i := range smoothSequence(places(members)) {
		r.sequence = append(r.sequence, members[i].e)
	}
	return r
}

// pick takes the endpoint whose turn it is, or the next in the sequence that was not tried.
func (r *roundRobin) pick(tried []*Endpoint) *Endpoint {
	n := uint64(len(r.sequence))
	at := (r.turn.Add(1) - 1) % n
	if len(tried) == 0 {
		return r.sequence[at]
	}
	for range n {
		if e := r.sequence[at]; !slices.Contains(tried, e) {
			return e
		}
		if at++; at == n {
			at = 0
		}
	}
	return r.sequence[at]
}

// places returns how often each member stands in the sequence: the weights as the smallest
// whole numbers in the same ratio, where they have one within the bounds.
func places(members []member) []int {
	weights := make([]float64, len(members))
	for i, m := range members {
		weights[i] = m.weight
	}
	longest := max(len(members), min(maxSequence, sequenceWork/len(members)))
	if whole := wholeRatio(weights, longest); whole != nil {
		return whole
	}
	return apportion(weights, longest)
}

// wholeRatio returns whole numbers in the ratio of weights whose sum is at most longest,
// nil when there are none for weights of up to four decimals.
func wholeRatio(weights []float64, longest int) []int {
	out := make([]int, len(weights))
	for scale := 1.0; scale <= 1e4; scale *= 10 {
		divisor, exact := 0, true
		for i, w := range weights {
			x := math.Round(w * scale)
			if math.Abs(w*scale-x) > 1e-9*x || x > math.MaxInt32 {
				exact = false
				break
			}
			out[i] = int(x)
			divisor = gcd(divisor, out[i])
		}
		if !exact {
			continue
		}
		sum := 0
		for i := range out {
			out[i] /= divisor
			sum += out[i]
		}
		if sum > longest {
			return nil
		}
		return out
	}
	return nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// smoothSequence returns one round in which i stands places[i] times. It is nginx's
// algorithm: everyone gains its weight, the richest is taken and pays the sum.
func smoothSequence(places []int) []int {
	sum := 0
	for _, n := range places {
		sum += n
	}
	round := make([]int, 0, sum)
	if sum == len(places) { // all alike
		for i := range places {
			round = append(round, i)
		}
		return round
	}
	credit := make([]int, len(places))
	for range sum {
		best := 0
		for i, n := range places {
			credit[i] += n
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= sum
		round = append(round, best)
	}
	return round
}
