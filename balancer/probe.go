package balancer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
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
	p.timers[e] = time.AfterFunc(d, func() {
		defer p.running.Done()
		err := p.probe(ctx, e)
		if ctx.Err() != nil {
			return
		}
		p.observe(e, err)
		p.probeIn(ctx, e, jitter(p.config.Probe.Interval))
	})
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

// probe asks e once, at all its addresses at the same time. One good answer is enough,
// because requests reach the endpoint by whichever address works.
func (p *Pool) probe(ctx context.Context, e *Endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, p.config.Probe.Timeout)
	defer cancel()
	addrs := e.Addrs()
	if len(addrs) == 1 {
		return p.probeAddr(ctx, e, addrs[0])
	}
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		go func() { results <- p.probeAddr(ctx, e, addr) }()
	}
	var failure error
	answered := false
	for range addrs {
		switch err := <-results; {
		case err == nil:
			answered = true
			cancel() // the others need not go on
		case failure == nil:
			failure = err
		}
	}
	if answered {
		return nil
	}
	return failure
}

func (p *Pool) probeAddr(ctx context.Context, e *Endpoint, addr netip.AddrPort) error {
	err := p.options.Probe(ctx, e, addr, *p.config.Probe)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer from %s to GET %s within %v", addr, p.config.Probe.Path, p.config.Probe.Timeout)
	}
	return err
}

// observe lets the result of a probe count, unless another pool owns the endpoint by now.
func (p *Pool) observe(e *Endpoint, err error) {
	e.mu.Lock()
	if e.owner != p {
		e.mu.Unlock()
		return
	}
	e.health.last = time.Now()
	changed := e.health.observe(err, p.config.Probe)
	e.down.Store(e.health.down)
	e.mu.Unlock()
	if !changed {
		return
	}
	if err == nil {
		p.recovered(e)
	}
	p.changed()
	if err != nil {
		p.warnf("endpoint %s of pool %s is unhealthy and gets no new requests: %v", e.Address, e.Pool, err)
		p.tell(e, false, err.Error())
	} else {
		p.logf("endpoint %s of pool %s is healthy again", e.Address, e.Pool)
		p.tell(e, true, "its probes succeed")
	}
}

// untilProbe returns how long to wait until the first probe of e.
func (p *Pool) untilProbe(e *Endpoint) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	interval := p.config.Probe.Interval
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
