//go:build !race

package proxy

import (
	"strings"
	"testing"

	"weir/config"
)

func TestRequestDoesNotAllocate(t *testing.T) {
	p, _ := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	if n := testing.AllocsPerRun(2000, trip); n > 0 {
		t.Errorf("%v allocations per request with a body, want none", n)
	}
}

// TestReportDoesNotAllocate: neither does the request of one, nor its reading.
func TestReportDoesNotAllocate(t *testing.T) {
	answer := strings.Replace(costAnswer, "\r\n", "\r\nendpoint-load-metrics: TEXT application_utilization=0.31, rps_fractional=1210.5, eps=0, named_metrics.in_flight=3, named_metrics.queue=0\r\n", 1)
	ask := func(c *config.Config) {
		for i := range c.Pools {
			c.Pools[i].Load = new(config.DefaultSignals())
		}
	}
	p, _ := changedConfigProxy(t, ask, costEndpoint(t, answer), costEndpoint(t, answer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	for range 50 {
		trip()
	}
	if n := testing.AllocsPerRun(2000, trip); n > 0 {
		t.Errorf("%v allocations per request with a report, want none", n)
	}
	for _, pl := range p.Status().Pools {
		if pl.Endpoints[0].Requests > 0 && pl.Endpoints[0].Load == nil {
			t.Errorf("no report of %s was read", pl.Name)
		}
	}
}
