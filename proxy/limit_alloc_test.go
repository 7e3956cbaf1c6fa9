//go:build !race

package proxy

import (
	"bytes"
	"testing"
	"time"

	"weir/config"
)

// TestLimitsDoNotAllocate: what a request is counted by is read where it stands, whatever it costs. A body that is
// looked into has a place in the buffer that it is sent from.
func TestLimitsDoNotAllocate(t *testing.T) {
	request := bytes.Replace([]byte(costRequest), []byte("0123456789012345678901234567890123456789"), []byte(`{"features":[[1,2,3,4,5],[1,2,3,4,5,6]]}`), 1)
	for name, change := range map[string]func(*config.RateLimit){
		"an address": func(c *config.RateLimit) { c.Source = config.AffinityClientIP },
		"a header":   func(*config.RateLimit) {},
		"patience":   func(c *config.RateLimit) { c.MaxDelay = time.Second },
		"a total":    func(c *config.RateLimit) { c.Total, c.TotalBurst = 1e6, 1e6 },
		"bytes":      func(c *config.RateLimit) { c.Cost = config.CostBytes },
		"rows":       func(c *config.RateLimit) { c.Cost = config.CostRows },
		"a tier": func(c *config.RateLimit) {
			c.Tiers = []config.Tier{{Name: "gold", Rate: 1e6, Burst: 1e6, Keys: []string{"user-4711"}}}
		},
		"a named tier": func(c *config.RateLimit) {
			c.Tiers, c.TierBy = []config.Tier{{Name: "cost", Rate: 1e6, Burst: 1e6}}, config.Source{Kind: config.AffinityHeader, Name: "user-agent"}
		},
	} {
		p, _ := changedProxy(t, func(r *config.Route) {
			r.RateLimit = &config.RateLimit{Source: config.AffinityHeader, Name: "x-user-id", Rate: 1e6, Burst: 1e6, Cost: config.CostRequests, MaxKeys: 1 << 18}
			change(r.RateLimit)
		}, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
		trip := tripsOf(t, p, request, "{\"prediction\":1}")
		for range 50 {
			trip()
		}
		if n := testing.AllocsPerRun(2000, trip); n > 0 {
			t.Errorf("%s: %v allocations per request, want none", name, n)
		}
	}
}
