package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"weir/config"
)

// discovery finds the endpoints of a pool by a name, and knows those that the last good answer held. It is handed from
// table to table as long as the pool asks for the same name in the same way.
type discovery struct {
	pool    string
	of      config.Discover
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	srv     func(ctx context.Context, name string) ([]*net.SRV, error)
	stop    context.CancelFunc // nil until it runs; under Proxy.mu

	mu                         sync.Mutex
	found                      []config.Endpoint // in order of their addresses
	failure                    string            // why the last look-up came to nothing
	asked                      time.Time         // when the last one ended; zero: there was none
	lookups, failures, changes uint64
}

// newDiscovery is nil for a pool that lists its endpoints, and prev's where that asks for the same.
func (p *Proxy) newDiscovery(c config.Pool, prev *pool) *discovery {
	if c.Discover == nil {
		return nil
	}
	if prev != nil && prev.found != nil && prev.found.of == *c.Discover {
		return prev.found
	}
	d := &discovery{pool: c.Name, of: *c.Discover}
	resolver := nameServer(d.of.Server)
	d.resolve = p.resolverOf(c)
	d.srv = func(ctx context.Context, name string) ([]*net.SRV, error) {
		_, records, err := resolver.LookupSRV(ctx, "", "", name)
		return records, err
	}
	return d
}

// resolverOf is what looks up the names of a pool's hosts.
func (p *Proxy) resolverOf(c config.Pool) func(ctx context.Context, host string) ([]netip.Addr, error) {
	if c.Discover == nil || c.Discover.Server == "" {
		if p.options.Resolve != nil {
			return p.options.Resolve
		}
		return func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	resolver := nameServer(c.Discover.Server)
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return resolver.LookupNetIP(ctx, "ip", host)
	}
}

// nameServer is a resolver that asks one server, the system's where there is none.
func nameServer(address string) *net.Resolver {
	if address == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
}

// discoveries are parallel to the pools of cfg.
func (p *Proxy) discoveries(cfg *config.Config, old *table) []*discovery {
	all := make([]*discovery, len(cfg.Pools))
	for i, c := range cfg.Pools {
		all[i] = p.newDiscovery(c, old.pool(c.Name))
	}
	return all
}

// discover asks for the endpoints of pools that have never been asked for, those of several pools at once.
func (p *Proxy) discover(pools []*discovery) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	var running sync.WaitGroup
	slots := make(chan struct{}, resolveAtOnce)
	for _, d := range pools {
		if d == nil || !d.state().Checked.IsZero() {
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if _, _, err := d.ask(ctx); err != nil {
				p.log.Warn("a pool's endpoints are not found yet", zap.String("pool", d.pool), zap.String("name", d.of.DNS), zap.Error(err))
			}
		})
	}
	running.Wait()
}

// endpoints are those that were found last.
func (d *discovery) endpoints() []config.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.found)
}

// ask looks the name up once. An error, or an answer without endpoints, leaves those that were found last. first says that
// the look-up before had not failed.
func (d *discovery) ask(ctx context.Context) (changed, first bool, err error) {
	limited, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := d.lookup(limited)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("lookup %s: the answer holds no endpoint", d.of.DNS)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil && d.stop != nil {
		return false, false, ctx.Err() // nobody waits for it any more
	}
	d.asked = time.Now()
	d.lookups++
	if err != nil {
		d.failures++
		first = d.failure == ""
		d.failure = err.Error()
		return false, first, err
	}
	d.failure = ""
	if slices.Equal(found, d.found) {
		return false, false, nil
	}
	d.found = found
	d.changes++
	return true, false, nil
}

// lookup returns the endpoints that the name stands for, in order of their addresses.
func (d *discovery) lookup(ctx context.Context) (found []config.Endpoint, err error) {
	if d.of.SRV() {
		records, err := d.srv(ctx, d.of.DNS)
		if err != nil {
			return nil, err
		}
		found = endpointsOf(records)
	} else {
		host, port, _ := net.SplitHostPort(d.of.DNS)
		addrs, err := d.resolve(ctx, host)
		if err != nil {
			return nil, err
		}
		for _, a := range oneFamily(addrs) {
			found = append(found, config.Endpoint{Address: net.JoinHostPort(a.String(), port), Weight: 1})
		}
	}
	slices.SortFunc(found, func(a, b config.Endpoint) int { return strings.Compare(a.Address, b.Address) })
	return slices.CompactFunc(found, func(a, b config.Endpoint) bool { return a.Address == b.Address }), nil
}

// oneFamily leaves IPv4 addresses where there are any: a pod that has addresses of both kinds is one endpoint, not two.
func oneFamily(addrs []netip.Addr) []netip.Addr {
	all := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		all[i] = a.Unmap()
	}
	if !slices.ContainsFunc(all, netip.Addr.Is4) {
		return all
	}
	return slices.DeleteFunc(all, netip.Addr.Is6)
}

// endpointsOf are the records of the best (lowest) priority; those of the others are for clients that cannot reach these,
// which probes and retries see to here. A weight of 0 takes no requests while others have one (RFC 2782 gives it next to
// none); where all are 0 they are alike.
func endpointsOf(records []*net.SRV) (found []config.Endpoint) {
	best, weights := uint16(65535), 0
	for _, r := range records {
		best = min(best, r.Priority)
	}
	for _, r := range records {
		if host := strings.ToLower(strings.TrimSuffix(r.Target, ".")); r.Priority == best && host != "" && r.Port != 0 {
			weights += int(r.Weight)
			found = append(found, config.Endpoint{Address: net.JoinHostPort(host, strconv.Itoa(int(r.Port))), Weight: float64(r.Weight)})
		}
	}
	for i := range found {
		if weights == 0 {
			found[i].Weight = 1
		}
	}
	return found
}

// followNames has the names of next's pools looked up from now on, and no more those that only old's asked for. Called with
// p.mu held.
func (p *Proxy) followNames(old, next *table) {
	for _, pl := range next.pools {
		if d := pl.found; d != nil && d.stop == nil {
			ctx, stop := context.WithCancel(context.Background())
			d.mu.Lock()
			d.stop = stop
			d.mu.Unlock()
			p.discovering.Go(func() { p.keepDiscovering(ctx, d) })
		}
	}
	for _, pl := range old.pools {
		if d := pl.found; d != nil && (next.pool(pl.Name()) == nil || next.pool(pl.Name()).found != d) {
			d.stop() // and does not wait: it may be about to take p.mu
		}
	}
}

// firstAgain is how long after a look-up that failed the next one comes; twice as long with each further one, up to the
// interval.
const firstAgain = time.Second

func (p *Proxy) keepDiscovering(ctx context.Context, d *discovery) {
	again := min(firstAgain, d.of.Interval)
	wait := d.of.Interval
	if d.state().Error != "" {
		wait = again
	}
	timer := time.NewTimer(spread(wait))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		_, first, err := d.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if first {
				p.log.Warn("a pool's endpoints cannot be looked up; those found last stay in use", zap.String("pool", d.pool), zap.String("name", d.of.DNS), zap.Error(err))
			}
			timer.Reset(spread(again))
			again = min(2*again, d.of.Interval)
			continue
		}
		again = min(firstAgain, d.of.Interval)
		if err := p.rediscover(ctx, d); err != nil {
			p.log.Error("the endpoints that were found cannot be used; those before them stay in use", zap.String("pool", d.pool), zap.Error(err))
		}
		timer.Reset(spread(d.of.Interval))
	}
}

// spread is d, 10 % more or less at random.
func spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// rediscover puts what was found in force, where that is not what the pool has: a table of the same configuration and
// generation with other endpoints, as a reload would make it.
func (p *Proxy) rediscover(ctx context.Context, d *discovery) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	old := p.table.Load()
	before := slices.Clone(old.pool(d.pool).Config().Endpoints)
	if slices.Equal(before, d.endpoints()) {
		return nil
	}
	pools := p.buildPools(old.cfg, old, p.discoveries(old.cfg, old))
	p.resolve(pools) // targets of SRV records; mu is free meanwhile

	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return nil // weir has stopped meanwhile: nobody would stop what is started now
	}
	old = p.table.Load()
	next, _, err := build(old.cfg, pools, old, old.digest)
	if err != nil {
		return err
	}
	p.swap(old, next)
	p.followSources(old, next)
	added, gone := moved(before, next.pool(d.pool).Config().Endpoints)
	p.log.Info("a pool has other endpoints", zap.String("pool", d.pool), zap.String("name", d.of.DNS), zap.Strings("added", added), zap.Strings("gone", gone))
	return nil
}

// moved says which addresses are only in after, or have another weight there, and which only in before.
func moved(before, after []config.Endpoint) (added, gone []string) {
	for _, e := range after {
		if !slices.Contains(before, e) {
			added = append(added, e.Address)
		}
	}
	for _, e := range before {
		if !slices.ContainsFunc(after, func(a config.Endpoint) bool { return a.Address == e.Address }) {
			gone = append(gone, e.Address)
		}
	}
	return added, gone
}

// DiscoveryStatus says how the endpoints of a pool are found.
type DiscoveryStatus struct {
	DNS     string    `json:"dns"`
	Found   int       `json:"found"`            // endpoints, by the last good answer
	Checked time.Time `json:"checked,omitzero"` // when the last look-up ended
	Error   string    `json:"error,omitempty"`  // of the last look-up: what was found before stays in use
}

// state is nil without a discovery.
func (d *discovery) state() *DiscoveryStatus {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return &DiscoveryStatus{DNS: d.of.DNS, Found: len(d.found), Checked: d.asked.UTC(), Error: d.failure}
}

// effective is the configuration that the pool is built from: with the endpoints that were found.
func (d *discovery) effective(c config.Pool) config.Pool {
	if d != nil {
		c.Endpoints = d.endpoints()
	}
	return c
}
