package proxy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"weir/balancer"
)

// reportsLive counts the reports of load that came with an endpoint's answers. It outlives tables.
type reportsLive struct {
	taken, failed atomic.Uint64
	why           atomic.Pointer[string] // the last one could not be read; nil: it could
}

func (l *reportsLive) fail(why string) {
	l.failed.Add(1)
	if last := l.why.Load(); last == nil || *last != why {
		l.why.Store(&why)
	}
}

func (l *reportsLive) take() {
	l.taken.Add(1)
	if l.why.Load() != nil {
		l.why.Store(nil)
	}
}

// signalMetrics are those of the load that endpoints report. Scrapes count among the probes.
type signalMetrics struct{ value, age, factor, taken, failed *prometheus.Desc }

func newSignalMetrics(d func(name, help string, labels ...string) *prometheus.Desc) signalMetrics {
	return signalMetrics{
		value:  d("endpoint_load", "What an endpoint reports of its load: utilization and the parts of GPU and memory in use from 0 to 1, queue_ms in milliseconds, rps and eps a second. It stands until there is another report.", "pool", "endpoint", "signal"),
		age:    d("endpoint_load_age_seconds", "How long ago an endpoint reported its load, by the source: orca, with its answers, or scrape.", "pool", "endpoint", "source"),
		factor: d("endpoint_load_weight_factor", "What the reported load makes of an endpoint's configured weight under the policy utilization: 1 is the mean of its pool.", "pool", "endpoint"),
		taken:  d("endpoint_load_reports_total", "Reports of load that came with answers (ORCA) and were read.", "pool", "endpoint"),
		failed: d("endpoint_load_report_errors_total", "Reports of load that came with answers (ORCA) and could not be read.", "pool", "endpoint"),
	}
}

func (m *signalMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.value, m.age, m.factor, m.taken, m.failed}
}

// collect tells of an endpoint of whose load something is known, or was to be.
func (m *signalMetrics) collect(e *balancer.Endpoint, s samples) {
	t := e.Transport.(*transport)
	l := loadStatus(e, t)
	if l == nil {
		return
	}
	ages := map[string]float64{}
	for _, k := range l.Signals {
		s.gauge(m.value, k.Value, e.Pool, e.Address, k.Name)
		ages[k.Source] = k.Age
	}
	for source, age := range ages {
		s.gauge(m.age, age, e.Pool, e.Address, source)
	}
	if l.Weighting != nil {
		s.gauge(m.factor, l.Weighting.Factor, e.Pool, e.Address)
	}
	s.count(m.taken, t.reports.taken.Load(), e.Pool, e.Address)
	s.count(m.failed, t.reports.failed.Load(), e.Pool, e.Address)
}
