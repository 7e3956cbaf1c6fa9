package proxy

import (
	"fmt"

	"weir/balancer"
	"weir/balancer/rollout"
	"weir/config"
)

// trial counts what first attempts meet at two variants of a route, for the rollout from one to the other. As long as
// the weights are the same there is one epoch; each request counts in that by whose weights its variant was chosen.
type trial struct {
	from, to string
	epoch    *rollout.Epoch
	sides    []*rollout.Tally // parallel to the route's variants; nil for others than the two
}

// newTrial begins an epoch over a split; it is nil where one of the two is no variant any more.
func newTrial(from, to string, split *balancer.Split, epoch *rollout.Epoch) *trial {
	t := &trial{from: from, to: to, epoch: epoch, sides: make([]*rollout.Tally, len(split.Variants()))}
	var canary, stable float64
	found := 0
	for i, v := range split.Variants() {
		switch v.Pool.Name() {
		case to:
			t.sides[i], canary = &epoch.Canary, v.Weight
		case from:
			t.sides[i], stable = &epoch.Stable, v.Weight
		default:
			continue
		}
		found++
	}
	if found < 2 {
		return nil
	}
	if canary+stable > 0 {
		epoch.Share = canary / (canary + stable)
	}
	return t
}

// under is the trial after the route's split has become another one, or only the variants' places.
func (t *trial) under(split *balancer.Split, sameWeights bool) *trial {
	if t == nil {
		return nil
	}
	epoch := t.epoch
	if !sameWeights {
		epoch = new(rollout.Epoch)
	}
	return newTrial(t.from, t.to, split, epoch)
}

// chose notes which variant the weights chose for the request, and which it got. One that the chosen variant could not
// serve has failed there.
func (t *trial) chose(r *request, intended, got int) {
	r.tally = t.sides[intended]
	if r.tally != nil && got != intended {
		r.tally.Count(true, 0)
		r.tally = nil
	}
}

// tried counts the request's first attempt. What says nothing about the version is left out: that the client went away.
func (r *request) tried(outcome balancer.Outcome) {
	if outcome != balancer.Canceled {
		took := r.took
		if r.tunneled != nil || !r.stream.last.IsZero() { // how long they go on is not how fast the version is
			took = r.firstByte
		}
		r.tally.Count(outcome.Failed(), took)
	}
	r.tally = nil
}

// Try has the first attempts of a route's requests counted at two of its variants from now on, until EndTrial; of a
// trial between the same two that is under way nothing changes. It returns a *ControlError of 404 for an unknown route,
// 422 for unknown variants.
func (p *Proxy) Try(route, from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return t.unknownRoute(route)
	}
	if r.trial != nil && r.trial.from == from && r.trial.to == to {
		return nil
	}
	begun := newTrial(from, to, r.split, new(rollout.Epoch))
	if begun == nil {
		return &ControlError{Status: 422, Code: "unknown_variant", Message: fmt.Sprintf("route %s has not both the variants %s and %s", route, from, to)}
	}
	p.withTrial(t, r, begun)
	return nil
}

// EndTrial ends the counting, if there is any.
func (p *Proxy) EndTrial(route string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	if r := t.route(route); r != nil && r.trial != nil {
		p.withTrial(t, r, nil)
	}
}

// withTrial puts a table in force in which r has another trial. That is no change of routing.
func (p *Proxy) withTrial(t *table, r *route, trial *trial) {
	next := *t
	next.routes = append([]*route(nil), t.routes...)
	tried := *r
	tried.trial = trial
	next.routes[t.routeAt[r.cfg.Name]] = &tried
	p.table.Store(&next)
}

// Epoch is what the trial of a route counts in now, nil where there is none.
func (p *Proxy) Epoch(route string) *rollout.Epoch {
	r := p.table.Load().route(route)
	if r == nil || r.trial == nil {
		return nil
	}
	return r.trial.epoch
}

// Usable reports whether a pool has an endpoint that takes requests, and whether all that it has are healthy. Both are
// false for an unknown pool.
func (p *Proxy) Usable(pool string) (some, all bool) {
	pl := p.table.Load().pool(pool)
	if pl == nil {
		return false, false
	}
	endpoints := pl.Endpoints()
	all = len(endpoints) > 0
	for _, e := range endpoints {
		all = all && e.Healthy()
	}
	return pl.Usable(), all
}

// RouteConfig is what the file says of a route. It returns a *ControlError of 404 for an unknown one. It is shared: do
// not change it.
func (p *Proxy) RouteConfig(route string) (*config.Route, error) {
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return nil, t.unknownRoute(route)
	}
	return &r.cfg, nil
}
