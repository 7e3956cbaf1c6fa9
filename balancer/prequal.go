package balancer

import (
	"math/rand/v2"
)

// prequal is the hot-cold lexicographic rule of Prequal (Wydrowski et al., NSDI 2024, arXiv:2312.10172): endpoints with
// more requests in flight than most are hot; of those that are cold the one with the least latency is taken.
//
// weir counts the requests in flight itself, exactly and from the moment an endpoint is chosen, where the paper
// probes; and it has measured the latency of earlier requests that found as many. As the quantile is one of the
// endpoints that are looked at, some are always cold.
type prequal struct{ candidates }

const (
	// looks is the size of a pool up to which a request looks at all endpoints (m of the paper); in a larger one it looks
	// at draws of them, drawn by weight, of whose requests in flight the count is exact.
	looks = 16
	draws = 8
	// hot is the quantile of requests in flight beyond which an endpoint is hot: 2^-0.25 (Q_RIF of the paper).
	hot = 0.84
)

func newPrequal(members []member) *prequal { return &prequal{newCandidates(members)} }

func (p *prequal) pick(tried []*Endpoint) *Endpoint {
	var room [looks]candidate
	c, drawn := room[:0], len(p.members) > looks
	if drawn {
		for range draws {
			c = consider(c, &p.members[p.alias.draw(rand.Uint64())], tried)
		}
	}
	if len(c) == 0 {
		c, drawn = p.all(c, tried), false // beyond room only when chance found none that was not tried
	}
	now := c[0].m.e.line.now()
	limit := hottest(c)
	for i := range c {
		if x := &c[i]; x.filled <= limit {
			x.expect(x.m.e.learned.latencyAt(x.inflight+1, now))
		}
	}
	return best(c, limit, drawn)
}

// hottest is how filled the candidates are at the quantile hot.
func hottest(c []candidate) float64 {
	var room [looks]float64
	sorted := room[:0]
	for i := range c {
		if len(sorted) == looks {
			break // enough of them
		}
		at := len(sorted)
		sorted = append(sorted, 0)
		for ; at > 0 && sorted[at-1] > c[i].filled; at-- {
			sorted[at] = sorted[at-1]
		}
		sorted[at] = c[i].filled
	}
	return sorted[int(hot*float64(len(sorted)-1))]
}
