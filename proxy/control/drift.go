package control

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/config"
	"weir/internal/state"
	"weir/internal/stats"
	"weir/proxy"
)

// VersionDrift is how far the scores of a route's version are from those of its first one.
type VersionDrift struct {
	Pool string `json:"pool"`
	// Why says in words what was found, or why nothing can be said.
	Why string `json:"why"`
	// Reference and Current are how many scores the first version and this one have in their windows. Enough says that
	// this is as many as a judgement needs; the others are 0 and false without.
	Reference    uint64  `json:"reference"`
	Current      uint64  `json:"current"`
	Enough       bool    `json:"enough"`
	PSI          float64 `json:"psi"`
	PSIThreshold float64 `json:"psi_threshold"`
	KS           float64 `json:"ks"`
	KSP          float64 `json:"ks_p"`
	Drifted      bool    `json:"drifted"`
}

// DriftReport is how far the scores of a route's versions are apart, as their endpoints tell them.
type DriftReport struct {
	Route    string         `json:"route"`
	From     string         `json:"from"` // the first version's pool
	Versions []VersionDrift `json:"versions"`
}

// driftFloor is the least PSI and distance that count where the route's rollout does not say what may be.
const driftFloor = 0.1

// driftAlpha is the probability with which chance alone, at one look, is taken for a distance.
const driftAlpha = 0.01

// driftRule is when two versions are apart.
func driftRule(d *config.DriftAnalysis) stats.DriftRule {
	rule := stats.DriftRule{Alpha: driftAlpha, PSI: d.MaxPSI, KS: d.MaxKS, Least: uint64(d.MinScores)}
	if d.MaxPSI == 0 {
		rule.PSI = math.Inf(1)
	}
	if d.MaxKS == 0 {
		rule.KS = 1 // which none exceeds
	}
	return rule
}

// describeDrift says in words what was found, of enough scores.
func describeDrift(found *stats.Drift, d *config.DriftAnalysis) string {
	why := fmt.Sprintf("the scores' PSI is %s, their KS distance %s", short(found.PSI), short(found.KS))
	if !found.Drifted {
		return why
	}
	var most []string
	if d.MaxPSI > 0 {
		most = append(most, "a PSI of "+short(found.PSIThreshold))
	}
	if d.MaxKS > 0 {
		most = append(most, "a distance of "+short(d.MaxKS))
	}
	return why + "; at most " + strings.Join(most, " and ") + " is allowed"
}

// driftOf is what the route's rollout says of drift; nil where it says nothing.
func driftOf(r *config.Route) *config.DriftAnalysis {
	if r.Rollout == nil || r.Rollout.Analysis == nil {
		return nil
	}
	return r.Rollout.Analysis.Drift
}

// Drift compares the scores of a route's versions with those of its first one, whether a rollout is under way or not: by what
// the route's rollout says of drift, else by the defaults. It asks all their endpoints. It is a *ControlError of 404 for
// a route that is not there, or has one version only.
func (c *Controller) Drift(ctx context.Context, route string) (DriftReport, error) {
	set, err := c.proxy.Weigh(route, nil)
	if err != nil {
		return DriftReport{}, err
	}
	if len(set) < 2 {
		return DriftReport{}, &proxy.ControlError{Status: 404, Code: "no_drift", Message: "route " + route + " has one version, which is compared with nothing"}
	}
	d := config.DefaultDriftAnalysis()
	d.MaxPSI, d.MaxKS = driftFloor, driftFloor
	routes := c.proxy.Config().Routes
	for i := range routes {
		if own := driftOf(&routes[i]); own != nil && routes[i].Name == route {
			d = *own
		}
	}
	return c.compareVersions(ctx, route, set, &d), nil
}

func (c *Controller) compareVersions(ctx context.Context, route string, set []state.Weight, d *config.DriftAnalysis) DriftReport {
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	report := DriftReport{Route: route, From: set[0].Pool}
	before, lost := c.scores(ctx, set[0].Pool, d)
	for _, w := range set[1:] {
		v := VersionDrift{Pool: w.Pool}
		now, err := c.scores(ctx, w.Pool, d)
		var found stats.Drift
		if lost == nil && err == nil {
			found, err = stats.CompareDistributions(before, now, driftRule(d).Among(len(set)-1))
		}
		switch {
		case lost != nil:
			v.Why = fmt.Sprintf("no data of pool %s: %v", set[0].Pool, lost)
		case err != nil:
			v.Why = fmt.Sprintf("no data of pool %s: %v", w.Pool, err)
		case !found.Enough:
			v.Reference, v.Current = found.Reference, found.Current
			v.Why = fmt.Sprintf("there are %d and %d scores, of the %d each that a judgement needs", found.Reference, found.Current, d.MinScores)
		default:
			v = VersionDrift{
				Pool: w.Pool, Why: describeDrift(&found, d), Reference: found.Reference, Current: found.Current, Enough: true,
				PSI: found.PSI, PSIThreshold: found.PSIThreshold, KS: found.KS, KSP: found.KSP, Drifted: found.Drifted,
			}
			if d.MaxPSI == 0 {
				v.PSIThreshold = 0 // JSON has no infinity
			}
		}
		report.Versions = append(report.Versions, v)
	}
	return report
}

// compareEvery is how often it is looked whether a route's versions are to be compared.
const compareEvery = 500 * time.Millisecond

// keepComparing compares the versions of the routes whose rollouts say what drift may be, as often as these look and
// also while none is under way, until weir stops. The metrics tell.
func (c *Controller) keepComparing() {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	last := map[string]time.Time{}
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-tick.C:
			c.compareAll(now, last)
		}
	}
}

// compareAll compares what is due; last is when each route was compared.
func (c *Controller) compareAll(now time.Time, last map[string]time.Time) {
	before, fresh := c.drifting(), map[string]DriftReport{}
	if !c.applied.Load() {
		return // there is no configuration yet
	}
	routes := c.proxy.Config().Routes
	for i := range routes {
		r := &routes[i]
		if driftOf(r) == nil {
			continue
		}
		if now.Sub(last[r.Name]) < r.Rollout.Analysis.Interval {
			if report, ok := before[r.Name]; ok {
				fresh[r.Name] = report
			}
			continue
		}
		last[r.Name] = now
		if report, err := c.Drift(c.ctx, r.Name); err == nil { // else it has one version
			fresh[r.Name] = report
		}
	}
	c.mu.Lock()
	c.drifts = fresh
	c.mu.Unlock()
}

// drifting are the last comparisons, by route. The map does not change.
func (c *Controller) drifting() map[string]DriftReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drifts
}

// driftCollector makes the metrics of the versions that are compared all the time.
type driftCollector struct{ psi, psiThreshold, ks, detected *prometheus.Desc }

func newDriftCollector() driftCollector {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("weir_"+name, help, []string{"route", "from", "to"}, nil)
	}
	return driftCollector{
		psi:          d("drift_psi", "Population stability index of the scores of the pool to against those of the pool from, of routes whose rollout.analysis has drift; absent while there are too few to tell."),
		psiThreshold: d("drift_psi_threshold", "What weir_drift_psi has to exceed for a drift: what may be, and what chance does not explain."),
		ks:           d("drift_ks", "Greatest distance of the cumulative distributions of the scores of the pools to and from (Kolmogorov-Smirnov)."),
		detected:     d("drift_detected", "1 while the scores of the pools are further apart than may be, else 0."),
	}
}

func (m *driftCollector) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.psi, m.psiThreshold, m.ks, m.detected} {
		ch <- d
	}
}

func (m *driftCollector) collect(ch chan<- prometheus.Metric, drifts map[string]DriftReport) {
	for _, report := range drifts {
		for _, v := range report.Versions {
			if !v.Enough {
				continue
			}
			gauge := func(d *prometheus.Desc, value float64) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, report.Route, report.From, v.Pool)
			}
			gauge(m.psi, v.PSI)
			if v.PSIThreshold > 0 {
				gauge(m.psiThreshold, v.PSIThreshold)
			}
			gauge(m.ks, v.KS)
			detected := 0.0
			if v.Drifted {
				detected = 1
			}
			gauge(m.detected, detected)
		}
	}
}
