package balancer

import (
	"reflect"
	"slices"
	"time"

	"weir/config"
)

// verdict is what the answers to one question, asked again and again, say about an endpoint.
type verdict struct {
	down    bool
	decided bool      // an answer has come since the question is this one
	streak  int       // results in a row that contradict down
	failure string    // why the last one that failed did; "" once the endpoint is well again
	last    time.Time // when the last one ended; zero when the next one is due at once
}

// health is what active probes say about one endpoint. It is pure state: observe decides,
// the loops around it probe. Its zero value is an endpoint that was not probed yet.
type health struct {
	verdict
	asked  string // what the probes asked so far
	status config.StatusRange
	json   []config.Assertion

	starting bool      // no probe has succeeded yet, and that is expected
	began    time.Time // when the first probe went out; zero before
}

// start makes the endpoint one that is to load its model first.
func (h *health) start() {
	h.starting, h.down, h.failure = true, true, "starting: not probed yet"
}

// expect prepares for the results of p; nil means that nobody probes, which makes the
// endpoint healthy. When p asks the same as before, everything holds. When it asks
// something else, the verdict stands until the first answer, which then decides alone.
func (h *health) expect(p *config.Probe) {
	if p == nil {
		*h = health{}
		return
	}
	if p.Startup == nil {
		h.starting = false
	}
	if h.asked == p.Asked() && h.status == p.Status && slices.Equal(h.json, p.JSON) {
		return
	}
	*h = health{
		verdict: verdict{down: h.down, failure: h.failure}, asked: p.Asked(), status: p.Status, json: p.JSON,
		starting: h.starting, began: h.began,
	}
}

// observe takes the result of the probe that ended at h.last, err nil for success, and reports whether the
// endpoint's health changed. The first result decides alone; later p.Rise successes or
// p.Fall failures in a row are needed to change it. Failures of an endpoint that is starting decide nothing
// until its time is over.
func (h *health) observe(err error, p *config.Probe) (changed bool) {
	if h.starting {
		if s := p.Startup; err != nil && s != nil && h.last.Sub(h.began) < s.Budget {
			h.failure = "starting: " + err.Error()
			return false
		}
		h.starting = false
	}
	return h.take(err, p)
}

// inferences is what the answers to synthetic requests say. An endpoint is asked while its probes succeed.
type inferences struct {
	verdict
	asked *config.Inference
}

// expect does for inferences what that of health does for probes.
func (i *inferences) expect(p *config.Probe) {
	if p == nil || p.Inference == nil {
		*i = inferences{}
		return
	}
	if i.asked != nil && asksTheSame(*i.asked, *p.Inference) {
		return
	}
	*i = inferences{verdict: verdict{down: i.down, failure: i.failure}, asked: p.Inference}
}

// renew has the next answer come at once and decide alone: what answers is another process, maybe.
func (i *inferences) renew() { i.decided, i.last = false, time.Time{} }

func asksTheSame(a, b config.Inference) bool {
	a.Interval = b.Interval
	return reflect.DeepEqual(a, b)
}

// take counts one result, and reports whether it changed the verdict.
func (h *verdict) take(err error, p *config.Probe) (changed bool) {
	changed = h.judge(err != nil, p)
	switch {
	case err != nil:
		h.failure = err.Error()
	case !h.down:
		h.failure = ""
	}
	return changed
}

func (h *verdict) judge(failed bool, p *config.Probe) (changed bool) {
	if !h.decided {
		h.decided = true
		changed = h.down != failed
		h.down, h.streak = failed, 0
		return changed
	}
	if failed == h.down {
		h.streak = 0
		return false
	}
	h.streak++
	need := p.Rise
	if failed {
		need = p.Fall
	}
	if h.streak < need {
		return false
	}
	h.down, h.streak = failed, 0
	return true
}
