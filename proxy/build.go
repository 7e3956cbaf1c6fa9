package proxy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
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

// buildPools makes the pools of cfg, with the endpoints that discoveries found. One that has not changed is old's own; the
// others take over the endpoints that old's have, and leave them as they are until they are started.
func (p *Proxy) buildPools(cfg *config.Config, old *table, found []*discovery) (pools []*pool) {
	effective, endpoints := make([]config.Pool, len(cfg.Pools)), 0
	for i, c := range cfg.Pools {
		effective[i] = found[i].effective(c)
		endpoints += len(effective[i].Endpoints)
	}
	options := p.poolOptions(endpoints)
	for i, c := range effective {
		options.Resolve = p.resolverOf(c)
		prev := old.pool(c.Name)
		switch {
		case prev == nil:
			pools = append(pools, &pool{Pool: balancer.NewPool(c, nil, options), load: newLoad(c, nil), found: found[i], scaling: newScaling(c, nil)})
		case reflect.DeepEqual(prev.Config(), c):
			pools = append(pools, prev)
		default:
			pools = append(pools, &pool{Pool: balancer.NewPool(c, prev.Pool, options), load: newLoad(c, prev.load), found: found[i], scaling: newScaling(c, prev)})
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

// build makes the table of cfg, whose digest is sum, over these pools out of what is in force, and leaves
// that as it is. The notes say what becomes of the weights and drains in force.
func build(cfg *config.Config, pools []*pool, old *table, sum string) (t *table, notes []string, err error) {
	if cfg.Engine == config.EngineLoop && !haveLoops {
		return nil, nil, errors.New("engine: loop needs Linux; want auto or goroutine")
	}
	if err := checkMemory(cfg.Memory); err != nil {
		return nil, nil, err
	}
	t = &table{
		cfg: cfg, digest: sum, generation: old.generation + 1, router: newRouter(cfg.Routes),
		trusted: cfg.TrustedProxies, live: map[variantKey]*variantLive{},
		routeAt: map[string]int{}, poolAt: map[string]int{},
	}
	if m := old.remembered; cfg == old.cfg {
		t.generation = old.generation // other endpoints were found
	} else if m != nil && m.Config == sum {
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
	if err := t.newTLSClients(old); err != nil {
		return nil, nil, err
	}
	if err := t.newTLSServers(old); err != nil {
		return nil, nil, err
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

func (p *Proxy) poolOptions(endpoints int) balancer.PoolOptions {
	return balancer.PoolOptions{
		NewTransport: func(e *balancer.Endpoint) any { return p.newTransport(e) },
		Probe:        probe,
		Infer:        infer,
		Dial:         tryDial,
		Scrape:       p.scrape,
		Spread:       time.Duration(endpoints) * probeSpread,
		Health:       p.options.Health,
		Ejected:      p.options.Ejected,
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
		t.keepGate(prev, old)
		return prev, "", nil
	}
	r, err := t.newRoute(c, weights, old)
	if err != nil {
		return nil, "", err
	}
	var begins string
	if r.experiment, begins = newExperimenting(&c, r.split.Variants(), prev, saved.Experiment); note == "" {
		note = begins
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
	if r.mirror != nil && !r.mirror.of(t) {
		return false
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
	r := &route{cfg: c, fallback: -1, inspect: inspects(c)}
	prev := old.route(c.Name)
	if prev == nil {
		prev = &route{}
	}
	r.retry, r.limit = newRetrying(c.Retry, prev.retry.live), newLimited(c.RateLimit, prev.limit)
	r.hedge, r.trial = newHedging(c.Hedge, prev.hedge), prev.trial
	r.tunnels = newTunnels(c.WebSocket, prev.tunnels)
	var err error
	if r.gate, err = t.newGate(c, old); err != nil {
		return nil, err
	}
	r.compression = newCompression(c.Compress, prev.compression)
	r.edits = newEdits(c, r.compression)
	if m := c.Mirror; m != nil && t.pool(m.Pool) == nil {
		return nil, fmt.Errorf("routes.%s.mirror.pool: unknown pool %q", c.Name, m.Pool)
	}
	r.permits, r.cache, r.mirror = newPermits(c, prev.permits), newCached(c, prev.cache), t.newMirror(c.Mirror, prev.mirror)
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
		v := t.variant(c.Name, pl.Pool, old)
		v.load, v.heads = pl.load, newHeads(c.Hedge, prev, w.Pool)
		if h := pl.Config().Hash; h != nil {
			v.alike = sourceOf(h.Key)
			if h.Key.Kind == config.AffinityJSON {
				r.inspect = maxInspected
			}
		}
		of := pl.Config()
		v.asks = of.AsksForLoad()
		r.variants = append(r.variants, v)
		if c.Affinity != nil && c.Affinity.Fallback == w.Pool {
			r.fallback = i
		}
	}
	r.asks = askingOf(r.variants)
	if a := c.Affinity; a != nil {
		r.subject = subjectOf(a)
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
	same := counts != nil && sameWeights(before, r.split)
	if !same {
		r.counts = &choices{byVariant: make([]atomic.Uint64, len(variants))}
	}
	r.trial = r.trial.under(r.split, same)
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
		v.live.streams.recent.Tick(time.Now())
	}
	t.count(v)
	return v
}
