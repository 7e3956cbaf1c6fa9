package balancer

import "time"

const (
	// alarmDelay is how soon an endpoint is judged after a failure too many. It lets the failures of a
	// moment in which many endpoints fail be judged together.
	alarmDelay = time.Millisecond
	// tendGap is the least time between two looks that nobody called for, for the same reason.
	tendGap = 50 * time.Millisecond
)

// tend ejects, readmits and lets weights grow and follow reports as of now, tells of it, and plans when to look again. One
// timer serves all of a pool's endpoints, and there is none while nothing is to come.
func (p *Pool) tend() {
	defer p.running.Done()
	p.timing.Lock()
	p.tendAt = time.Time{}
	p.timing.Unlock()

	l := p.line
	l.judging.Lock()
	if l.inForce.Load() != p {
		l.judging.Unlock() // the next pool has taken the endpoints over, and looks by itself
		return
	}
	now := time.Now()
	changed := p.judgeAll(now)
	for _, e := range p.endpoints {
		e.trust.tenths.Store(e.trust.ramp.tenths(now))
	}
	p.reweigh(now)
	l.judging.Unlock()
	p.tryRefusing(now)

	if len(changed) > 0 {
		p.changed()
	} else {
		p.refresh()
	}
	for _, e := range changed {
		p.tellEjection(e)
	}
	p.tellPanic()
	p.plan()
}

// plan has tend run when something is due next.
func (p *Pool) plan() {
	l := p.line
	l.judging.Lock()
	now := time.Now()
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	c := p.config.Outlier
	if c != nil && takesIntervals(c) {
		if l.tick.IsZero() || l.tick.After(now.Add(c.Interval)) {
			l.tick = now.Add(c.Interval)
		}
		sooner(l.tick)
	}
	if p.weighs() {
		if l.weigh.IsZero() || l.weigh.After(now.Add(weighEvery)) {
			l.weigh = now.Add(weighEvery)
		}
		sooner(l.weigh)
	}
	for _, e := range p.endpoints {
		sooner(e.trust.standing.until)
		sooner(e.trust.ramp.next(e.trust.tenths.Load()))
		if r := e.trust.refusal.Load(); r != nil && p.options.Dial != nil && !e.trust.trying.Load() {
			sooner(r.until)
		}
		if c != nil && e.trust.suspect.Load() != nil {
			sooner(now)
		}
	}
	l.judging.Unlock()
	if !next.IsZero() {
		p.tendIn(max(tendGap, next.Sub(now)))
	}
}

// tendIn has tend run in d, or sooner where that is planned already; never before Start or after Stop.
func (p *Pool) tendIn(d time.Duration) {
	p.timing.Lock()
	defer p.timing.Unlock()
	if !p.tending {
		return
	}
	at := time.Now().Add(d)
	if !p.tendAt.IsZero() && !at.Before(p.tendAt) {
		return
	}
	p.tendAt = at
	switch {
	case p.tender == nil:
		p.running.Add(1)
		p.tender = time.AfterFunc(d, p.tend)
	case !p.tender.Reset(d): // it was not pending, and so is not counted
		p.running.Add(1)
	}
}

// tellPanic lets the log know whether ejected endpoints are used now, unless it does.
func (p *Pool) tellPanic() {
	now := p.line.panicking.Load()
	if p.line.toldPanic.Swap(now) == now {
		return
	}
	if now {
		p.warnf("pool %s has too few endpoints that are not ejected: the ejected ones get requests all the same", p.config.Name)
		return
	}
	p.logf("pool %s has enough endpoints again: those that are ejected get no new requests", p.config.Name)
}
