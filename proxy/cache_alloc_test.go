//go:build !race

package proxy

import "testing"

// TestHitDoesNotAllocate: a hit costs no more than any request does. That a route without a cache pays nothing
// for it TestRequestDoesNotAllocate asserts.
func TestHitDoesNotAllocate(t *testing.T) {
	p, _ := changedProxy(t, cachesPosts, costEndpoint(t, costAnswer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	if n := testing.AllocsPerRun(2000, trip); n > 0 {
		t.Errorf("%v allocations per hit, want none", n)
	}
}
