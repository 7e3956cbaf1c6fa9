package balancer

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"weir/config"
	"weir/internal/stats"
)

// trust is what keeps requests from an endpoint although its probes succeed: its ejection, and the
// small weight after one.
type trust struct {
	// watch is the outlier detection in force; nil when nobody judges. Done reads it.
	watch atomic.Pointer[config.Outlier]
	// streak counts failures in a row while somebody judges. Done reads it as often as watch, and
	// writes it only when requests fail, so that it may stand beside it.
	streak atomic.Int32
	// trial is how many successes the endpoint still owes since its return.
	trial atomic.Int32
	// returned is when that was; what was sent before does not count any more.
	returned atomic.Pointer[time.Time]
	// paces are the durations of an interval's successes; nil where nobody judges by them.
	paces    atomic.Pointer[stats.Histogram]
	tenths   atomic.Uint32 // of its weight
	ejection atomic.Pointer[ejection]
	// refusal is nil while connections can be made. Done reads it.
	refusal atomic.Pointer[refusal]
	trying  atomic.Bool              // whether that is being tried
	suspect atomic.Pointer[evidence] // from Done to tend
	fault   atomic.Pointer[string]   // from scrapes to tend
	late    atomic.Uint64            // failures of what was sent before the return
	ejected atomic.Uint64            // how often
	spared  atomic.Uint64            // how often not

	// Guarded by line.judging.
	standing standing
	ramp     ramp
	since    tally // when the interval began

	told *ejection // that PoolOptions.Ejected heard of; guarded by Endpoint.telling
}

// ejection is one in force. It is never changed.
type ejection struct {
	until time.Time
	why   string
}

// tally is what an endpoint's counters held at one moment.
type tally struct{ requests, failed int64 }

// Ejected reports whether outlier detection keeps requests from the endpoint. It is a matter of what
// requests met there, as Healthy is one of what probes do.
func (e *Endpoint) Ejected() bool { return e.trust.ejection.Load() != nil }

// EjectedUntil returns when the ejection ends; the zero time when there is none.
func (e *Endpoint) EjectedUntil() time.Time {
	if x := e.trust.ejection.Load(); x != nil {
		return x.until
	}
	return time.Time{}
}

// EjectionReason returns why the endpoint is ejected, as "5 failures in a row: reset" or "60 % of 50
// requests failed"; "" when it is not.
func (e *Endpoint) EjectionReason() string {
	if x := e.trust.ejection.Load(); x != nil {
		return x.why
	}
	return ""
}

// Ejections returns how often the endpoint was ejected.
func (e *Endpoint) Ejections() uint64 { return e.trust.ejected.Load() }

// Spared returns how often the endpoint was not ejected although it was due, because too many of its
// pool are ejected already, or it was the last one.
func (e *Endpoint) Spared() uint64 { return e.trust.spared.Load() }

// weigh lets the end of an attempt that took d count for outlier detection. It is on the path of
// every request: a success writes nothing but after a failure, a failure one counter.
func (e *Endpoint) weigh(c *config.Outlier, o Outcome, d time.Duration) {
	switch {
	case o == Canceled:
	case !o.Failed():
		if e.trust.streak.Load() != 0 {
			e.trust.streak.Store(0)
		}
		if e.trust.trial.Load() > 0 && !e.sentBeforeReturn(d) {
			e.trust.trial.Add(-1)
		}
		if c.LatencyFactor > 0 {
			e.pace(d)
		}
	case e.sentBeforeReturn(d):
		e.trust.late.Add(1)
	default:
		n := int(e.trust.streak.Add(1))
		trial := e.trust.trial.Load() > 0
		// Each time the limit is reached again, too: a reload may have come upon the alarm before.
		if trial || c.ConsecutiveFailures > 0 && n%c.ConsecutiveFailures == 0 {
			e.trust.suspect.CompareAndSwap(nil, &evidence{row: n, trial: trial, last: o})
			if p := e.line.inForce.Load(); p != nil {
				p.tendIn(alarmDelay)
			}
		}
	}
}

// sentBeforeReturn reports whether an attempt that took d and ends now began before the endpoint's last
// return. What hung for a minute must not send a well endpoint away again.
func (e *Endpoint) sentBeforeReturn(d time.Duration) bool {
	at := e.trust.returned.Load()
	return at != nil && time.Since(*at) < d
}

// tally returns what counts for outlier detection so far.
func (e *Endpoint) tally() tally {
	failed := int64(e.Errors()) - int64(e.trust.late.Load()) // a late failure may be in one, not in the other yet
	return tally{requests: failed + int64(e.OutcomeCount(Success)), failed: failed}
}

// judgeAll readmits and ejects the pool's endpoints as of now, and returns those it did that to. It is
// called with line.judging held.
func (p *Pool) judgeAll(now time.Time) (changed []*Endpoint) {
	c := p.config.Outlier
	if c == nil {
		return nil // readmitted when the pool started
	}
	tick := takesIntervals(c) && !now.Before(p.line.tick)
	if tick {
		p.line.tick = now.Add(c.Interval)
	}
	type suspect struct {
		m   member
		ev  evidence
		why string
	}
	var seen, suspects []suspect
	var n census
	var all peers
	for _, m := range p.members {
		t := &m.e.trust
		if t.standing.due(now) {
			p.readmit(m.e, now)
			changed = append(changed, m.e)
		}
		if m.weight == 0 {
			continue
		}
		n.count(m.e)
		ev := m.e.takeEvidence(tick, c)
		if !t.standing.ejected() {
			all.add(ev, c)
		}
		if ev.row > 0 || ev.fault != "" || tick {
			seen = append(seen, suspect{m: m, ev: ev})
		}
	}
	all.settle()
	for _, s := range seen {
		if s.why = s.m.e.trust.standing.judge(s.ev, all, c); s.why != "" {
			suspects = append(suspects, s)
		}
	}
	slices.SortStableFunc(suspects, func(a, b suspect) int { return a.ev.worst(b.ev) })
	for _, s := range suspects {
		e := s.m.e
		able := e.Healthy() && !e.Draining()
		if !n.mayEject(able, c) {
			e.trust.standing.spare(now, c)
			e.trust.spared.Add(1)
			e.trust.streak.Store(0)
			continue
		}
		p.eject(e, now, s.why)
		changed = append(changed, e)
		n.ejected++
		if able {
			n.left--
		}
	}
	return changed
}

// takeEvidence returns what speaks against e, and begins a new interval if one is over.
func (e *Endpoint) takeEvidence(tick bool, c *config.Outlier) (ev evidence) {
	if s := e.trust.suspect.Swap(nil); s != nil {
		ev = *s
	}
	if f := e.trust.fault.Swap(nil); f != nil {
		ev.fault = *f
	}
	if tick {
		now := e.tally()
		ev.requests, ev.failed = now.requests-e.trust.since.requests, now.failed-e.trust.since.failed
		e.trust.since = now
		ev.median = e.trust.takeMedian(c)
	}
	return ev
}

// eject and readmit are called with line.judging held. What others see changes last, so that they
// find the rest as it is to be.
func (p *Pool) eject(e *Endpoint, now time.Time, why string) {
	t := &e.trust
	t.standing.eject(now, p.config.Outlier, rand.Float64())
	t.trial.Store(0)
	t.ramp = ramp{} // its weight is whole, should it be used all the same
	t.ejected.Add(1)
	t.ejection.Store(&ejection{until: t.standing.until, why: why})
}

func (p *Pool) readmit(e *Endpoint, now time.Time) {
	t := &e.trust
	t.standing.readmit(now)
	t.returned.Store(&now)
	t.suspect.Store(nil)
	t.since = e.tally()
	t.forgetPaces()
	e.trust.streak.Store(0)
	t.trial.Store(trialSuccesses)
	p.rise(e, now)
	t.ejection.Store(nil)
}

// expectOutcomes makes c the outlier detection that holds for e from now on; nil is none, which ends an
// ejection, and it reports whether it did. It is called with line.judging held.
func (p *Pool) expectOutcomes(e *Endpoint, c *config.Outlier, now time.Time) (readmitted bool) {
	t := &e.trust
	t.expectPaces(c)
	if c == nil {
		t.watch.Store(nil)
		readmitted = t.standing.ejected()
		t.standing = standing{}
		t.trial.Store(0)
		if readmitted {
			p.rise(e, now)
			t.ejection.Store(nil)
		}
		return readmitted
	}
	if t.watch.Swap(c) == nil {
		e.trust.streak.Store(0)
		t.since = e.tally()
	}
	return false
}

// tellEjection lets the log and the owner's callback know whether e is ejected now, unless they do.
func (p *Pool) tellEjection(e *Endpoint) {
	e.telling.Lock()
	defer e.telling.Unlock()
	now, told := e.trust.ejection.Load(), e.trust.told
	if now == told {
		return
	}
	e.trust.told = now
	if now != nil {
		p.warnf("endpoint %s of pool %s is ejected for %v: %s",
			e.Address, e.Pool, time.Until(now.until).Round(100*time.Millisecond), now.why)
	} else {
		now = &ejection{why: "its ejection is over"}
		if e.trust.watch.Load() == nil {
			now.why = "there is no outlier detection any more"
		}
		p.logf("endpoint %s of pool %s is readmitted: %s", e.Address, e.Pool, now.why)
	}
	if p.options.Ejected != nil {
		p.options.Ejected(e, !now.until.IsZero(), now.why, now.until)
	}
}

// PickEjected returns an endpoint for a request that all usable ones have failed, and counts it in flight as Pick
// does: an ejected one that passes its probes, does not drain or refuse connections, and is not one of tried. It is
// nil while there is a usable one that does not refuse and was not tried, or no such endpoint.
func (p *Pool) PickEjected(tried []*Endpoint) *Endpoint {
	var picked *Endpoint
	for _, m := range p.members {
		e := m.e
		if m.weight <= 0 || e.Refusing() || slices.Contains(tried, e) {
			continue
		}
		if e.Usable() {
			return nil
		}
		if e.Ejected() && e.Healthy() && !e.Draining() && (picked == nil || e.EjectedUntil().Before(picked.EjectedUntil())) {
			picked = e // the one that comes back first
		}
	}
	if picked != nil {
		picked.inflight.Add(1)
	}
	return picked
}
