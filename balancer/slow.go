package balancer

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"weir/config"
	"weir/internal/stats"
)

// leastLag is the least difference of medians that latency_factor ejects for. Less is what another zone or a busy
// scheduler adds: where answers take 0.3 ms that makes a factor of three, and clients lose more by a smaller pool.
const leastLag = 2 * time.Millisecond

// pace lets the duration of a success count. What was sent before the endpoint's return does not.
func (e *Endpoint) pace(d time.Duration) {
	if h := e.trust.paces.Load(); h != nil && !e.sentBeforeReturn(d) {
		h.Tally(d)
	}
}

// expectPaces prepares for the durations of successes if c judges by them. It is called with line.judging held.
func (t *trust) expectPaces(c *config.Outlier) {
	switch now := t.paces.Load(); {
	case c == nil || c.LatencyFactor <= 0:
		t.paces.Store(nil)
	case now == nil:
		t.paces.Store(new(stats.Histogram))
	}
}

// forgetPaces begins anew. Who records into the old histogram meanwhile is lost, which does not matter to a median.
func (t *trust) forgetPaces() (before *stats.Histogram) {
	if t.paces.Load() == nil {
		return nil
	}
	return t.paces.Swap(new(stats.Histogram))
}

// takeMedian ends an interval and returns its median, 0 when fewer than c.MinRequests succeeded.
func (t *trust) takeMedian(c *config.Outlier) time.Duration {
	h := t.forgetPaces()
	if h == nil {
		return 0
	}
	s := h.Snapshot()
	if s.Count() < uint64(max(1, c.MinRequests)) {
		return 0
	}
	d, _ := s.Quantile(0.5)
	return d
}

// settle is called when all of a pool's endpoints are in, before any is judged.
func (a *peers) settle() { slices.Sort(a.medians) }

// slow returns why an endpoint that is one of a is too slow by its peers' standards: it is compared with the
// median of the others, which a second slow one moves little, and must lie leastLag beyond it, too.
func (a peers) slow(ev evidence, c *config.Outlier) (why string) {
	if c.LatencyFactor <= 0 || ev.median <= 0 || len(a.medians) < 2 {
		return ""
	}
	at, _ := slices.BinarySearch(a.medians, ev.median)
	others := medianWithout(a.medians, at)
	if float64(ev.median) <= c.LatencyFactor*float64(others) || ev.median-others < leastLag {
		return ""
	}
	return fmt.Sprintf("median %s, others %s", millis(ev.median), millis(others))
}

// medianWithout returns the median of sorted, of which there are two at least, without the one at skip.
func medianWithout(sorted []time.Duration, skip int) time.Duration {
	at := func(i int) time.Duration {
		if i >= skip {
			i++
		}
		return sorted[i]
	}
	n := len(sorted) - 1
	return (at((n-1)/2) + at(n/2)) / 2
}

// millis writes two digits at least.
func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return strconv.FormatFloat(ms, 'g', 2, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
}
