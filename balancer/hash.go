package balancer

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"
)

const (
	// ringPoints is how many points the heaviest endpoint has on the ring; others have fewer by weight. An endpoint's
	// part of the subjects is then off by about 1/sqrt(ringPoints).
	ringPoints = 160
	// maxRing bounds the points of a ring.
	maxRing = 1 << 17
	// ringSteps is how many points a request passes at most in search of an endpoint that has room.
	ringSteps = 256
)

// hashRing keeps a subject on its endpoint: consistent hashing (Karger et al., 1997) with bounded loads (Mirrokni et
// al., 2018, arXiv:1608.01350). When an endpoint goes, only its subjects move, and when its weight changes, only in
// proportion. An endpoint that has more than bound times the pool's mean of requests in flight for its weight passes
// new ones on to the next on the ring. Requests without a subject go where the fewest are in flight.
type hashRing struct {
	leastRequest
	points []point // ascending
	bound  float64 // 0: none
	sum    float64 // of all weights
}

type point struct {
	at     uint64
	member int
}

// newHashRing makes a ring for the members; bound is what an endpoint may have in flight, as a multiple of the mean.
func newHashRing(members []member, bound float64) *hashRing {
	h := &hashRing{leastRequest: *newLeastRequest(members), bound: bound}
	largest := 0.0
	for _, m := range members {
		largest = max(largest, m.weight)
		h.sum += m.weight
	}
	most := float64(min(ringPoints, max(1, maxRing/len(members))))
	var buf []byte
	for i, m := range members {
		for k := range max(1, int(math.Round(most*m.weight/largest))) {
			buf = binary.LittleEndian.AppendUint32(append(buf[:0], m.e.Address...), uint32(k))
			h.points = append(h.points, point{at: xxhash.Sum64(buf), member: i})
		}
	}
	slices.SortFunc(h.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(members[a.member].e.Address, members[b.member].e.Address))
	})
	return h
}

// pickFor returns the subject's endpoint, or the next one that has room and was not tried.
func (h *hashRing) pickFor(subject []byte, tried []*Endpoint) *Endpoint {
	at := xxhash.Sum64(subject)
	n := len(h.points)
	i := sort.Search(n, func(i int) bool { return h.points[i].at >= at }) % n
	mean, last := -1.0, -1
	for range min(n, ringSteps) {
		k := h.points[i].member
		if i++; i == n {
			i = 0
		}
		if k == last {
			continue
		}
		last = k
		m := &h.members[k]
		if len(tried) > 0 && slices.Contains(tried, m.e) {
			continue
		}
		inflight := m.e.inflight.Load()
		if h.bound == 0 || inflight == 0 {
			return m.e
		}
		if mean < 0 {
			mean = h.meanFilled()
		}
		if float64(inflight+1) <= math.Ceil(h.bound*mean*m.weight) {
			return m.e
		}
	}
	return h.pick(tried)
}

// meanFilled is how many requests are in flight for a weight of 1, with the one that comes; in a pool of more than
// scanAll of that many endpoints at random.
func (h *hashRing) meanFilled() float64 {
	sum := 0.0
	if len(h.members) <= scanAll {
		for i := range h.members {
			sum += float64(h.members[i].e.inflight.Load())
		}
		return (sum + 1) / h.sum
	}
	weight := 0.0
	for range scanAll {
		m := &h.members[rand.IntN(len(h.members))]
		sum += float64(m.e.inflight.Load())
		weight += m.weight
	}
	return (sum + float64(scanAll)/float64(len(h.members))) / weight
}
