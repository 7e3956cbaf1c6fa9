//go:build !race

package proxy

import (
	"testing"

	"weir/config"
	"weir/proxy/enginetest"
)

func TestH2ServerDoesNotAllocate(t *testing.T) {
	want := 0.0
	if enginetest.Name() == config.EngineGoroutine {
		want = 4 // two for each goroutine: the request's, and the one that sends
	}
	for _, streams := range []int{1, 16} {
		p, _ := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
		trip := h2Trips(t, p, streams)
		for range 50 {
			trip()
		}
		if n := testing.AllocsPerRun(500, trip) / float64(streams); n > want {
			t.Errorf("%d streams at once: %v allocations per request with a body, want %v", streams, n, want)
		}
	}
}
