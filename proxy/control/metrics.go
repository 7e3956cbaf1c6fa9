package control

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"weir/balancer/rollout"
)

// collector makes the metrics of what is remembered, of rollouts and of drift.
type collector struct {
	c                                    *Controller
	failures, active, step, weight, done *prometheus.Desc
	drift                                driftCollector
}

// Collector returns the metrics of what is remembered, of rollouts and of drift.
func (c *Controller) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_"+name, help, labels, nil)
	}
	return &collector{
		c:        c,
		failures: d("state_write_failures_total", "Changes that could not be saved: they are in force, and a restart would forget them."),
		active:   d("rollout_active", "1 while a rollout of the route is under way, by where it is.", "route", "phase"),
		step:     d("rollout_step", "The step of the route's rollout, from 1; 0 before the first.", "route"),
		weight:   d("rollout_weight_percent", "The percentage of the route's requests that its rollout gives the new version.", "route"),
		done:     d("rollouts_total", "Rollouts of the route that have ended, by how.", "route", "outcome"),
		drift:    newDriftCollector(),
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.failures, m.active, m.step, m.weight, m.done} {
		ch <- d
	}
	m.drift.describe(ch)
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(m.failures, prometheus.CounterValue, float64(m.c.failures.Load()))
	for _, s := range m.c.Rollouts() {
		if s.Phase.Ended() {
			continue
		}
		for _, phase := range []rollout.Phase{rollout.Preparing, rollout.Progressing, rollout.Paused} {
			is := 0.0
			if phase == s.Phase {
				is = 1
			}
			ch <- prometheus.MustNewConstMetric(m.active, prometheus.GaugeValue, is, s.Route, string(phase))
		}
		ch <- prometheus.MustNewConstMetric(m.step, prometheus.GaugeValue, float64(s.Step), s.Route)
		ch <- prometheus.MustNewConstMetric(m.weight, prometheus.GaugeValue, s.Weight, s.Route)
	}
	m.drift.collect(ch, m.c.drifting())
	for key, n := range m.c.ends() {
		ch <- prometheus.MustNewConstMetric(m.done, prometheus.CounterValue, float64(n), key.route, string(key.phase))
	}
}

// ends is how many rollouts have ended how since the start, with 0 for each way in which one of a route with several
// variants can end: a counter that begins with its first event hides that event from whoever asks for its increase.
func (c *Controller) ends() map[outcome]uint64 {
	all := map[outcome]uint64{}
	for _, r := range c.proxy.Config().Routes {
		if len(r.Split) > 1 {
			all[outcome{r.Name, rollout.Succeeded}], all[outcome{r.Name, rollout.Aborted}] = 0, 0
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(all, c.outcomes)
	return all
}

// outcome is how a rollout of a route ended.
type outcome struct {
	route string
	phase rollout.Phase
}
