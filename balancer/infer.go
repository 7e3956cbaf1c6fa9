package balancer

import (
	"context"
	"time"
)

func (p *Pool) infers() bool {
	return p.probes() && p.options.Infer != nil && p.config.Probe.Inference != nil
}

// keepInferring asks the model of e when that is due, and then again and again while the endpoint passes
// its probes. It is called after each probe, and does nothing where somebody asks already.
func (p *Pool) keepInferring(ctx context.Context, e *Endpoint) {
	if !p.infers() {
		return
	}
	d, passes := p.untilInference(e)
	if !passes {
		return
	}
	at := asked{e, Inference}
	p.timing.Lock()
	defer p.timing.Unlock()
	if ctx.Err() != nil {
		return
	}
	if t := p.timers[at]; t != nil {
		if d > 0 || !t.Stop() {
			return
		}
		p.running.Done() // it was to come later than at once
	}
	p.running.Add(1)
	p.timers[at] = time.AfterFunc(d, func() {
		defer p.running.Done()
		if _, passes := p.untilInference(e); passes {
			c := p.config.Probe
			// Longer than an answer may take, so that it is known how long one did that is too late.
			err := p.ask(ctx, e, question{kind: Inference, ask: p.options.Infer, timeout: c.Timeout + c.Inference.MaxLatency})
			if ctx.Err() == nil {
				p.observeInference(e, err)
			}
		}
		p.timing.Lock()
		delete(p.timers, at)
		p.timing.Unlock()
		p.keepInferring(ctx, e)
	})
}

// untilInference returns when the next one is due, and whether it may come at all. That inferences speak
// against the endpoint does not matter: they are how it comes back.
func (p *Pool) untilInference(e *Endpoint) (d time.Duration, passes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owner != p || !e.health.decided || e.health.down {
		return 0, false
	}
	if e.infers.last.IsZero() {
		return 0, true
	}
	return max(1, jitter(p.config.Probe.Inference.Interval)-time.Since(e.infers.last)), true
}

// observeInference lets the result of one count.
func (p *Pool) observeInference(e *Endpoint, err error) {
	e.mu.Lock()
	if e.owner != p {
		e.mu.Unlock()
		return
	}
	e.infers.last = time.Now()
	e.infers.take(err, p.config.Probe)
	changed := e.settle()
	e.mu.Unlock()
	if changed {
		p.turned(e, err, "its inference succeeds", 0)
	}
}
