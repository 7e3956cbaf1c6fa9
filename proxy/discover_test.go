package proxy

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"weir/config"
)

// TestEndpointsFoundAsWeirStops: what was found while weir stopped its pools starts no new ones.
func TestEndpointsFoundAsWeirStops(t *testing.T) {
	p := New(Options{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}})
	cfg := twoPools{blue: "127.0.0.1:1", green: "127.0.0.1:2", split: "blue: 1, green: 1"}.parse(t)
	cfg.Pools[0].Endpoints, cfg.Pools[0].Discover = nil, &config.Discover{DNS: "ml-api.test:80", Interval: time.Hour}
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stopPools(p)
		p.mu.Lock()
		p.followNames(p.table.Load(), &table{})
		p.mu.Unlock()
		p.discovering.Wait()
	}()
	before := p.table.Load()
	d := before.pools[0].found
	d.mu.Lock()
	d.found = append(d.found, config.Endpoint{Address: "127.0.0.2:80", Weight: 1})
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p.mu.Lock()
	ended := make(chan error)
	go func() { ended <- p.rediscover(ctx, d) }()
	for p.applying.TryLock() { // until it has begun
		p.applying.Unlock()
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // it has made the pools, and waits for mu
	cancel()
	p.mu.Unlock()
	if err := <-ended; err != nil || p.table.Load() != before {
		t.Errorf("another table is in force; %v", err)
	}
}
