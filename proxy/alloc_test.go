//go:build !race

package proxy

import "testing"

func TestRequestDoesNotAllocate(t *testing.T) {
	p, _ := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	// The one is fasthttp's: it looks for an unread rest of the body after the handler.
	if n := testing.AllocsPerRun(2000, trip); n > 1 {
		t.Errorf("%v allocations per request with a body, want 1", n)
	}
}
