package proxy

import "fmt"

// SetHook has hook called for each admitted request.
func SetHook(o *Options, hook func()) { o.hook = hook }

// CacheFlights is how many answers others may wait for, in the cache of the first route.
func CacheFlights(p *Proxy) int { return p.table.Load().routes[0].cache.live.UnderWay() }

// Leftovers says what parts of a route or a pool hold though no request is under way.
func Leftovers(p *Proxy) error {
	t := p.table.Load()
	for _, r := range t.routes {
		if r.mirror != nil && r.mirror.live.active.Load() != 0 {
			return fmt.Errorf("%s: %d copies", r.cfg.Name, r.mirror.live.active.Load())
		}
		if r.cache != nil && r.cache.live.refreshing.Load() != 0 {
			return fmt.Errorf("%s: %d refreshes", r.cfg.Name, r.cache.live.refreshing.Load())
		}
	}
	for _, pl := range t.pools {
		if b := pl.load.breakerOf(); b != nil {
			for i := range b.under {
				if n := b.under[i].Load(); n != 0 {
					return fmt.Errorf("%s: its breaker counts %d %s", pl.Name(), n, breakerLimit[i])
				}
			}
		}
		for _, e := range pl.Endpoints() {
			tr := e.Transport.(*transport)
			if open, idle := tr.connections(); open != idle || tr.waiting.Load() != 0 {
				return fmt.Errorf("%s: %d connections open, %d of them idle, %d requests wait", e.Address, open, idle, tr.waiting.Load())
			}
		}
	}
	return nil
}
