package balancer

import "time"

// A weight grows in tenths, so that the selection is rebuilt nine times and not all the time.
// It begins with one: an endpoint must get some requests to become warm, or to be found sick.
const (
	leastTenths = 1
	allTenths   = 10
)

// returnRamp is how long the weight of an endpoint grows that returns from an ejection, in a pool
// without slow start: one that is still sick gets few requests until it is ejected again.
const returnRamp = 5 * time.Second

// ramp is the growth of the weight of an endpoint that became usable. It is pure state; its zero
// value is an endpoint at its full weight.
//
// The formula is Envoy's slow start with an aggression of 1: after t of a window the weight is w · max(10 %,
// t / window), here rounded down to tenths.
type ramp struct {
	since  time.Time
	window time.Duration
}

// tenths returns how much of its weight the endpoint has, 1 to 10 tenths.
func (r ramp) tenths(now time.Time) uint32 {
	t := now.Sub(r.since)
	if t >= r.window {
		return allTenths
	}
	// Through floats, because t × 10 may overflow; a rounding error is one nanosecond at most.
	return max(leastTenths, uint32(float64(t)/float64(r.window)*allTenths))
}

// next returns when a weight of n tenths is to grow; zero when it has grown.
func (r ramp) next(n uint32) time.Time {
	if n == allTenths {
		return time.Time{}
	}
	// A nanosecond more than the step, so that rounding does not put tenths before it.
	return r.since.Add(time.Duration(float64(r.window)/allTenths*float64(n+1)) + 1)
}

// rise has the weight of e grow, which became usable at now. It is called with line.judging held.
func (p *Pool) rise(e *Endpoint, now time.Time) {
	window := p.config.SlowStart
	if window == 0 && e.trust.trial.Load() > 0 {
		window = returnRamp
	}
	e.trust.ramp = ramp{since: now, window: window}
	e.trust.tenths.Store(e.trust.ramp.tenths(now))
}

// recovered has the weight of e grow, whose health came back. The caller lets Pick know of both.
func (p *Pool) recovered(e *Endpoint) {
	p.line.judging.Lock()
	p.rise(e, time.Now())
	now := p.line.inForce.Load() // another pool may have taken e over; a later one plans by itself
	p.line.judging.Unlock()
	now.plan()
}
