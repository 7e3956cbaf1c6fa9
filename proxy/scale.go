package proxy

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/balancer"
	"weir/config"
	"weir/internal/stats"
)

// scaling remembers how many replicas of a pool were desired lately. It outlives tables as long as the pool has the key scale.
type scaling struct {
	mu   sync.Mutex
	past balancer.Recommendations
	n    int    // desired now; 0 before the first tick
	why  string // so many
}

func newScaling(c config.Pool, prev *pool) *scaling {
	if c.Scale == nil {
		return nil
	}
	if prev != nil && prev.scaling != nil {
		return prev.scaling
	}
	return &scaling{}
}

// ScaleStatus is what a pool bears, for autoscalers. Rates and latencies are those of the last 10 to 15 s.
type ScaleStatus struct {
	Pool              string   `json:"pool"`
	Replicas          int      `json:"replicas"`            // endpoints that do not drain
	Usable            int      `json:"usable"`              // of them: requests go there
	Inflight          float64  `json:"inflight"`            // requests under way at all of them
	Queue             float64  `json:"queue"`               // requests that wait, in weir and as endpoints report
	RequestsPerSecond float64  `json:"requests_per_second"` // of all routes
	Utilization       *float64 `json:"utilization"`         // mean of those that report it, 1 is full; null: nobody does
	P95               *float64 `json:"p95_seconds"`         // null: there were no requests
	DesiredReplicas   *int     `json:"desired_replicas"`    // null without the key scale
	Reason            string   `json:"reason,omitempty"`    // of it
}

// Scale says what a pool bears, and how many replicas it should have; false when there is none of that name.
func (p *Proxy) Scale(name string) (ScaleStatus, bool) {
	t := p.table.Load()
	pl := t.pool(name)
	if pl == nil {
		return ScaleStatus{}, false
	}
	return pl.scale(pl.demand(t.livesByPool()[name], time.Now())), true
}

func (pl *pool) scale(d balancer.Demand) ScaleStatus {
	known := func(v float64) *float64 {
		if math.IsNaN(v) {
			return nil
		}
		return &v
	}
	s := ScaleStatus{
		Pool: pl.Name(), Replicas: d.Replicas, Usable: d.Usable, Inflight: d.Inflight, Queue: d.Queue,
		RequestsPerSecond: d.Rate, Utilization: known(d.Utilization), P95: known(d.P95),
	}
	if c := pl.Config().Scale; c != nil {
		pl.scaling.mu.Lock()
		defer pl.scaling.mu.Unlock()
		n, why := pl.scaling.n, pl.scaling.why
		if n == 0 { // nothing is known yet
			n, why = min(max(d.Replicas, c.Min), c.Max), "weir has just begun to look"
		}
		s.DesiredReplicas, s.Reason = &n, why
	}
	return s
}

// livesByPool are the figures of the variants that lead to each pool, those of all routes.
func (t *table) livesByPool() map[string][]*variantLive {
	lives := map[string][]*variantLive{}
	for key, live := range t.live {
		lives[key.pool] = append(lives[key.pool], live)
	}
	return lives
}

// tickScale looks at what pools bear, once a second.
func (t *table) tickScale(now time.Time) {
	var lives map[string][]*variantLive
	for _, pl := range t.pools {
		if pl.scaling == nil {
			continue
		}
		if lives == nil {
			lives = t.livesByPool()
		}
		c := pl.Config().Scale
		n, why := balancer.DesiredReplicas(c, pl.demand(lives[pl.Name()], now))
		pl.scaling.add(n, why, c, now)
	}
}

func (s *scaling) add(n int, why string, c *config.Scale, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.why = s.past.Add(n, now, c.DownAfter), why
	if s.n > n {
		s.n = min(max(s.n, c.Min), c.Max) // a reload may have changed them
		s.why = "fewer were enough for less than down_after; now: " + why
	}
}

// demand is what a pool bears, to which these variants lead.
func (pl *pool) demand(lives []*variantLive, now time.Time) balancer.Demand {
	d := balancer.Demand{Utilization: math.NaN(), P95: math.NaN(), Usable: len(pl.UsableEndpoints())}
	reports, utilization := 0, 0.0
	for _, e := range pl.Endpoints() {
		if e.Draining() {
			continue
		}
		d.Replicas++
		d.Inflight += float64(e.Inflight())
		for _, s := range e.Reported(now) {
			switch {
			case s.Age > reportCounts:
			case s.Signal == balancer.Utilization:
				reports++
				utilization += s.Value
			case s.Signal == balancer.Queue:
				d.Queue += s.Value
			}
		}
	}
	if reports > 0 {
		d.Utilization = utilization / float64(reports)
	}
	if pl.load != nil && pl.load.bound != nil {
		d.Queue += float64(pl.load.bound.queue.Figures().Waiting)
	}
	latency := &stats.Snapshot{}
	for _, live := range lives {
		if w := live.window.Recent(now); w.Span > 0 {
			d.Rate += float64(w.Count()) / w.Span.Seconds()
			latency.Merge(w.Snapshot)
		}
	}
	if p95, ok := latency.Quantile(0.95); ok {
		d.P95 = p95.Seconds()
	}
	return d
}

// reportCounts is the age up to which what an endpoint says of its load counts for scaling.
const reportCounts = 30 * time.Second

// scaleMetrics are those that an autoscaler may read in place of the API.
type scaleMetrics struct {
	replicas, usable, inflight, queue, rate, utilization, p95, desired *prometheus.Desc
	lookups, changes                                                   *prometheus.Desc
}

func newScaleMetrics(d func(name, help string, labels ...string) *prometheus.Desc) scaleMetrics {
	return scaleMetrics{
		replicas:    d("pool_replicas", "Endpoints of the pool that do not drain.", "pool"),
		usable:      d("pool_usable_replicas", "Endpoints of the pool that get requests.", "pool"),
		inflight:    d("pool_inflight", "Attempts under way at the endpoints of the pool that do not drain.", "pool"),
		queue:       d("pool_queue", "Requests that wait for the pool: in weir, and as its endpoints report.", "pool"),
		rate:        d("pool_requests_per_second", "Requests of the pool that ended in the last 10 to 15 s, per second.", "pool"),
		utilization: d("pool_utilization", "Mean utilization that the pool's endpoints report, 1 is full; absent while nobody does.", "pool"),
		p95:         d("pool_p95_seconds", "95th percentile of the latency of the pool's requests in the last 10 to 15 s; absent while there are none.", "pool"),
		desired:     d("pool_desired_replicas", "How many replicas the pool should have, by its key scale.", "pool"),
		lookups:     d("discovery_lookups_total", "Look-ups of the name that the pool finds its endpoints by, by whether they came to something (ok, failed).", "pool", "result"),
		changes:     d("discovery_changes_total", "Times a look-up found other endpoints than the one before.", "pool"),
	}
}

func (m *scaleMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.replicas, m.usable, m.inflight, m.queue, m.rate, m.utilization, m.p95, m.desired, m.lookups, m.changes}
}

// collect tells of a pool, to which these variants lead.
func (m *scaleMetrics) collect(pl *pool, lives []*variantLive, now time.Time, s samples) {
	of := pl.scale(pl.demand(lives, now))
	s.gauge(m.replicas, float64(of.Replicas), of.Pool)
	s.gauge(m.usable, float64(of.Usable), of.Pool)
	s.gauge(m.inflight, of.Inflight, of.Pool)
	s.gauge(m.queue, of.Queue, of.Pool)
	s.gauge(m.rate, of.RequestsPerSecond, of.Pool)
	if of.Utilization != nil {
		s.gauge(m.utilization, *of.Utilization, of.Pool)
	}
	if of.P95 != nil {
		s.gauge(m.p95, *of.P95, of.Pool)
	}
	if of.DesiredReplicas != nil {
		s.gauge(m.desired, float64(*of.DesiredReplicas), of.Pool)
	}
	if d := pl.found; d != nil {
		d.mu.Lock()
		lookups, failures, changes := d.lookups, d.failures, d.changes
		d.mu.Unlock()
		s.count(m.lookups, lookups-failures, of.Pool, "ok")
		s.count(m.lookups, failures, of.Pool, "failed")
		s.count(m.changes, changes, of.Pool)
	}
}
