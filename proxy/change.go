package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"weir/config"
	"weir/internal/state"
)

// Cause says who changes something, and why; it ends up in the log and in the history.
type Cause struct{ By, Reason string }

// Update is a change of what lies over the file: weights of routes, drains.
type Update struct {
	Kind string // one of state's
	Cause
	// Weights of routes by name; all variants of a route and nothing else.
	Weights map[string]map[string]float64
	Drains  []state.DrainChange
	To      uint64 // the generation that a rollback goes to
	// Force puts it in force whatever the endpoints' health and capacity.
	Force bool
	// DryRun says what Update would, and changes nothing.
	DryRun bool
	// Check, where not nil, is called when nothing else can change any more; its error refuses the update.
	Check func() error
}

// Update puts u in force from the next request on, as one generation, which it returns: the old one
// where u changes nothing. Weights lie over the file's until a reload changes the route's split, drains
// while the pool or the endpoint is configured.
//
// It returns a *ControlError: 404 for an unknown route, pool or endpoint; 422 for weights that do not name
// every variant of the route and nothing else, are negative or above config.MaxWeight, or sum to 0; 409 where more
// traffic would go to a variant without a usable endpoint, or to a pool than its endpoints are said to
// bear, or where a drain would leave a route without a usable endpoint, or a pool with endpoints that are
// said to bear less than it gets. On an error nothing has changed.
func (p *Proxy) Update(u Update) (generation uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.table.Load()
	if u.Check != nil {
		if err := u.Check(); err != nil {
			return old.generation, err
		}
	}
	next, err := old.updated(&u)
	if err != nil {
		return old.generation, err
	}
	change := next.change(old, u.Kind, u.Cause)
	change.To = u.To
	if len(change.Routes) == 0 && len(change.Drains) == 0 {
		return old.generation, nil
	}
	if !u.Force {
		if err := next.bears(old); err != nil {
			return old.generation, err
		}
	}
	if u.DryRun {
		return old.generation, nil
	}
	p.commit(change, next, func() {
		next.drain(false) // before anybody is sent there
		p.table.Store(next)
		next.follow(time.Now())
		next.drain(true)
	})
	p.log.Info("routing changed", zap.String("kind", u.Kind), zap.Strings("changes", shortened(describeChange(&change))),
		zap.String("reason", u.Reason), zap.String("by", u.By), zap.Uint64("generation", next.generation))
	return next.generation, nil
}

// Weigh checks weights against the variants of a route and returns them in their order; without weights,
// those in force. Its errors are Update's.
func (p *Proxy) Weigh(route string, weights map[string]float64) ([]state.Weight, error) {
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return nil, t.unknownRoute(route)
	}
	set := r.weights()
	if weights != nil {
		var err error
		if set, err = r.weigh(weights); err != nil {
			return nil, err
		}
	}
	return stateWeights(set), nil
}

// commit has a change remembered, puts it in force, and has it told.
func (p *Proxy) commit(c state.Change, next *table, swap func()) {
	if p.options.Commit == nil {
		swap()
		return
	}
	after := p.options.Commit(c, next.document())
	swap()
	after()
}

// updated returns the table after u.
func (t *table) updated(u *Update) (*table, error) {
	next := *t
	next.generation++
	next.routes, next.pools = slices.Clone(t.routes), slices.Clone(t.pools)
	for name, weights := range u.Weights {
		i, ok := t.routeAt[name]
		if !ok {
			return nil, t.unknownRoute(name)
		}
		prev := t.routes[i]
		set, err := prev.weigh(weights)
		if err != nil {
			return nil, err
		}
		if slices.Equal(set, prev.weights()) {
			continue
		}
		r := prev.at(set)
		r.overlay, r.generation = &overlay{basis: prev.cfg.Split, weights: set}, next.generation
		if slices.Equal(set, prev.cfg.Split) { // the file's again
			r.overlay = nil
		}
		next.routes[i] = r
	}
	for _, d := range u.Drains {
		if err := next.setDrain(d); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// setDrain notes a drain in a table that is not in force yet.
func (t *table) setDrain(d state.DrainChange) error {
	i, ok := t.poolAt[d.Pool]
	if !ok {
		return &ControlError{Status: 404, Code: "unknown_pool",
			Message: fmt.Sprintf("unknown pool %q (have %s)", d.Pool, strings.Join(t.poolNames(), ", "))}
	}
	pl := *t.pools[i]
	if d.Endpoint == "" {
		pl.set.Draining = d.Draining
	} else {
		var addresses []string
		for _, e := range pl.Config().Endpoints {
			addresses = append(addresses, e.Address)
		}
		if !slices.Contains(addresses, d.Endpoint) {
			return &ControlError{Status: 404, Code: "unknown_endpoint",
				Message: fmt.Sprintf("pool %s has no endpoint %q (have %s)", d.Pool, d.Endpoint, strings.Join(addresses, ", "))}
		}
		kept := slices.DeleteFunc(slices.Clone(pl.set.Endpoints), func(a string) bool { return a == d.Endpoint })
		if d.Draining {
			kept = append(kept, d.Endpoint)
			slices.Sort(kept)
		}
		pl.set.Endpoints = kept
	}
	if len(drainChanges(d.Pool, t.pools[i].set, pl.set)) == 0 { // a rollback may name it all the same
		return nil
	}
	pl.set.Generation = t.generation
	t.pools[i] = &pl
	return nil
}

// drain begins the drains that the table has, or ends those that it has not.
func (t *table) drain(begin bool) {
	for _, pl := range t.pools {
		if pl.set.Draining == begin && pl.Draining() != begin {
			pl.Drain(begin)
		}
		for _, e := range pl.Endpoints() {
			if slices.Contains(pl.set.Endpoints, e.Address) == begin && e.DrainsItself() != begin {
				pl.DrainEndpoint(e.Address, begin)
			}
			e.Transport.(*transport).drain(e.Draining())
		}
	}
}

// filled reports whether a configuration has been applied.
func (t *table) filled() bool { return len(t.cfg.Listeners) > 0 }

// saved is what is remembered of a route: of t's, or before there is any, of the last run's.
func (t *table) saved(name string) (s state.Route, known bool) {
	if r := t.route(name); r != nil {
		return r.saved(), true
	}
	if t.remembered != nil {
		s, known = t.remembered.Routes[name]
	}
	return s, known
}

// drains is the same for pools.
func (t *table) drains(name string) (s state.Pool, known bool) {
	if pl := t.pool(name); pl != nil {
		return pl.set, true
	}
	if t.remembered != nil {
		s, known = t.remembered.Pools[name]
	}
	return s, known
}

func (r *route) saved() state.Route {
	s := state.Route{Generation: r.generation, Split: stateWeights(r.cfg.Split), Buckets: r.split.Memory()}
	if r.overlay != nil {
		s.Overlay = stateWeights(r.overlay.weights)
	}
	return s
}

// inForce are the weights of a route.
func inForce(s state.Route) []state.Weight {
	if s.Overlay != nil {
		return s.Overlay
	}
	return s.Split
}

// change describes how weights and drains of t differ from old's.
func (t *table) change(old *table, kind string, cause Cause) state.Change {
	c := state.Change{Generation: t.generation, Time: time.Now().UTC(), Kind: kind, By: cause.By, Reason: cause.Reason}
	for _, r := range t.routes {
		if old.route(r.cfg.Name) == r {
			continue
		}
		saved, _ := old.saved(r.cfg.Name)
		before, after := inForce(saved), stateWeights(r.weights())
		if !slices.Equal(before, after) {
			c.Routes = append(c.Routes, state.RouteChange{Route: r.cfg.Name, Before: before, After: after})
		}
	}
	for _, name := range old.routeNames() {
		if t.route(name) == nil {
			saved, _ := old.saved(name)
			c.Routes = append(c.Routes, state.RouteChange{Route: name, Before: inForce(saved)})
		}
	}
	for _, pl := range t.pools {
		before, _ := old.drains(pl.Name())
		c.Drains = append(c.Drains, drainChanges(pl.Name(), before, pl.set)...)
	}
	for _, name := range old.poolNames() {
		if t.pool(name) == nil {
			before, _ := old.drains(name)
			c.Drains = append(c.Drains, drainChanges(name, before, state.Pool{})...)
		}
	}
	return c
}

func (t *table) routeNames() (names []string) {
	for _, r := range t.routes {
		names = append(names, r.cfg.Name)
	}
	if t.remembered != nil {
		names = slices.Sorted(maps.Keys(t.remembered.Routes))
	}
	return names
}

func (t *table) poolNames() (names []string) {
	for _, p := range t.pools {
		names = append(names, p.Name())
	}
	if t.remembered != nil {
		names = slices.Sorted(maps.Keys(t.remembered.Pools))
	}
	return names
}

func drainChanges(pool string, before, after state.Pool) (changes []state.DrainChange) {
	if before.Draining != after.Draining {
		changes = append(changes, state.DrainChange{Pool: pool, Draining: after.Draining})
	}
	for _, a := range after.Endpoints {
		if !slices.Contains(before.Endpoints, a) {
			changes = append(changes, state.DrainChange{Pool: pool, Endpoint: a, Draining: true})
		}
	}
	for _, a := range before.Endpoints {
		if !slices.Contains(after.Endpoints, a) {
			changes = append(changes, state.DrainChange{Pool: pool, Endpoint: a})
		}
	}
	return changes
}

// document is what of t survives a restart.
func (t *table) document() *state.Document {
	d := &state.Document{
		Format: state.Format, Generation: t.generation, Config: t.digest,
		Routes: make(map[string]state.Route, len(t.routes)), Pools: make(map[string]state.Pool, len(t.pools)),
	}
	for _, r := range t.routes {
		d.Routes[r.cfg.Name] = r.saved()
	}
	for _, pl := range t.pools {
		d.Pools[pl.Name()] = pl.set
	}
	return d
}

// digest tells whether two configurations say the same.
func digest(cfg *config.Config) string {
	text, err := config.RenderJSON(cfg)
	if err != nil {
		return "" // Parse gives what Render takes
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func stateWeights(set []config.Variant) []state.Weight {
	if set == nil {
		return nil
	}
	weights := make([]state.Weight, len(set))
	for i, v := range set {
		weights[i] = state.Weight(v)
	}
	return weights
}

func configWeights(set []state.Weight) []config.Variant {
	if set == nil {
		return nil
	}
	weights := make([]config.Variant, len(set))
	for i, w := range set {
		weights[i] = config.Variant(w)
	}
	return weights
}

// describeChange says a change in short lines, for people.
func describeChange(c *state.Change) (lines []string) {
	for _, r := range c.Routes {
		lines = append(lines, "route "+r.Route+": "+describe(configWeights(r.Before))+" → "+describe(configWeights(r.After)))
	}
	for _, d := range c.Drains {
		line := "pool " + d.Pool
		if d.Endpoint != "" {
			line += ", endpoint " + d.Endpoint
		}
		lines = append(lines, line+map[bool]string{true: ": drains", false: ": drains no more"}[d.Draining])
	}
	return lines
}

// shownChanges is how many changes the log, the history and the answer to a reload name.
const shownChanges = 50

func shortened(changes []string) []string {
	if len(changes) <= shownChanges {
		return changes
	}
	return append(changes[:shownChanges:shownChanges], fmt.Sprintf("and %d more", len(changes)-shownChanges))
}
