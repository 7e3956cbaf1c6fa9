package balancer

import "time"

// weighs reports whether the pool's weights follow reports.
func (p *Pool) weighs() bool { return p.config.Policy == "utilization" }

// weighing is how the pool's reports become weights.
func (p *Pool) weighing() weighing {
	w := defaultWeighing()
	if l := p.config.Load; l != nil {
		w.expiry[FromScrape] = 3 * l.Interval
	}
	return w
}

// Weighting returns how the endpoint's reports led to its weight, as of the last second; ok is false where weights do
// not follow reports.
func (e *Endpoint) Weighting() (w Weighting, ok bool) {
	if now := e.weighting.Load(); now != nil {
		return *now, true
	}
	return Weighting{}, false
}

// factor is what reports make of the configured weight.
func (e *Endpoint) factor() float64 {
	if w := e.weighting.Load(); w != nil {
		return w.Factor
	}
	return 1
}

// Warming reports whether the endpoint has less than its weight, because it became usable not long ago.
func (e *Endpoint) Warming() bool { return e.trust.tenths.Load() < allTenths }

// read returns what is known of the endpoint's load: each signal from the source that told it last, of those whose
// report has not expired.
func (e *Endpoint) read(w *weighing, now time.Time) (r reading) {
	var ages [signals]time.Duration
	for from := range Source(sources) {
		f, age, ok := e.LastReport(from, now)
		if !ok || age >= w.expiry[from] {
			continue
		}
		r.fresh = true
		for s := range Signal(signals) {
			v, ok := f.Get(s)
			if _, known := r.figures.Get(s); ok && (!known || age < ages[s]) {
				r.figures.set(s, v)
				ages[s] = age
			}
		}
	}
	return r
}

// reweigh lets weights follow reports, once every weighEvery. It is called with line.judging held.
func (p *Pool) reweigh(now time.Time) {
	l := p.line
	if !p.weighs() || now.Before(l.weigh) {
		return
	}
	l.weigh = now.Add(weighEvery)
	w := p.weighing()
	var courses []course
	var readings []reading
	var those []*Endpoint
	for _, m := range p.members {
		e := m.e
		// One that gets no requests tells of a load that has nothing to do with its share.
		if m.weight > 0 && e.Healthy() && !e.Draining() && !e.Ejected() {
			those, courses, readings = append(those, e), append(courses, e.course), append(readings, e.read(&w, now))
		} else {
			e.course = course{ever: e.course.ever}
			e.weighting.Store(&Weighting{Factor: 1, Target: 1, Why: "not in use"})
		}
	}
	for i, o := range w.weights(courses, readings, now) {
		those[i].course = courses[i]
		those[i].weighting.Store(&o)
	}
}

// expectReports prepares for reports if p weighs by them. It is called with line.judging held.
func (p *Pool) expectReports(e *Endpoint) {
	if !p.weighs() {
		e.course = course{}
		e.weighting.Store(nil)
	}
}
