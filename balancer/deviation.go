package balancer

import (
	"fmt"
	"math"
	"time"

	"weir/config"
)

const (
	// leastSpread is the least standard deviation of success rates that is believed: where peers fail
	// next to nothing, one failure more among thousands of requests is nothing to eject for.
	leastSpread = 0.02
	// spreadPeers is how many others it takes for their spread to say something.
	spreadPeers = 4
)

// peers sums up the success rates of a pool's endpoints that had c.MinRequests in an interval and are not ejected.
type peers struct {
	n            int
	rates        float64 // their sum
	squares      float64 // and that of their squares
	requests, ok float64
	medians      []time.Duration // of those that have one; ascending once settled
}

func takesIntervals(c *config.Outlier) bool {
	return c.FailurePercent > 0 || c.SuccessDeviation > 0 || c.LatencyFactor > 0
}

func (a *peers) add(ev evidence, c *config.Outlier) {
	if a.counts(ev, c) {
		a.include(ev, 1)
	}
	if ev.median > 0 {
		a.medians = append(a.medians, ev.median)
	}
}

func (a *peers) counts(ev evidence, c *config.Outlier) bool {
	return ev.requests > 0 && ev.requests >= int64(c.MinRequests)
}

// include adds an endpoint, or takes it away with a sign of -1.
func (a *peers) include(ev evidence, sign int) {
	k, rate := float64(sign), ev.success()
	a.n += sign
	a.rates += k * rate
	a.squares += k * rate * rate
	a.requests += k * float64(ev.requests)
	a.ok += k * float64(ev.requests-ev.failed)
}

func (ev evidence) success() float64 { return 1 - float64(ev.failed)/float64(ev.requests) }

// deviation returns why an endpoint that is one of a fails too much by its peers' standards.
//
// Envoy compares with the mean and the standard deviation of all, itself among them, and wants five: of n
// endpoints the worst is never more than √(n-1) deviations below that mean, which is 1 of 2 and 1.7 of 4. The
// pools of models are that small, so an endpoint is compared with the others only. From four others on their
// spread is the measure. With fewer it cannot be known, but how far two rates of so many requests lie
// apart by chance can, and it is the least measure in any case, with leastSpread.
func (a peers) deviation(ev evidence, c *config.Outlier) (why string) {
	if c.SuccessDeviation <= 0 || !a.counts(ev, c) || a.n < 2 {
		return ""
	}
	a.include(ev, -1)
	n := float64(a.n)
	mean := a.rates / n
	// A rate of 1 has no spread by chance, so one success and one failure more are supposed.
	rate := (a.ok + 1) / (a.requests + 2)
	chance := math.Sqrt(rate * (1 - rate) * (1/float64(ev.requests) + 1/a.requests))
	spread := max(chance, leastSpread)
	if a.n >= spreadPeers {
		spread = max(spread, math.Sqrt(max(0, a.squares/n-mean*mean)))
	}
	if ev.success() >= mean-c.SuccessDeviation*spread {
		return ""
	}
	return fmt.Sprintf("success rate %.2f of %d requests, mean of the others %.2f", ev.success(), ev.requests, mean)
}
