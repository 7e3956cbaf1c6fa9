package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/proxy/queue"
)

// BoundStatus is a limit on requests under way.
type BoundStatus struct {
	Limit   int    `json:"limit"` // of each key where keys are told apart
	InUse   int    `json:"in_use"`
	Queued  int    `json:"queued"`
	Refused uint64 `json:"refused"`        // since the start
	Keys    int    `json:"keys,omitempty"` // that have requests under way
}

// RouteConcurrency are the bounds of a route.
type RouteConcurrency struct {
	Key   *BoundStatus `json:"key,omitempty"`
	Total *BoundStatus `json:"total,omitempty"`
}

// PoolConcurrency is the bound of a pool.
type PoolConcurrency struct {
	Limit    int             `json:"limit"` // as used now
	InUse    int             `json:"in_use"`
	Queued   int             `json:"queued"`
	Refused  uint64          `json:"refused"` // since the start
	Adaptive *AdaptiveStatus `json:"adaptive,omitempty"`
}

// AdaptiveStatus is what a limit that follows latency goes by.
type AdaptiveStatus struct {
	LeastLatency *float64 `json:"least_latency_ms"` // null until it is known
	Measuring    bool     `json:"measuring"`        // the limit is lowered meanwhile
}

// BreakerStatus is a circuit breaker with what is under way.
type BreakerStatus struct {
	Open     bool   `json:"open"` // something is at its limit, or was refused in the last seconds
	Requests int64  `json:"requests"`
	Pending  int64  `json:"pending"`
	Retries  int64  `json:"retries"`
	Refused  uint64 `json:"refused"` // since the start
}

func (b *bound) status(f queue.Figures) *BoundStatus {
	s := &BoundStatus{Limit: f.Limit, InUse: f.Under, Queued: f.Waiting}
	for i := range b.refused {
		s.Refused += b.refused[i].Load()
	}
	return s
}

func (p *permits) status() *RouteConcurrency {
	if p == nil {
		return nil
	}
	s := &RouteConcurrency{}
	if b := p.keys; b != nil {
		f, keys := b.keys.Figures()
		s.Key = b.status(f)
		s.Key.Keys = keys
	}
	if b := p.total; b != nil {
		s.Total = b.status(b.queue.Figures())
	}
	return s
}

func (l *load) status() (*PoolConcurrency, *BreakerStatus) {
	if l == nil {
		return nil, nil
	}
	var c *PoolConcurrency
	if b := l.bound; b != nil {
		s := b.status(b.queue.Figures())
		c = &PoolConcurrency{Limit: s.Limit, InUse: s.InUse, Queued: s.Queued, Refused: s.Refused}
	}
	if a := l.adaptive; a != nil {
		least, measuring := a.figures()
		c.Adaptive = &AdaptiveStatus{Measuring: measuring}
		if least > 0 {
			ms := float64(least.Microseconds()) / 1000
			c.Adaptive.LeastLatency = &ms
		}
	}
	if l.breaker == nil {
		return c, nil
	}
	b := l.breaker
	s := &BreakerStatus{
		Open: b.isOpen(), Requests: b.under[breakerRequests].Load(), Pending: b.under[breakerPending].Load(), Retries: b.under[breakerRetries].Load(),
	}
	for i := range b.refused {
		s.Refused += b.refused[i].Load()
	}
	return c, s
}

// boundMetrics are those of bounds and breakers.
type boundMetrics struct {
	limit, inflight, queued, overloaded, wait *prometheus.Desc
	open, refused                             *prometheus.Desc
}

func newBoundMetrics(d func(name, help string, labels ...string) *prometheus.Desc) boundMetrics {
	return boundMetrics{
		limit:      d("concurrency_limit", "Requests that may be under way: of each key, of the route, or of the pool, whose limit may follow its latency.", "route", "pool", "limit"),
		inflight:   d("concurrency_inflight", "Requests under way that such a limit counts, those of all keys together.", "route", "pool", "limit"),
		queued:     d("concurrency_queued", "Requests that wait for their turn at such a limit.", "route", "pool", "limit"),
		overloaded: d("overloaded_total", "Requests refused by such a limit: the queue was full, they waited too long, their turn would have come after their deadline, or they made room for others.", "route", "pool", "limit", "reason"),
		wait:       d("queue_duration_seconds", "How long requests that had to wait at such a limit did, of those that got their turn.", "route", "pool", "limit"),
		open:       d("circuit_breaker_open", "1 while the pool has as much under way as its circuit breaker allows, or had in the last seconds, else 0.", "pool"),
		refused:    d("circuit_breaker_refused_total", "Requests, waits for a connection and retries that the pool's circuit breaker refused.", "pool", "limit"),
	}
}

func (m *boundMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{m.limit, m.inflight, m.queued, m.overloaded, m.wait, m.open, m.refused}
}

func (m *boundMetrics) route(r *route, s samples) {
	if r.permits == nil {
		return
	}
	if b := r.permits.keys; b != nil {
		f, _ := b.keys.Figures()
		m.bound(&b.bound, f, r.cfg.Name, "", s)
	}
	if b := r.permits.total; b != nil {
		m.bound(&b.bound, b.queue.Figures(), r.cfg.Name, "", s)
	}
}

func (m *boundMetrics) pool(pl *pool, s samples) {
	if pl.load == nil {
		return
	}
	if b := pl.load.bound; b != nil {
		m.bound(&b.bound, b.queue.Figures(), "", pl.Name(), s)
	}
	if b := pl.load.breaker; b != nil {
		s.gauge(m.open, bit(b.isOpen()), pl.Name())
		for what, name := range breakerLimit {
			s.count(m.refused, b.refused[what].Load(), pl.Name(), name)
		}
	}
}

func (m *boundMetrics) bound(b *bound, f queue.Figures, route, pool string, s samples) {
	s.gauge(m.limit, float64(f.Limit), route, pool, b.what)
	s.gauge(m.inflight, float64(f.Under), route, pool, b.what)
	s.gauge(m.queued, float64(f.Waiting), route, pool, b.what)
	for why, name := range refusal {
		s.count(m.overloaded, b.refused[why].Load(), route, pool, b.what, name)
	}
	s.histogram(m.wait, &b.wait, route, pool, b.what)
}
