package balancer

import (
	"context"
	"math/rand/v2"
	"time"
)

// probes reports whether the pool's endpoints are probed.
func (p *Pool) probes() bool { return p.config.Probe != nil && p.options.Probe != nil }

// keepProbing probes e from the moment it has an address until Stop. The first probe is due at
// once, or within o.Spread; after a reload that asks the same, it is due when it would have been.
func (p *Pool) keepProbing(ctx context.Context, e *Endpoint) {
	if e.Resolved() {
		p.probeIn(ctx, e, p.untilProbe(e))
		return
	}
	p.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-e.found:
			p.probeIn(ctx, e, p.untilProbe(e))
		}
	})
}

// probeIn probes e after d, and then again and again. Between two probes there is a timer and no
// goroutine: thousands of endpoints cost little while nothing happens. A timer counts as running.
func (p *Pool) probeIn(ctx context.Context, e *Endpoint, d time.Duration) {
	p.timing.Lock()
	defer p.timing.Unlock()
	if ctx.Err() != nil {
		return
	}
	p.running.Add(1)
	p.timers[asked{e, Probe}] = time.AfterFunc(d, func() {
		defer p.running.Done()
		_, timeout := p.pace(e)
		err := p.ask(ctx, e, question{kind: Probe, ask: p.options.Probe, timeout: timeout})
		if ctx.Err() != nil {
			return
		}
		p.observe(e, err)
		p.keepInferring(ctx, e)
		interval, _ := p.pace(e)
		p.probeIn(ctx, e, jitter(interval))
	})
}

// pace returns how often and how long e is probed now. The time that it has to start begins with the first probe.
func (p *Pool) pace(e *Endpoint) (interval, timeout time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := p.config.Probe.Startup
	if s == nil || !e.health.starting {
		return p.config.Probe.Interval, p.config.Probe.Timeout
	}
	if e.health.began.IsZero() {
		e.health.began = time.Now()
	}
	return s.Interval, s.Timeout
}

// stopTimers ends what probeIn and tendIn began, once the context of probes is done.
func (p *Pool) stopTimers() {
	p.timing.Lock()
	defer p.timing.Unlock()
	for _, t := range p.timers {
		if t.Stop() {
			p.running.Done()
		}
	}
	clear(p.timers)
	p.tending = false
	if p.tender != nil && p.tender.Stop() {
		p.running.Done()
	}
}

// observe lets the result of a probe count, unless another pool owns the endpoint by now.
//
// A success never ends an ejection: an endpoint that is ejected because it fails /predict may well answer
// /health/ready, and would be in and out with every probe. The ejection's own time and trial end it.
func (p *Pool) observe(e *Endpoint, err error) {
	e.mu.Lock()
	if e.owner != p {
		e.mu.Unlock()
		return
	}
	h := &e.health
	h.last = time.Now()
	starting, began := h.starting, h.began
	if h.observe(err, p.config.Probe) && err == nil {
		e.infers.renew()
	}
	late := starting && !h.starting && err != nil
	changed := e.settle()
	e.mu.Unlock()
	switch {
	case late:
		p.warnf("endpoint %s of pool %s has not become ready within %v and counts as unhealthy: %v",
			e.Address, e.Pool, p.config.Probe.Startup.Budget, err)
	case !changed:
	case starting:
		p.turned(e, nil, "its first probe succeeded", time.Since(began))
	default:
		p.turned(e, err, "its probes succeed", 0)
	}
}

// turned lets everybody know that the health of e changed: why it is well, or err.
func (p *Pool) turned(e *Endpoint, err error, why string, took time.Duration) {
	if err == nil {
		p.recovered(e)
	}
	p.changed()
	switch {
	case err != nil:
		p.warnf("endpoint %s of pool %s is unhealthy and gets no new requests: %v", e.Address, e.Pool, err)
		p.tell(e, false, err.Error())
		return
	case took > 0:
		p.logf("endpoint %s of pool %s is ready after %v", e.Address, e.Pool, took.Round(time.Millisecond))
	default:
		p.logf("endpoint %s of pool %s is healthy again", e.Address, e.Pool)
	}
	p.tell(e, true, why)
}

// untilProbe returns how long to wait until the first probe of e.
func (p *Pool) untilProbe(e *Endpoint) time.Duration {
	interval, _ := p.pace(e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.health.last.IsZero() {
		return time.Duration(rand.Float64() * float64(min(p.options.Spread, interval)))
	}
	return max(0, jitter(interval)-time.Since(e.health.last))
}

// jitter returns d ± 10 %, so that the probes and lookups of many endpoints, and of many
// weirs, do not fall on the same moment for ever.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
