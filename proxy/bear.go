package proxy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"weir/balancer"
)

// bears says why t would be worse than old for requests: see Update. It looks at what changes only, so
// that traffic can always be taken away from where it is in trouble.
func (t *table) bears(old *table) error {
	pressed := map[string]bool{} // pools that are to do more, or the same with less
	for i, r := range t.routes {
		if t.leavesAlone(r, old.routes[i], old) { // its endpoints' health may change right now, which is none of the update's
			continue
		}
		before, after := shares(old.routes[i]), shares(r)
		left := false
		for k, v := range r.split.Variants() {
			name := v.Pool.Name()
			usable := len(t.pool(name).bearers()) > 0
			left = left || usable && v.Weight > 0
			if after[k] <= before[k]+sameShare {
				continue
			}
			pressed[name] = true
			if !usable {
				return &ControlError{Status: 409, Code: "no_healthy_endpoint",
					Message: fmt.Sprintf("route %s: variant %s has no usable endpoint, and would get %s of the requests instead of %s; force does it all the same",
						r.cfg.Name, name, percent(after[k]), percent(before[k]))}
			}
		}
		if !left && usable(old.routes[i].split) {
			return &ControlError{Status: 409, Code: "no_healthy_endpoint",
				Message: fmt.Sprintf("route %s would have no usable endpoint any more; force does it all the same", r.cfg.Name)}
		}
	}
	for _, pl := range t.pools {
		if pl.loses(old.pool(pl.Name())) {
			pressed[pl.Name()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pressed)) {
		if err := t.bearsLoad(name); err != nil {
			return err
		}
	}
	return nil
}

// sameShare is what the same share in other numbers may differ by.
const sameShare = 1e-12

// leavesAlone reports whether a route has the weights and the drains that it has in old.
func (t *table) leavesAlone(r, before *route, old *table) bool {
	return r == before && !slices.ContainsFunc(r.variants, func(v *variant) bool { return t.pool(v.pool) != old.pool(v.pool) })
}

// bearers are the endpoints that can take requests once the drains of the table hold.
func (pl *pool) bearers() (usable []*balancer.Endpoint) {
	for _, e := range pl.Endpoints() {
		if e.Healthy() && e.Weight() > 0 && !pl.drains(e) {
			usable = append(usable, e)
		}
	}
	return usable
}

// drains reports whether the table has e drain, by itself or with its pool.
func (pl *pool) drains(e *balancer.Endpoint) bool {
	return pl.set.Draining || slices.Contains(pl.set.Endpoints, e.Address)
}

// loses reports whether an endpoint that takes requests now drains in pl and not in before. One that takes
// none is nothing lost.
func (pl *pool) loses(before *pool) bool {
	return slices.ContainsFunc(pl.Endpoints(), func(e *balancer.Endpoint) bool {
		return e.Healthy() && e.Weight() > 0 && pl.drains(e) && !before.drains(e)
	})
}

// shares are the parts of a route's requests that its variants are to get.
func shares(r *route) []float64 {
	sum := 0.0
	var s []float64
	for _, v := range r.split.Variants() {
		sum += v.Weight
	}
	for _, v := range r.split.Variants() {
		s = append(s, v.Weight/sum)
	}
	return s
}

// bearsLoad compares what a pool would get at the present rates with what its usable endpoints are said
// to bear, where each of them says so.
func (t *table) bearsLoad(name string) error {
	pl := t.pool(name)
	capacity := map[string]float64{}
	for _, e := range pl.Config().Endpoints {
		capacity[e.Address] = float64(e.Capacity)
	}
	bears, usable := 0.0, pl.bearers()
	for _, e := range usable {
		if capacity[e.Address] == 0 {
			return nil
		}
		bears += capacity[e.Address]
	}
	gets := 0.0
	now := time.Now()
	for _, r := range t.routes {
		for k, v := range r.split.Variants() {
			if v.Pool.Name() == name {
				gets += shares(r)[k] * r.rate(now)
			}
		}
	}
	if len(usable) == 0 || gets <= bears {
		return nil
	}
	return &ControlError{Status: 409, Code: "over_capacity",
		Message: fmt.Sprintf("pool %s would get about %.3g requests/s at the present rate, and its usable endpoints (%d) are said to bear %.3g/s; force does it all the same",
			name, gets, len(usable), bears)}
}

// rate is how many requests a second the route had lately.
func (r *route) rate(now time.Time) (rate float64) {
	for _, v := range slices.Concat(r.variants, []*variant{r.none}) {
		if recent := v.live.window.Recent(now); recent.Span > 0 {
			rate += float64(recent.Count()) / recent.Span.Seconds()
		}
	}
	return rate
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
