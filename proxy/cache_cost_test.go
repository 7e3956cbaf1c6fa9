package proxy

import (
	"testing"
	"time"

	"weir/config"
)

func cachesPosts(r *config.Route) {
	r.Cache = &config.Cache{
		TTL: []config.StatusTTL{{Status: 200, TTL: time.Hour}}, MaxBytes: 1 << 20, MaxObject: 1 << 16,
		Methods: []string{"POST"}, Credentials: config.CacheSeparate, Coalesce: true,
		Key: []config.Source{{Kind: config.AffinityHeader, Name: "X-Tenant"}},
	}
}

// TestHitSystemCalls: a hit is a read and a write at the client.
func TestHitSystemCalls(t *testing.T) {
	p, ops := changedProxy(t, cachesPosts, costEndpoint(t, costAnswer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	const n = 1000
	reads, writes, peeks := ops.Reads.Load(), ops.Writes.Load(), ops.Peeks.Load()
	for range n {
		trip()
	}
	reads, writes, peeks = ops.Reads.Load()-reads, ops.Writes.Load()-writes, ops.Peeks.Load()-peeks
	if writes != n || peeks != 0 || reads > 2*n {
		t.Errorf("%d reads, %d writes, %d peeks for %d hits", reads, writes, peeks, n)
	}
	if c := p.Status().Routes[0].Cache; c.Misses != 1 || c.Hits != n+49 {
		t.Errorf("%+v", c)
	}
}

func BenchmarkHit(b *testing.B) {
	p, _ := changedProxy(b, cachesPosts, costEndpoint(b, costAnswer))
	trip := roundTrips(b, p, "{\"prediction\":1}")
	trip()
	b.ReportAllocs()
	for b.Loop() {
		trip()
	}
}
