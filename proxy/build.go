package proxy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"weir/balancer"
	"weir/config"
	"weir/internal/state"
)

type variantKey struct{ route, pool string }

const (
	// resolveTimeout bounds the first look-up of endpoint names, so that a slow name server holds neither
	// the start nor a reload up for long. What it leaves open the pools look up while they run.
	resolveTimeout = 5 * time.Second
	resolveAtOnce  = 16 // pools; each asks for up to 16 names at once
)

// probeSpread is the time that first probes are given, for each endpoint of the configuration: a
// probe takes about 0.1 ms of a core, and requests need the rest of it.
const probeSpread = 500 * time.Microsecond

// Check builds everything cfg asks for, opens and changes nothing, and says what is wrong with it
// beyond what config.Load finds.
func Check(cfg *config.Config) error {
	p := New(Options{})
	old := p.table.Load()
	_, _, err := build(cfg, p.buildPools(cfg, old), old, "")
	return err
}

// Apply is ApplyFor the file's sake.
func (p *Proxy) Apply(cfg *config.Config) (generation uint64, changes []string, err error) {
	return p.ApplyFor(cfg, Cause{By: "file"})
}

// ApplyFor puts cfg in force and returns the generation and, one line each, what changed: first
// what weights set through the API it replaced, then config.Diff. Nothing has changed, and there is no new
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

	pools := p.buildPools(cfg, old)
	p.resolve(pools) // for seconds, perhaps: mu is free meanwhile
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
		p.switchListeners(cfg.Listeners, opened)
	}
	if next.generation == old.generation { // the configuration of the last run
		swap()
		return next.generation, changes, nil
	}
	kind := state.KindReload
	if !old.filled() {
		kind = state.KindStart
	}
	change := next.change(old, kind, cause)
	change.Notes = shortened(besideWeights(changes, change.Routes))
	p.commit(change, next, swap)
	return next.generation, changes, nil
}

func (p *Proxy) reloadTime(err error) time.Time {
	if err != nil {
		return p.reloads.Load().at
	}
	return time.Now()
}

// buildPools makes the pools of cfg. One that has not changed is old's own; the others take over the
// endpoints that old's have, and leave them as they are until they are started.
func (p *Proxy) buildPools(cfg *config.Config, old *table) (pools []*pool) {
	options := p.poolOptions(cfg)
	for _, c := range cfg.Pools {
		prev := old.pool(c.Name)
		switch {
		case prev == nil:
			pools = append(pools, &pool{Pool: balancer.NewPool(c, nil, options)})
		case reflect.DeepEqual(prev.Config(), c):
			pools = append(pools, prev)
		default:
			pools = append(pools, &pool{Pool: balancer.NewPool(c, prev.Pool, options)})
		}
	}
	return pools
}

// resolve looks up the names of endpoints that have no address yet, those of several pools at once.
func (p *Proxy) resolve(pools []*pool) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	var running sync.WaitGroup
	slots := make(chan struct{}, resolveAtOnce)
	for _, pl := range pools {
		if pl.Resolved() {
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if err := pl.Resolve(ctx); err != nil {
				p.log.Warn("a pool's names do not resolve yet", zap.String("pool", pl.Name()), zap.Error(err))
			}
		})
	}
	running.Wait()
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

// build makes the table of cfg, whose digest is sum, over these pools out of what is in force, and leaves
// that as it is. The notes say what becomes of the weights and drains in force.
func build(cfg *config.Config, pools []*pool, old *table, sum string) (t *table, notes []string, err error) {
	if cfg.Engine == config.EngineLoop && !haveLoops {
		return nil, nil, errors.New("engine: loop needs Linux; want auto or goroutine")
	}
	t = &table{
		cfg: cfg, digest: sum, generation: old.generation + 1, router: newRouter(cfg.Routes),
		trusted: cfg.TrustedProxies, live: map[variantKey]*variantLive{},
		routeAt: map[string]int{}, poolAt: map[string]int{},
	}
	if m := old.remembered; m != nil && m.Config == sum {
		t.generation = old.generation // as before the restart
	} else if m != nil {
		notes = append(notes, "the configuration is another one than before the restart")
	}
	for i, pl := range pools {
		t.poolAt[pl.Name()] = i
		prev := old.pool(pl.Name())
		if prev != nil && prev.Pool == pl.Pool {
			t.pools = append(t.pools, prev) // which may drain by now
			continue
		}
		before, _ := old.drains(pl.Name())
		pl.set = pl.heeds(before)
		if pl.set.Generation = t.generation; t.generation == old.generation {
			pl.set.Generation = before.Generation
		}
		t.pools = append(t.pools, pl)
	}
	for i, c := range cfg.Routes {
		r, note, err := t.buildRoute(c, old)
		if err != nil {
			return nil, nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
		t.routes = append(t.routes, r)
		t.routeAt[c.Name] = i
	}
	return t, notes, nil
}

// heeds are the drains among before that concern pl.
func (pl *pool) heeds(before state.Pool) state.Pool {
	set := state.Pool{Draining: before.Draining}
	for _, c := range pl.Config().Endpoints {
		if slices.Contains(before.Endpoints, c.Address) {
			set.Endpoints = append(set.Endpoints, c.Address)
		}
	}
	slices.Sort(set.Endpoints)
	return set
}

func (p *Proxy) poolOptions(cfg *config.Config) balancer.PoolOptions {
	endpoints := 0
	for _, c := range cfg.Pools {
		endpoints += len(c.Endpoints)
	}
	return balancer.PoolOptions{
		NewTransport: func(e *balancer.Endpoint) any { return p.newTransport(e) },
		Probe:        probe,
		Spread:       time.Duration(endpoints) * probeSpread,
		Resolve:      p.options.Resolve,
		Health:       p.options.Health,
		Log:          func(format string, args ...any) { p.log.Info(fmt.Sprintf(format, args...)) },
		Warn:         func(format string, args ...any) { p.log.Warn(fmt.Sprintf(format, args...)) },
	}
}

// buildRoute makes a route at the weights in force: the file's, or those set through the API while
// the file's split is still the one they were set upon.
func (t *table) buildRoute(c config.Route, old *table) (*route, string, error) {
	prev := old.route(c.Name)
	saved, known := old.saved(c.Name)
	weights, over, note := c.Split, (*overlay)(nil), ""
	if known && saved.Overlay != nil {
		if basis := configWeights(saved.Split); slices.Equal(basis, c.Split) {
			weights = configWeights(saved.Overlay)
			over = &overlay{basis: basis, weights: weights}
		} else {
			note = "route " + c.Name + ": the new split of the file replaces the weights set through the API"
		}
	}
	same := prev != nil && (over != nil) == (prev.overlay != nil) && reflect.DeepEqual(prev.cfg, c)
	if same && t.keeps(prev) {
		return prev, "", nil
	}
	r, err := t.newRoute(c, weights, old)
	if err != nil {
		return nil, "", err
	}
	r.overlay, r.generation = over, t.generation
	if same || t.generation == old.generation {
		r.generation = saved.Generation
	}
	return r, note, nil
}

// keeps takes a route of the table before over, figures and all, if its pools are all in t.
func (t *table) keeps(r *route) bool {
	for _, v := range r.split.Variants() {
		if pl := t.pool(v.Pool.Name()); pl == nil || pl.Pool != v.Pool {
			return false
		}
	}
	t.count(r.none)
	for _, v := range r.variants {
		t.count(v)
	}
	return true
}

// count adds a variant's figures to t's.
func (t *table) count(v *variant) { t.live[variantKey{v.route, v.pool}] = v.live }

// newRoute makes a route of t with these weights. Figures come from old; where the weights are as
// before, so does what was counted since they last changed.
func (t *table) newRoute(c config.Route, weights []config.Variant, old *table) (*route, error) {
	r := &route{cfg: c, fallback: -1}
	if c.Limits.Body != nil {
		r.bodyLimit = *c.Limits.Body
	}
	var variants []balancer.Variant
	for i, w := range weights {
		pl := t.pool(w.Pool)
		if pl == nil {
			return nil, fmt.Errorf("routes.%s.split: unknown pool %q", c.Name, w.Pool)
		}
		variants = append(variants, balancer.Variant{Pool: pl.Pool, Weight: w.Weight})
		r.variants = append(r.variants, t.variant(c.Name, pl.Pool, old))
		if c.Affinity != nil && c.Affinity.Fallback == w.Pool {
			r.fallback = i
		}
	}
	r.none = t.variant(c.Name, nil, old)
	if prev := old.route(c.Name); prev != nil {
		r.divide(variants, prev.split, prev.counts)
		return r, nil
	}
	saved, _ := old.saved(c.Name)
	r.divide(variants, recall(r.salt(), saved), nil)
	return r, nil
}

// recall makes the split of a route as it was before the restart, so that its subjects stay where they
// were; nil where it cannot be made any more.
func recall(salt string, saved state.Route) *balancer.Split {
	set := saved.Overlay
	if set == nil {
		set = saved.Split
	}
	var then []balancer.Variant
	for _, w := range set {
		pl := balancer.NewPool(config.Pool{Name: w.Pool}, nil, balancer.PoolOptions{}) // it may be gone; the table asks for names
		then = append(then, balancer.Variant{Pool: pl, Weight: w.Weight})
	}
	if then == nil {
		return nil
	}
	split, err := balancer.NewSplitFrom(salt, then, saved.Buckets)
	if err != nil {
		return nil // another salt
	}
	return split
}

func (r *route) salt() string {
	if r.cfg.Affinity == nil {
		return ""
	}
	return r.cfg.Affinity.Salt
}

// divide gives r a split. before, which may be nil, is the one it replaces, and counts what was chosen by
// that.
func (r *route) divide(variants []balancer.Variant, before *balancer.Split, counts *choices) {
	r.split = balancer.NewSplit(r.salt(), variants, before)
	r.counts = counts
	if counts == nil || !sameWeights(before, r.split) {
		r.counts = &choices{byVariant: make([]atomic.Uint64, len(variants))}
	}
}

// at returns the route at other weights, which are in the order of its variants.
func (r *route) at(weights []config.Variant) *route {
	next := *r
	variants := slices.Clone(r.split.Variants())
	for i := range variants {
		variants[i].Weight = weights[i].Weight
	}
	next.divide(variants, r.split, r.counts)
	return &next
}

// variant finds the figures of a variant in old by its names, so that they outlive tables. A nil pool
// stands for requests of the route for which none was chosen.
func (t *table) variant(route string, pl *balancer.Pool, old *table) *variant {
	v := &variant{route: route}
	if pl != nil {
		v.pool, v.version = pl.Name(), pl.Version()
		v.header = []byte("X-Weir-Variant: " + v.pool + "\r\n")
	}
	if v.live = old.live[variantKey{v.route, v.pool}]; v.live == nil {
		v.live = new(variantLive)
		v.live.window.Tick(time.Now()) // rates count from here
	}
	t.count(v)
	return v
}

// swap puts next in force and hands the endpoints over from old's pools to next's.
func (p *Proxy) swap(old, next *table) {
	for _, pl := range next.pools {
		if prev := old.pool(pl.Name()); prev != nil && prev.Pool == pl.Pool {
			continue
		}
		c := pl.Config().Connections
		for _, e := range pl.Endpoints() {
			e.Transport.(*transport).configure(transportSettings{max: c.Max, idle: c.Idle, connectTimeout: c.ConnectTimeout})
		}
		pl.Start()
	}
	p.table.Store(next)
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
		if !kept[e] {
			e.Transport.(*transport).close()
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
				o.closeAddress()
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
func (p *Proxy) switchListeners(want []config.Listener, opened []*listener) {
	gone := *p.listeners.Load()
	known := append(slices.Clone(gone), opened...)
	var inForce []*listener
	for _, c := range want {
		l := listenerOf(known, c.Address)
		l.configure(c)
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
