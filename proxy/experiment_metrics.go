package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/balancer/experiment"
)

// experimentMetrics are those of routes that have an experiment.
type experimentMetrics struct {
	exposures, requests, excluded, forgotten, mismatch, mean, effect, low, high *prometheus.Desc
}

func newExperimentMetrics(d func(name, help string, labels ...string) *prometheus.Desc) experimentMetrics {
	return experimentMetrics{
		exposures: d("experiment_exposures_total", "Units of a route's experiment (users, tenants) that met an arm, each once.", "route", "arm"),
		requests:  d("experiment_requests_total", "Requests of units in the comparison.", "route", "arm"),
		excluded:  d("experiment_excluded_total", "Requests that are in no comparison, by why: forced by a tester, without a unit (fallback), held out, of another experiment of the layer, or served by another arm (spill).", "route", "reason"),
		forgotten: d("experiment_units_forgotten_total", "Units beyond those that are remembered; what is told later of their requests does not count.", "route"),
		mismatch:  d("experiment_sample_ratio_mismatch", "1 while units do not go to the arms by their weights, beyond chance: the figures are not to be trusted.", "route"),
		mean:      d("experiment_outcome_mean", "Mean of an outcome over an arm's units.", "route", "arm", "outcome"),
		effect:    d("experiment_effect", "How much more of an outcome an arm has than the control, epochs of other weights compared one by one.", "route", "arm", "outcome"),
		low:       d("experiment_effect_lower", "The lower end of the interval of the effect, which holds at every look.", "route", "arm", "outcome"),
		high:      d("experiment_effect_upper", "The upper end of the interval of the effect, which holds at every look.", "route", "arm", "outcome"),
	}
}

func (m *experimentMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.exposures, m.requests, m.excluded, m.forgotten, m.mismatch, m.mean, m.effect, m.low, m.high}
}

// collect tells of a route's experiment.
func (m *experimentMetrics) collect(route string, x *experimenting, s samples) {
	r := x.ledger.Result()
	for _, why := range experiment.Reasons() {
		if why != experiment.ReasonHash {
			s.count(m.excluded, x.ledger.Excluded(why), route, why.String())
		}
	}
	s.count(m.forgotten, r.Forgotten, route)
	s.gauge(m.mismatch, bit(r.Mismatch), route)
	for _, arm := range r.Arms {
		s.count(m.exposures, arm.Units, route, arm.Name)
		s.count(m.requests, arm.Requests, route, arm.Name)
		for _, o := range arm.Outcomes {
			for _, v := range []struct {
				desc  *prometheus.Desc
				value *float64
			}{{m.mean, o.Mean}, {m.effect, o.Effect}, {m.low, o.Low}, {m.high, o.High}} {
				if v.value != nil {
					s.gauge(v.desc, *v.value, route, arm.Name, o.Name)
				}
			}
		}
	}
}
