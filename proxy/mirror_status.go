package proxy

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"weir/proxy/compare"
)

// MirrorStatus is what became of the copies of a route's requests. It counts for as long as the pool and what is
// compared stay the same.
type MirrorStatus struct {
	Pool    string  `json:"pool"`
	Percent float64 `json:"percent"`
	Active  int64   `json:"active"` // copies under way, those whose request has not ended included
	// Sent copies ended with an answer, or with ErrorsShadow. Skipped requests were to be copied and were not.
	Sent    uint64 `json:"sent"`
	Skipped uint64 `json:"skipped"`
	// Compared are pairs of answers of which could be said whether they agree; Agreed of them did. Agreement is
	// their share, null before the first.
	Compared  uint64   `json:"compared"`
	Agreed    uint64   `json:"agreed"`
	Agreement *float64 `json:"agreement"`
	// The difference is the shadow's duration less the primary's, where both answered below 500.
	P50 *float64 `json:"p50_difference_ms"`
	P95 *float64 `json:"p95_difference_ms"`
	// Errors are 5xx, weir's own and the lack of an answer included, of requests whose copy was sent.
	ErrorsPrimary uint64 `json:"errors_primary"`
	ErrorsShadow  uint64 `json:"errors_shadow"`
}

// MirrorReport is a route's mirror with disagreements to look at, the newest first.
type MirrorReport struct {
	Route         string         `json:"route"`
	Mirror        MirrorStatus   `json:"mirror"`
	Disagreements []MirrorSample `json:"disagreements"`
}

// MirrorSample is a pair of answers that disagree. Primary and Shadow are the values of Field, or the bodies
// where Field is empty, up to 1 KiB of them.
type MirrorSample struct {
	Time          time.Time `json:"time"` // of the request
	RequestID     string    `json:"request_id"`
	Method        string    `json:"method"`
	Path          string    `json:"path"`     // without the query
	Endpoint      string    `json:"endpoint"` // of the shadow
	PrimaryStatus int       `json:"primary_status"`
	ShadowStatus  int       `json:"shadow_status"`
	Reason        string    `json:"reason"`
	Field         string    `json:"field"`
	Primary       string    `json:"primary"`
	Shadow        string    `json:"shadow"`
}

// Mirror returns what is known of a route's mirror. It is an error where there is no such route, or it has none.
func (p *Proxy) Mirror(route string) (MirrorReport, error) {
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return MirrorReport{}, t.unknownRoute(route)
	}
	if r.mirror == nil {
		return MirrorReport{}, &ControlError{Status: 404, Code: "no_mirror", Message: fmt.Sprintf("route %q has no mirror", route)}
	}
	return MirrorReport{route, *r.mirror.status(), r.mirror.live.sampled()}, nil
}

func (m *mirror) status() *MirrorStatus {
	if m == nil {
		return nil
	}
	l := m.live
	s := &MirrorStatus{
		Pool: m.cfg.Pool, Percent: m.cfg.Percent, Active: l.active.Load(), Sent: l.sum(-1, -1),
		Agreed: l.results[compare.Agree].Load(), P50: l.differences.quantile(.5), P95: l.differences.quantile(.95),
		ErrorsPrimary: l.sum(class5xx, -1), ErrorsShadow: l.sum(-1, class5xx) + l.sum(-1, classNone),
	}
	for i := range l.skipped {
		s.Skipped += l.skipped[i].Load()
	}
	if s.Compared = s.Agreed + l.results[compare.Disagree].Load(); s.Compared > 0 {
		share := float64(s.Agreed) / float64(s.Compared)
		s.Agreement = &share
	}
	return s
}

// mirrorMetrics are the families of mirrors. Routes without one have none.
type mirrorMetrics struct {
	requests, skipped, comparisons, statuses, difference, inflight *prometheus.Desc
}

func newMirrorMetrics(d func(name, help string, labels ...string) *prometheus.Desc) mirrorMetrics {
	return mirrorMetrics{
		requests:    d("mirror_requests_total", "Copies of requests sent to a shadow pool, by the class of the answer's status, or why there was none.", "route", "pool", "outcome"),
		skipped:     d("mirror_skipped_total", "Requests that were to be copied and were not, by why.", "route", "reason"),
		comparisons: d("mirror_comparisons_total", "Pairs of answers, by whether they agree; incomparable ones say nothing of that.", "route", "result"),
		statuses:    d("mirror_statuses_total", "Pairs of answers, by the classes of their statuses.", "route", "primary", "shadow"),
		difference:  d("mirror_latency_difference_seconds", "Duration of the shadow's attempt less that of the primary's, where both answered below 500.", "route"),
		inflight:    d("mirror_inflight", "Copies under way, those whose request has not ended included.", "route"),
	}
}

func (d *mirrorMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.requests, d.skipped, d.comparisons, d.statuses, d.difference, d.inflight}
}

func (d *mirrorMetrics) collect(route string, m *mirror, s samples) {
	if m == nil {
		return
	}
	l := m.live
	l.outcomeLabels(func(outcome string, n uint64) { s.count(d.requests, n, route, m.cfg.Pool, outcome) })
	for reason := range skippedReason {
		s.count(d.skipped, l.skipped[reason].Load(), route, skippedReason[reason])
	}
	if m.rules != nil {
		for _, result := range compare.Results() {
			s.count(d.comparisons, l.results[result].Load(), route, result.String())
		}
	}
	l.statusPairs(func(primary, shadow string, n uint64) { s.count(d.statuses, n, route, primary, shadow) })
	s <- l.differences.metric(d.difference, route)
	s.gauge(d.inflight, float64(l.active.Load()), route)
}

// differenceBounds are those of the histogram above 0, in seconds; below it has the same.
var differenceBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func (d *mirrorDifferences) metric(desc *prometheus.Desc, route string) prometheus.Metric {
	faster, slower := d.faster.Snapshot(), d.slower.Snapshot()
	buckets := map[float64]uint64{0: faster.Count()}
	f, s := faster.Cumulative(differenceBounds), slower.Cumulative(differenceBounds)
	for i, b := range differenceBounds {
		buckets[-b] = faster.Count() - f[i]
		buckets[b] = faster.Count() + s[i]
	}
	return prometheus.MustNewConstHistogram(desc, faster.Count()+slower.Count(), slower.Sum().Seconds()-faster.Sum().Seconds(), buckets, route)
}
