//go:build !race

package proxy

import (
	"testing"

	"weir/config"
)

// TestMirrorCostsNothingWhereNotDrawn: a request that is not copied allocates nothing, and makes no system call, for
// the mirror's sake.
func TestMirrorCostsNothingWhereNotDrawn(t *testing.T) {
	p, ops := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	cfg := *p.Config()
	cfg.Routes = append([]config.Route(nil), cfg.Routes...)
	cfg.Routes[0].Limits.Body = new(config.Size(1 << 20)) // and something that is not the mirror's
	cfg.Routes[0].Mirror = &config.Mirror{Pool: "p1", MaxActive: 64, MaxBody: 1 << 20, Compare: &config.Compare{}}
	if _, _, err := p.Apply(&cfg); err != nil {
		t.Fatal(err)
	}
	if p.table.Load().routes[0].mirror == nil {
		t.Fatal("there is no mirror")
	}
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	if n := testing.AllocsPerRun(2000, trip); n > 0 {
		t.Errorf("%v allocations per request, want none", n)
	}
	writes := ops.Writes.Load()
	for range 100 {
		trip()
	}
	if n := ops.Writes.Load() - writes; n != 200 {
		t.Errorf("%d writes for 100 requests, want 200", n)
	}
	if s, _ := p.Route("predict"); s.Mirror == nil || s.Mirror.Sent+s.Mirror.Skipped > 0 {
		t.Errorf("%+v", s.Mirror)
	}
}
