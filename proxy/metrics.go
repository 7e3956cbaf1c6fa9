package proxy

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"weir/balancer"
	"weir/internal/stats"
	"weir/proxy/auth"
	"weir/proxy/grpc"
)

// durationBuckets are the bounds, in seconds, of weir's histograms: from a cached answer to a long
// generation.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// collector makes the metrics when they are asked for, out of the counters that requests have moved.
// Labels are names from the configuration, methods, status codes: nothing a client sent.
type collector struct {
	p      *Proxy
	bounds boundMetrics

	requests, duration, spillover, badRequests, retries, panics   *prometheus.Desc
	hedges, hedgesRefused, calls                                  *prometheus.Desc
	retriesRefused, rateLimited, rateDelayed, rateCrowded         *prometheus.Desc
	attempts, attemptDuration                                     *prometheus.Desc
	variantWeight, endpointWeight, inflight, healthy, ejected     *prometheus.Desc
	probes, probeDuration                                         *prometheus.Desc
	connections, endpointConnections, accessDropped, loopsBlocked *prometheus.Desc
	listenerFull, ejections, spared, panicking                    *prometheus.Desc
	memoryResident, memoryLimit, memoryRefused                    *prometheus.Desc
	generation, reloadOK, reloadTime                              *prometheus.Desc
	mirrors                                                       mirrorMetrics
	authChecks, authFresh                                         *prometheus.Desc
	compressedIn, compressedOut                                   *prometheus.Desc
	cache                                                         cacheMetrics
	experiments                                                   experimentMetrics
	http2                                                         http2Metrics
	signals                                                       signalMetrics
	scale                                                         scaleMetrics
	tunnels                                                       tunnelMetrics
	tls                                                           tlsMetrics
	clients                                                       clientMetrics
	firstByte, gap, streams, spans                                *prometheus.Desc
}

// Collector returns the weir_* families of the data path.
func (p *Proxy) Collector() prometheus.Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("weir_"+name, help, labels, nil)
	}
	return &collector{
		p:                   p,
		mirrors:             newMirrorMetrics(d),
		cache:               newCacheMetrics(d),
		experiments:         newExperimentMetrics(d),
		http2:               newHTTP2Metrics(d),
		signals:             newSignalMetrics(d),
		scale:               newScaleMetrics(d),
		bounds:              newBoundMetrics(d),
		tunnels:             newTunnelMetrics(d),
		tls:                 newTLSMetrics(d),
		clients:             newClientMetrics(d),
		requests:            d("requests_total", "Requests that ended, by the status the client was sent; 499: the client left.", "route", "variant", "method", "code"),
		calls:               d("grpc_requests_total", "Calls of gRPC that ended, by the status that the client takes them to have: that of the endpoint, weir's own, or CANCELLED where the client left.", "route", "variant", "status"),
		duration:            d("request_duration_seconds", "Duration of requests from their head to the last byte of the answer.", "route", "variant"),
		firstByte:           d("time_to_first_byte_seconds", "Time from a request's head to the first byte of its answer's body, of answers without a Content-Length: event streams and others that come in pieces.", "route", "variant"),
		gap:                 d("stream_gap_seconds", "Time between two pieces of an event stream.", "route", "variant"),
		streams:             d("streams", "Event streams under way.", "route", "variant"),
		spans:               d("trace_spans_total", "Spans of traced requests: exported to the collector, failed where it did not take them, dropped for want of room.", "outcome"),
		spillover:           d("spillover_total", "Requests of a variant without a usable endpoint that went to another variant.", "route", "variant"),
		badRequests:         d("bad_requests_total", "Requests refused because their head was not valid.", "reason"),
		retries:             d("retries_total", "Attempts after the first of a request, by what the one before met; stale is a kept-alive connection that had ended.", "route", "reason"),
		rateLimited:         d("rate_limited_total", "Requests refused by the route's rate limit.", "route"),
		rateDelayed:         d("rate_limit_delayed_total", "Requests beyond the route's rate limit that waited for their turn.", "route"),
		rateCrowded:         d("rate_limit_crowded_total", "Requests whose key found no place of its own because so many others are short of their burst: they shared a bucket.", "route"),
		retriesRefused:      d("retry_budget_exhausted_total", "Retries that the route's budget did not allow.", "route"),
		hedges:              d("hedges_total", "Second attempts beside slow first ones: won answered first, lost did not, failed had no answer.", "route", "outcome"),
		hedgesRefused:       d("hedge_budget_exhausted_total", "Second attempts beside slow first ones that the route's budget did not allow.", "route"),
		panics:              d("panics_total", "Requests that ended in a panic inside weir: each is a bug."),
		attempts:            d("attempts_total", "Attempts at endpoints that ended, by how they ended.", "pool", "endpoint", "outcome"),
		attemptDuration:     d("attempt_duration_seconds", "Duration of attempts at endpoints.", "pool", "endpoint"),
		variantWeight:       d("variant_weight", "Weight of a variant in its route's split, as set.", "route", "variant"),
		endpointWeight:      d("endpoint_weight", "Weight of an endpoint as used now; 0 while it takes no new requests.", "pool", "endpoint"),
		inflight:            d("endpoint_inflight", "Attempts under way at an endpoint.", "pool", "endpoint"),
		healthy:             d("endpoint_healthy", "1 while the endpoint's probes succeed, else 0.", "pool", "endpoint"),
		probes:              d("probes_total", "Questions that weir asked endpoints by itself, by their kind (probe, inference: a request with a known answer, or scrape: their metrics) and whether the answer was the expected one.", "pool", "endpoint", "kind", "result"),
		probeDuration:       d("probe_duration_seconds", "Duration of the questions that weir asked endpoints by itself, by their kind.", "pool", "endpoint", "kind"),
		ejections:           d("endpoint_ejections_total", "Times the endpoint was ejected as an outlier.", "pool", "endpoint"),
		spared:              d("endpoint_ejections_spared_total", "Times the endpoint was due to be ejected and stayed, because too many were or it was the last.", "pool", "endpoint"),
		panicking:           d("pool_panicking", "1 while ejected endpoints of the pool are used all the same, because too few others are left, else 0.", "pool"),
		ejected:             d("endpoint_ejected", "1 while the endpoint is ejected as an outlier, else 0.", "pool", "endpoint"),
		connections:         d("connections", "Connections open from clients."),
		listenerFull:        d("listener_full_total", "Times a listener reached its limit of connections: further clients wait until one ends.", "listener"),
		endpointConnections: d("endpoint_connections", "Connections open to an endpoint.", "pool", "endpoint"),
		accessDropped:       d("access_log_dropped_total", "Lines of the access log dropped because its output was too slow."),
		loopsBlocked:        d("loops_blocked_total", "Times an event loop was found blocked for at least 0.1 s: a bug, or a machine out of breath."),
		compressedIn:        d("compression_in_bytes_total", "Bytes of answers that were compressed, before that.", "route", "encoding"),
		compressedOut:       d("compression_out_bytes_total", "Bytes of answers that were compressed, after that.", "route", "encoding"),
		memoryResident:      d("memory_resident_bytes", "What the process holds of the machine's memory; only with memory.limit."),
		memoryLimit:         d("memory_limit_bytes", "The resident size from which on requests are refused (memory.limit)."),
		memoryRefused:       d("memory_refused_total", "Requests refused because weir was short of memory."),
		generation:          d("config_generation", "Number of the last change that was applied."),
		reloadOK:            d("config_last_reload_successful", "1 when the last configuration given to weir was applied, 0 when it was rejected."),
		authChecks:          d("auth_total", "Requests of a route with authentication, by what became of their credentials.", "route", "result"),
		authFresh:           d("auth_source_fresh", "1 while the latest content of a file or address of credentials is in force, 0 where it was rejected or has not come.", "source"),
		reloadTime:          d("config_last_reload_timestamp_seconds", "When a configuration was last applied, in seconds since 1970."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range slices.Concat(c.bounds.all(), c.http2.all(), c.signals.all(), c.scale.all(), c.cache.all(), c.experiments.all(), c.mirrors.all(), c.tunnels.all(), c.tls.all(), c.clients.all(), []*prometheus.Desc{
		c.requests, c.calls, c.duration, c.spillover, c.badRequests, c.retries, c.retriesRefused, c.hedges, c.hedgesRefused, c.rateLimited, c.rateDelayed, c.rateCrowded, c.panics, c.attempts, c.attemptDuration,
		c.variantWeight, c.endpointWeight, c.inflight, c.healthy, c.probes, c.probeDuration, c.ejected, c.connections, c.endpointConnections,
		c.listenerFull, c.ejections, c.spared, c.panicking, c.accessDropped, c.loopsBlocked, c.memoryResident, c.memoryLimit, c.memoryRefused, c.generation, c.reloadOK, c.reloadTime,
		c.authChecks, c.authFresh, c.compressedIn, c.compressedOut, c.firstByte, c.gap, c.streams, c.spans,
	}) {
		ch <- d
	}
}

// samples are what is given to who has asked for the metrics.
type samples chan<- prometheus.Metric

func (s samples) count(d *prometheus.Desc, n uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (s samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s samples) histogram(d *prometheus.Desc, h *stats.Histogram, labels ...string) {
	seen := h.Snapshot()
	buckets := make(map[float64]uint64, len(durationBuckets))
	for i, n := range seen.Cumulative(durationBuckets) {
		buckets[durationBuckets[i]] = n
	}
	s <- prometheus.MustNewConstHistogram(d, seen.Count(), seen.Sum().Seconds(), buckets, labels...)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	t, s := c.p.table.Load(), samples(ch)
	c.variant(&c.p.unrouted, s)
	for _, r := range t.routes {
		c.route(r, s)
	}
	s.count(c.spans, c.p.spans.Exported.Load(), "exported")
	s.count(c.spans, c.p.spans.Failed.Load(), "failed")
	s.count(c.spans, c.p.spans.Dropped.Load(), "dropped")
	for name, fresh := range t.sourceStates() {
		s.gauge(c.authFresh, bit(fresh), name)
	}
	now, lives := time.Now(), t.livesByPool()
	for _, pl := range t.pools {
		s.gauge(c.panicking, bit(pl.Panicking()), pl.Name())
		c.scale.collect(pl, lives[pl.Name()], now, s)
		c.bounds.pool(pl, s)
		for _, e := range pl.Endpoints() {
			c.endpoint(e, s)
			c.checks(pl, e, s)
		}
	}
	c.process(t, s)
}

// route is a route with its variants and what it does to requests.
func (c *collector) route(r *route, s samples) {
	name := r.cfg.Name
	if x := r.experiment; x != nil {
		c.experiments.collect(name, x, s)
	}
	c.variant(r.none, s)
	for i, v := range r.split.Variants() {
		c.variant(r.variants[i], s)
		s.gauge(c.variantWeight, v.Weight, name, r.variants[i].pool)
		s.count(c.spillover, r.variants[i].live.spilled.Load(), name, r.variants[i].pool)
		streams := &r.variants[i].live.streams
		s.histogram(c.firstByte, &streams.firstByte, name, r.variants[i].pool)
		s.histogram(c.gap, &streams.gap, name, r.variants[i].pool)
		s.gauge(c.streams, float64(streams.open.Load()), name, r.variants[i].pool)
	}
	for reason, text := range retryReason {
		s.count(c.retries, r.retry.live.counts[reason].Load(), name, text)
	}
	s.count(c.retriesRefused, r.retry.live.exhausted.Load(), name)
	if h := r.hedge; h != nil {
		s.count(c.hedges, h.live.won.Load(), name, "won")
		s.count(c.hedges, h.live.lost.Load(), name, "lost")
		s.count(c.hedges, h.live.failed.Load(), name, "failed")
		s.count(c.hedgesRefused, h.live.exhausted.Load(), name)
	}
	if l := r.limit; l != nil {
		s.count(c.rateLimited, l.live.refused.Load(), name)
		s.count(c.rateDelayed, l.live.delayed.Load(), name)
		s.count(c.rateCrowded, l.crowded(), name)
	}
	if g := r.gate.guarded(); g != nil {
		for v := range auth.Verdicts {
			s.count(c.authChecks, g.verdicts[v].Load(), name, v.String())
		}
	}
	if z := r.compression; z != nil {
		for _, one := range z.codings {
			s.count(c.compressedIn, z.live.in[one].Load(), name, codingName[one])
			s.count(c.compressedOut, z.live.out[one].Load(), name, codingName[one])
		}
	}
	c.bounds.route(r, s)
	c.cache.collect(r, s)
	c.tunnels.collect(r, s)
	c.mirrors.collect(name, r.mirror, s)
}

// process is what is no route's and no pool's.
func (c *collector) process(t *table, s samples) {
	p := c.p
	c.tls.collect(p, s)
	p.badRequests.each(func(reason string, n uint64) { s.count(c.badRequests, n, reason) })
	s.count(c.panics, p.panics.Load())
	s.gauge(c.connections, float64(p.connections.Load()))
	c.clients.collect(p.http2, s)
	full := map[string]uint64{} // several listeners may have the address with port 0
	for _, l := range *p.listeners.Load() {
		full[l.address] += l.full.Load()
	}
	for address, n := range full {
		s.count(c.listenerFull, n, address)
	}
	if p.access != nil {
		s.count(c.accessDropped, p.access.Dropped())
	}
	s.count(c.loopsBlocked, p.engines.blockedCount())
	if limit := t.cfg.Memory.Limit; limit > 0 {
		s.gauge(c.memoryResident, float64(p.memory.resident.Load()))
		s.gauge(c.memoryLimit, float64(limit))
		s.count(c.memoryRefused, p.memory.refused.Load())
	}
	s.gauge(c.generation, float64(t.generation))
	reload := p.reloads.Load()
	s.gauge(c.reloadOK, bit(reload.ok))
	if !reload.at.IsZero() {
		s.gauge(c.reloadTime, float64(reload.at.UnixMilli())/1000)
	}
}

func (c *collector) variant(v *variant, s samples) {
	if v.live.requests.Load() == 0 && v.pool == "" {
		return // requests without a variant: only where there were any
	}
	v.live.codes.each(func(method string, code int, n uint64) {
		s.count(c.requests, n, v.route, v.pool, method, strconv.Itoa(code))
	})
	for status := range v.live.calls {
		if n := v.live.calls[status].Load(); n > 0 {
			s.count(c.calls, n, v.route, v.pool, grpc.Code(status).String())
		}
	}
	s.histogram(c.duration, &v.live.latency, v.route, v.pool)
}

func (c *collector) endpoint(e *balancer.Endpoint, s samples) {
	for _, o := range balancer.Outcomes() {
		s.count(c.attempts, e.OutcomeCount(o), e.Pool, e.Address, o.String())
	}
	s.histogram(c.attemptDuration, e.Latency(), e.Pool, e.Address)
	s.gauge(c.endpointWeight, e.EffectiveWeight(), e.Pool, e.Address)
	s.gauge(c.inflight, float64(e.Inflight()), e.Pool, e.Address)
	s.gauge(c.healthy, bit(e.Healthy()), e.Pool, e.Address)
	s.gauge(c.ejected, bit(e.Ejected()), e.Pool, e.Address)
	s.count(c.ejections, e.Ejections(), e.Pool, e.Address)
	s.count(c.spared, e.Spared(), e.Pool, e.Address)
	open, _ := e.Transport.(*transport).connections()
	s.gauge(c.endpointConnections, float64(open), e.Pool, e.Address)
	c.http2.collect(e, s)
	c.signals.collect(e, s)
}

// checks are the questions of a pool that asks any.
func (c *collector) checks(pl *pool, e *balancer.Endpoint, s samples) {
	for _, kind := range balancer.Checks() {
		if !pl.Asks(kind) {
			continue
		}
		checked := e.Checked(kind)
		s.count(c.probes, checked.Succeeded(), e.Pool, e.Address, kind.String(), "success")
		s.count(c.probes, checked.Failed(), e.Pool, e.Address, kind.String(), "failure")
		s.histogram(c.probeDuration, checked.Latency(), e.Pool, e.Address, kind.String())
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
