package proxy

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"weir/balancer"
	"weir/internal/stats"
)

// durationBuckets are the bounds, in seconds, of weir's histograms: from a cached answer to a long
// generation.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// collector makes the metrics when they are asked for, out of the counters that requests have moved.
// Labels are names from the configuration, methods, status codes: nothing a client sent.
type collector struct {
	p *Proxy

	requests, duration, spillover, badRequests, retries, panics   *prometheus.Desc
	retriesRefused, rateLimited, rateCrowded                      *prometheus.Desc
	attempts, attemptDuration                                     *prometheus.Desc
	variantWeight, endpointWeight, inflight, healthy, ejected     *prometheus.Desc
	connections, endpointConnections, accessDropped, loopsBlocked *prometheus.Desc
	listenerFull, ejections, spared, panicking                    *prometheus.Desc
	generation, reloadOK, reloadTime                              *prometheus.Desc
}

// Collector returns the weir_* families of the data path.
func (p *Proxy) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_"+name, help, labels, nil)
	}
	return &collector{
		p:                   p,
		requests:            d("requests_total", "Requests that ended, by the status the client was sent; 499: the client left.", "route", "variant", "method", "code"),
		duration:            d("request_duration_seconds", "Duration of requests from their head to the last byte of the answer.", "route", "variant"),
		spillover:           d("spillover_total", "Requests of a variant without a usable endpoint that went to another variant.", "route", "variant"),
		badRequests:         d("bad_requests_total", "Requests refused because their head was not valid.", "reason"),
		retries:             d("retries_total", "Attempts after the first of a request, by what the one before met; stale is a kept-alive connection that had ended.", "route", "reason"),
		rateLimited:         d("rate_limited_total", "Requests refused by the route's rate limit.", "route"),
		rateCrowded:         d("rate_limit_crowded_total", "Requests whose key found no place of its own because so many others are short of their burst: they shared a bucket.", "route"),
		retriesRefused:      d("retry_budget_exhausted_total", "Retries that the route's budget did not allow.", "route"),
		panics:              d("panics_total", "Requests that ended in a panic inside weir: each is a bug."),
		attempts:            d("attempts_total", "Attempts at endpoints that ended, by how they ended.", "pool", "endpoint", "outcome"),
		attemptDuration:     d("attempt_duration_seconds", "Duration of attempts at endpoints.", "pool", "endpoint"),
		variantWeight:       d("variant_weight", "Weight of a variant in its route's split, as set.", "route", "variant"),
		endpointWeight:      d("endpoint_weight", "Weight of an endpoint as used now; 0 while it takes no new requests.", "pool", "endpoint"),
		inflight:            d("endpoint_inflight", "Attempts under way at an endpoint.", "pool", "endpoint"),
		healthy:             d("endpoint_healthy", "1 while the endpoint's probes succeed, else 0.", "pool", "endpoint"),
		ejections:           d("endpoint_ejections_total", "Times the endpoint was ejected as an outlier.", "pool", "endpoint"),
		spared:              d("endpoint_ejections_spared_total", "Times the endpoint was due to be ejected and stayed, because too many were or it was the last.", "pool", "endpoint"),
		panicking:           d("pool_panicking", "1 while ejected endpoints of the pool are used all the same, because too few others are left, else 0.", "pool"),
		ejected:             d("endpoint_ejected", "1 while the endpoint is ejected as an outlier, else 0.", "pool", "endpoint"),
		connections:         d("connections", "Connections open from clients."),
		listenerFull:        d("listener_full_total", "Times a listener reached its limit of connections: further clients wait until one ends.", "listener"),
		endpointConnections: d("endpoint_connections", "Connections open to an endpoint.", "pool", "endpoint"),
		accessDropped:       d("access_log_dropped_total", "Lines of the access log dropped because its output was too slow."),
		loopsBlocked:        d("loops_blocked_total", "Times an event loop was found blocked for at least 0.1 s: a bug, or a machine out of breath."),
		generation:          d("config_generation", "Number of the last change that was applied."),
		reloadOK:            d("config_last_reload_successful", "1 when the last configuration given to weir was applied, 0 when it was rejected."),
		reloadTime:          d("config_last_reload_timestamp_seconds", "When a configuration was last applied, in seconds since 1970."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.requests, c.duration, c.spillover, c.badRequests, c.retries, c.retriesRefused, c.rateLimited, c.rateCrowded, c.panics, c.attempts, c.attemptDuration,
		c.variantWeight, c.endpointWeight, c.inflight, c.healthy, c.ejected, c.connections, c.endpointConnections,
		c.listenerFull, c.ejections, c.spared, c.panicking, c.accessDropped, c.loopsBlocked, c.generation, c.reloadOK, c.reloadTime,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	t := c.p.table.Load()
	c.variant(&c.p.unrouted, count, ch)
	for _, r := range t.routes {
		c.variant(r.none, count, ch)
		for reason := range retryReason {
			count(c.retries, r.retry.live.counts[reason].Load(), r.cfg.Name, retryReason[reason])
		}
		count(c.retriesRefused, r.retry.live.exhausted.Load(), r.cfg.Name)
		if r.limit != nil {
			count(c.rateLimited, r.limit.keys.Refused(), r.cfg.Name)
			count(c.rateCrowded, r.limit.keys.Crowded(), r.cfg.Name)
		}
		for i, v := range r.split.Variants() {
			c.variant(r.variants[i], count, ch)
			gauge(c.variantWeight, v.Weight, r.cfg.Name, r.variants[i].pool)
			count(c.spillover, r.variants[i].live.spilled.Load(), r.cfg.Name, r.variants[i].pool)
		}
	}
	for _, pl := range t.pools {
		gauge(c.panicking, bit(pl.Panicking()), pl.Name())
		for _, e := range pl.Endpoints() {
			c.endpoint(e, count, gauge, ch)
		}
	}
	c.p.badRequests.each(func(reason string, n uint64) { count(c.badRequests, n, reason) })
	count(c.panics, c.p.panics.Load())
	gauge(c.connections, float64(c.p.connections.Load()))
	full := map[string]uint64{} // several listeners may have the address with port 0
	for _, l := range *c.p.listeners.Load() {
		full[l.address] += l.full.Load()
	}
	for address, n := range full {
		count(c.listenerFull, n, address)
	}
	if c.p.access != nil {
		count(c.accessDropped, c.p.access.Dropped())
	}
	count(c.loopsBlocked, c.p.engines.blockedCount())
	gauge(c.generation, float64(t.generation))
	reload := c.p.reloads.Load()
	gauge(c.reloadOK, bit(reload.ok))
	if !reload.at.IsZero() {
		gauge(c.reloadTime, float64(reload.at.UnixMilli())/1000)
	}
}

func (c *collector) variant(v *variant, count func(*prometheus.Desc, uint64, ...string), ch chan<- prometheus.Metric) {
	if v.live.requests.Load() == 0 && v.pool == "" {
		return // requests without a variant: only where there were any
	}
	v.live.codes.each(func(method string, code int, n uint64) {
		count(c.requests, n, v.route, v.pool, method, strconv.Itoa(code))
	})
	ch <- histogram(c.duration, &v.live.latency, v.route, v.pool)
}

func (c *collector) endpoint(e *balancer.Endpoint, count func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string), ch chan<- prometheus.Metric) {
	for _, o := range balancer.Outcomes() {
		count(c.attempts, e.OutcomeCount(o), e.Pool, e.Address, o.String())
	}
	ch <- histogram(c.attemptDuration, e.Latency(), e.Pool, e.Address)
	gauge(c.endpointWeight, e.EffectiveWeight(), e.Pool, e.Address)
	gauge(c.inflight, float64(e.Inflight()), e.Pool, e.Address)
	gauge(c.healthy, bit(e.Healthy()), e.Pool, e.Address)
	gauge(c.ejected, bit(e.Ejected()), e.Pool, e.Address)
	count(c.ejections, e.Ejections(), e.Pool, e.Address)
	count(c.spared, e.Spared(), e.Pool, e.Address)
	open, _ := e.Transport.(*transport).connections()
	gauge(c.endpointConnections, float64(open), e.Pool, e.Address)
}

func histogram(d *prometheus.Desc, h *stats.Histogram, labels ...string) prometheus.Metric {
	s := h.Snapshot()
	buckets := make(map[float64]uint64, len(durationBuckets))
	for i, n := range s.Cumulative(durationBuckets) {
		buckets[durationBuckets[i]] = n
	}
	return prometheus.MustNewConstHistogram(d, s.Count(), s.Sum().Seconds(), buckets, labels...)
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
