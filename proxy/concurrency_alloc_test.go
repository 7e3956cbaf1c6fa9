//go:build !race

package proxy

import "testing"

// TestBoundsDoNotAllocate: a request that does not have to wait costs what it costs without bounds.
func TestBoundsDoNotAllocate(t *testing.T) {
	p, _ := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	everyBound(t, p)
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	if n := testing.AllocsPerRun(1000, trip); n > 0.1 { // the watch's sweep makes some now and then
		t.Errorf("%v allocations per request, want none", n)
	}
}
