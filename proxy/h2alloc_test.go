//go:build !race

package proxy

import "testing"

func TestHTTP2RequestAllocates(t *testing.T) {
	p, _ := costHTTP2Proxy(t)
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	// The decoder of field lists makes a string of each value that is not in its table, and those of the two fields
	// here are not.
	if n := testing.AllocsPerRun(2000, trip); n > 2 {
		t.Errorf("%v allocations per request over HTTP/2, want 2", n)
	}
}
