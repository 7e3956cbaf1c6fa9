package proxy

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CacheStatus is what the cache of a route holds, and what it was to requests since the route was configured.
type CacheStatus struct {
	Entries   int    `json:"entries"`
	Bytes     int64  `json:"bytes"`
	MaxBytes  int64  `json:"max_bytes"`
	Hits      uint64 `json:"hits"`
	Misses    uint64 `json:"misses"`
	Stale     uint64 `json:"stale"`
	Coalesced uint64 `json:"coalesced"` // answered with what another request at the same time has got
	Bypassed  uint64 `json:"bypassed"`
	Evictions uint64 `json:"evictions"`
}

func (c *cached) status() *CacheStatus {
	if c == nil {
		return nil
	}
	l, f := c.live, c.live.Figures()
	return &CacheStatus{
		Entries: f.Entries, Bytes: f.Bytes, MaxBytes: f.Max, Evictions: f.Evictions,
		Hits: l.results[cacheHit].Load(), Misses: l.results[cacheMiss].Load(), Stale: l.results[cacheStale].Load(),
		Coalesced: l.results[cacheCoalesced].Load(), Bypassed: l.results[cacheBypass].Load(),
	}
}

// PurgeCache forgets what the cache of a route keeps: all of it, or what was answered at a normalised path, with
// below also at paths under it. It returns how many answers there were.
func (p *Proxy) PurgeCache(route, path string, below bool) (int, error) {
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return 0, t.unknownRoute(route)
	}
	if r.cache == nil {
		return 0, &ControlError{Status: 409, Code: "no_cache", Message: fmt.Sprintf("route %q has no cache", route)}
	}
	if path != "" {
		clean, ok := normalisePath(nil, []byte(path))
		if !ok {
			return 0, &ControlError{Status: 422, Code: "invalid_path", Message: fmt.Sprintf("path %q: want one that begins with /", path)}
		}
		path = string(clean)
	}
	return r.cache.live.Purge(path, below, p.sinceStart(time.Now())), nil
}

// cacheMetrics are the metrics of caches.
type cacheMetrics struct{ requests, refreshes, bytes, maxBytes, entries, evictions *prometheus.Desc }

func newCacheMetrics(d func(name, help string, labels ...string) *prometheus.Desc) cacheMetrics {
	return cacheMetrics{
		requests:  d("cache_requests_total", "Requests whose answers may be cached, by what the cache was to them.", "route", "result"),
		refreshes: d("cache_refreshes_total", "Refreshes of stale answers in the background that ended, by how they ended.", "route", "outcome"),
		bytes:     d("cache_bytes", "Memory that the answers in the route's cache are charged with.", "route"),
		maxBytes:  d("cache_max_bytes", "Memory that the route's cache may use.", "route"),
		entries:   d("cache_entries", "Answers in the route's cache, with its notes on how they vary and which are not kept.", "route"),
		evictions: d("cache_evictions_total", "Answers that left the route's cache to make room for others.", "route"),
	}
}

func (d *cacheMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.requests, d.refreshes, d.bytes, d.maxBytes, d.entries, d.evictions}
}

func (d *cacheMetrics) collect(r *route, s samples) {
	if r.cache == nil {
		return
	}
	l, f, name := r.cache.live, r.cache.live.Figures(), r.cfg.Name
	for result, text := range cacheResultNames {
		if text != "" {
			s.count(d.requests, l.results[result].Load(), name, text)
		}
	}
	for outcome, text := range refreshOutcome {
		s.count(d.refreshes, l.refreshes[outcome].Load(), name, text)
	}
	s.gauge(d.bytes, float64(f.Bytes), name)
	s.gauge(d.maxBytes, float64(f.Max), name)
	s.gauge(d.entries, float64(f.Entries), name)
	s.count(d.evictions, f.Evictions, name)
}
