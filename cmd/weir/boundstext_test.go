package main

import (
	"strings"
	"testing"

	"weir/proxy"
)

func TestBoundsInStatus(t *testing.T) {
	v := exampleView()
	v.Routes[0].Concurrency = &proxy.RouteConcurrency{
		Key: &proxy.BoundStatus{Limit: 10, InUse: 31, Queued: 2, Refused: 7, Keys: 5}, Total: &proxy.BoundStatus{Limit: 200, InUse: 31, Queued: 1, Refused: 4},
	}
	v.Pools[0].Concurrency = &proxy.PoolConcurrency{Limit: 64, InUse: 12, Queued: 3, Refused: 9, Adaptive: &proxy.AdaptiveStatus{}}
	v.Pools[0].CircuitBreaker = &proxy.BreakerStatus{Open: true, Requests: 12, Pending: 4, Retries: 3, Refused: 21}
	var out strings.Builder
	v.write(&out)
	for _, line := range []string{
		"concurrency by key: 31 under way of 5 keys, at most 10 each, 2 queued, 7 refused",
		"concurrency: 31 of 200 under way, 1 queued, 4 refused",
		"concurrency: 12 of 64 under way, 3 queued, 9 refused, adaptive",
		"circuit breaker open: 12 requests, 4 pending, 3 retries, 21 refused",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), line) {
			t.Errorf("%q is not in\n%s", line, out.String())
		}
	}
}
