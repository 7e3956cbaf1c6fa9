package balancer

import (
	"math"
	"slices"
)

// peakEWMA takes the endpoint whose load is least: a peak-sensitive average of its latency, times its requests in
// flight. In a pool of up to lookAll it looks at all endpoints, in a larger one at two, of which the first is drawn by
// weight.
//
// It is Finagle's Peak EWMA with weights, with failures that do not look fast (as in Envoy's proposal, PR 32942), and
// with the latency of a request divided by the requests in flight when it began: for the load multiplies by these, and
// the time in the endpoint's queue would count twice.
type peakEWMA struct{ candidates }

// lookAll is the size of a pool up to which looking at all endpoints costs little: two of four would miss an idle fast
// one in every other request.
const lookAll = 8

func newPeakEWMA(members []member) *peakEWMA { return &peakEWMA{newCandidates(members)} }

func (p *peakEWMA) pick(tried []*Endpoint) *Endpoint {
	if len(p.members) > lookAll {
		if first := p.alias.other(p.members, tried); first >= 0 {
			return p.either(first, tried)
		}
	}
	var room [lookAll]candidate
	c := p.all(room[:0], tried) // of a large pool nearly all were tried
	expectPeak(c)
	return best(c, math.Inf(1), false)
}

// either takes the first or another one.
func (p *peakEWMA) either(first int, tried []*Endpoint) *Endpoint {
	var room [2]candidate
	c := consider(room[:0], &p.members[first], nil)
	if other := another(p.members, first); !slices.Contains(tried, other.e) {
		c = consider(c, other, nil)
	}
	expectPeak(c)
	return best(c, math.Inf(1), true)
}

func expectPeak(c []candidate) {
	now := c[0].m.e.line.now()
	for i := range c {
		x := &c[i]
		x.expect(x.m.e.learned.peakShare(now) * float64(x.inflight+1))
	}
}
