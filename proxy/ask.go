package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/balancer"
	"weir/config"
)

// Ask makes a request to every endpoint of a pool, over connections of its own, and returns what is wrong with the first
// answer that is not as expected. Like a probe it counts nowhere.
func (p *Proxy) Ask(ctx context.Context, pool string, q config.RolloutRequest) error {
	pl := p.table.Load().pool(pool)
	if pl == nil {
		return fmt.Errorf("pool %s is gone", pool)
	}
	for _, e := range pl.Endpoints() {
		if err := askEndpoint(ctx, e, q); err != nil {
			return fmt.Errorf("%s: %w", e.Address, err)
		}
	}
	return nil
}

func askEndpoint(ctx context.Context, e *balancer.Endpoint, q config.RolloutRequest) error {
	addrs := e.Addrs()
	if len(addrs) == 0 {
		return errors.New("has no address yet")
	}
	if q.Body != "" {
		return infer(ctx, e, addrs[0], config.Probe{Inference: &config.Inference{
			Path: q.Path, Body: q.Body, JSON: q.JSON, Tolerance: q.Tolerance, MaxLatency: q.MaxLatency,
		}})
	}
	began := time.Now()
	if err := probe(ctx, e, addrs[0], config.Probe{Path: q.Path, Status: config.StatusRange{Low: 200, High: 299}, JSON: q.JSON}); err != nil {
		return err
	}
	if took := time.Since(began); q.MaxLatency > 0 && took > q.MaxLatency {
		return fmt.Errorf("GET %s took %s; at most %s", q.Path, wholeMillis(took), wholeMillis(q.MaxLatency))
	}
	return nil
}
