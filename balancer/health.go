package balancer

import (
	"time"

	"weir/config"
)

// health is what active probes say about one endpoint. It is pure state: observe decides,
// the loops around it probe. Its zero value is an endpoint that was not probed yet.
type health struct {
	down    bool
	decided bool      // a probe of asked has ended
	streak  int       // results in a row that contradict down
	failure string    // why the last failed probe failed; "" once the endpoint is well again
	last    time.Time // when the last probe ended; zero when the next one is due at once
	path    string    // what the probes asked so far
	status  config.StatusRange
}

// expect prepares for the results of p; nil means that nobody probes, which makes the
// endpoint healthy. When p asks the same as before, everything holds. When it asks
// something else, the verdict stands until the first answer, which then decides alone.
func (h *health) expect(p *config.Probe) {
	if p == nil {
		*h = health{}
		return
	}
	if h.path == p.Path && h.status == p.Status {
		return
	}
	*h = health{down: h.down, failure: h.failure, path: p.Path, status: p.Status}
}

// observe takes the result of one probe, err nil for success, and reports whether the
// endpoint's health changed. The first result decides alone; later p.Rise successes or
// p.Fall failures in a row are needed to change it.
func (h *health) observe(err error, p *config.Probe) (changed bool) {
	changed = h.judge(err != nil, p)
	switch {
	case err != nil:
		h.failure = err.Error()
	case !h.down:
		h.failure = ""
	}
	return changed
}

func (h *health) judge(failed bool, p *config.Probe) (changed bool) {
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
