package proxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/internal/state"
)

// Check builds everything cfg asks for, opens and changes nothing, and says what is wrong with it
// beyond what config.Load finds.
func Check(cfg *config.Config) error {
	p := New(Options{})
	old := p.table.Load()
	_, _, err := build(cfg, p.buildPools(cfg, old, p.discoveries(cfg, old)), old, "")
	return err
}

// Apply is ApplyFor the file's sake.
func (p *Proxy) Apply(cfg *config.Config) (generation uint64, changes []string, err error) {
	return p.ApplyFor(cfg, Cause{By: "file"})
}

// ApplyFor puts cfg in force and returns the generation and, one line each and shortened, what changed:
// first what weights set through the API it replaced, then config.Diff. Nothing has changed, and there is no new
// generation, when it says the same as the one in force. On an error the old one stays in force, whole.
func (p *Proxy) ApplyFor(cfg *config.Config, cause Cause) (generation uint64, changes []string, err error) {
	p.applying.Lock()
	defer p.applying.Unlock()
	old := p.table.Load()
	changes = old.differences(cfg) // milliseconds, perhaps: not with mu held, and nobody else replaces old.cfg
	if len(changes) == 0 {
		p.reloads.Store(&reloadState{ok: true, at: time.Now()})
		return old.generation, nil, nil
	}
	defer func() { p.reloads.Store(&reloadState{ok: err == nil, at: p.reloadTime(err)}) }()

	found := p.discoveries(cfg, old)
	p.discover(found) // for seconds, perhaps, as below: mu is free meanwhile
	pools := p.buildPools(cfg, old, found)
	p.resolve(pools)
	sum := ""
	if p.options.Commit != nil {
		sum = digest(cfg)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	old = p.table.Load() // the same pools, but weights may have been set since
	next, notes, err := build(cfg, pools, old, sum)
	if err != nil {
		return old.generation, nil, err
	}
	changes = append(notes, changes...) // these first: a long list is shortened
	opened, err := p.openListeners(cfg.Listeners)
	if err != nil {
		return old.generation, nil, err
	}
	// Everything above can fail and has touched nothing live. From here on nothing can fail.
	swap := func() {
		p.swap(old, next)
		p.switchListeners(next, opened)
		p.followSources(old, next) // an authority that is asked for a certificate looks at the listeners
	}
	if next.generation == old.generation { // the configuration of the last run
		swap()
		return next.generation, shortened(changes), nil
	}
	kind := state.KindReload
	if !old.filled() {
		kind = state.KindStart
	}
	change := next.change(old, kind, cause)
	change.Notes = shortened(besideWeights(changes, change.Routes))
	p.commit(change, next, swap)
	return next.generation, shortened(changes), nil
}

func (p *Proxy) reloadTime(err error) time.Time {
	if err != nil {
		return p.reloads.Load().at
	}
	return time.Now()
}

// differences are what cfg says otherwise than the configuration in force. Beside none everything is new,
// which a history need not list.
func (t *table) differences(cfg *config.Config) (lines []string) {
	if !t.filled() {
		return []string{cfg.Summary()}
	}
	for _, d := range config.Diff(t.cfg, cfg) {
		lines = append(lines, d.String())
	}
	return lines
}

// besideWeights leaves out of changes the splits of routes that a history has at their new weights anyway.
func besideWeights(changes []string, routes []state.RouteChange) []string {
	told := map[string]bool{}
	for _, r := range routes {
		if r.Before != nil && r.After != nil {
			told[config.ChildKey("routes", r.Route)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(changes), func(line string) bool {
		route, _, ok := strings.Cut(line, ".split")
		return ok && told[route]
	})
}

// swap puts next in force and hands the endpoints over from old's pools to next's.
func (p *Proxy) swap(old, next *table) {
	for _, pl := range next.pools {
		if prev := old.pool(pl.Name()); prev != nil && prev.Pool == pl.Pool {
			continue
		}
		for _, e := range pl.Endpoints() {
			e.Transport.(*transport).configure(pl.transportSettings())
		}
		pl.load.configure(pl.Config())
		pl.Start()
	}
	for _, r := range next.routes {
		if r.limit != nil {
			r.limit.enforce(p.sinceStart(time.Now()))
		}
		if r.cache != nil {
			r.cache.enforce()
		}
		r.permits.configure(r.cfg.Concurrency)
	}
	p.memory.configure(next.cfg.Memory)
	p.trace(next.cfg.Tracing, false)
	p.table.Store(next)
	p.followNames(old, next)
	next.follow(time.Now())
	old.succeed(next)
	next.drain(true) // as before a restart; a reload begins and ends none
	var stopping sync.WaitGroup
	for _, pl := range old.pools {
		heir := next.pool(pl.Name())
		if heir != nil && heir.Pool == pl.Pool {
			continue
		}
		stopping.Go(func() {
			pl.Stop()
			closeLost(pl, heir)
		})
	}
	stopping.Wait()
}

// closeLost closes the transports of endpoints that heir, which may be nil, did not take over.
func closeLost(pl, heir *pool) {
	kept := map[*balancer.Endpoint]bool{}
	if heir != nil {
		for _, e := range heir.Endpoints() {
			kept[e] = true
		}
	}
	for _, e := range pl.Endpoints() {
		switch t := e.Transport.(*transport); {
		case !kept[e]:
			t.close()
		case heir.Config().Load == nil:
			t.scraper.renew() // the last scrape may have begun behind configure: nobody else would close its connection
		}
	}
}

// openListeners opens the addresses that are not open yet. On an error it leaves none of them open.
func (p *Proxy) openListeners(want []config.Listener) (opened []*listener, err error) {
	for _, c := range want {
		if listenerOf(*p.listeners.Load(), c.Address) != nil {
			continue
		}
		l, err := p.listen(c)
		if err != nil {
			for _, o := range opened {
				o.discard()
			}
			return nil, fmt.Errorf("cannot listen on %s: %w", c.Address, err)
		}
		opened = append(opened, l)
	}
	return opened, nil
}

func listenerOf(known []*listener, address string) *listener {
	i := slices.IndexFunc(known, func(l *listener) bool { return l.address == address })
	if i < 0 {
		return nil
	}
	return known[i]
}

// switchListeners starts the new listeners, configures the kept ones, and stops the others.
func (p *Proxy) switchListeners(next *table, opened []*listener) {
	gone := *p.listeners.Load()
	known := append(slices.Clone(gone), opened...)
	var inForce []*listener
	for _, c := range next.cfg.Listeners {
		l := listenerOf(known, c.Address)
		l.configure(c, next.tls[c.Address])
		inForce = append(inForce, l)
	}
	p.listeners.Store(&inForce)
	for _, l := range opened {
		if p.serving.Load() {
			p.accepting.Go(l.accept)
		}
	}
	for _, l := range gone {
		if slices.Contains(inForce, l) {
			continue
		}
		if !p.serving.Load() { // it is bound all the same, so clients may be waiting in its backlog
			p.accepting.Go(l.accept)
		}
		go l.stop()
	}
}
