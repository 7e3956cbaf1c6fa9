package proxy

import (
	"math/rand/v2"

	"weir/balancer"
)

// maxChoices bounds how often a variant is chosen for a request that has no endpoint when one is picked.
const maxChoices = 4

// choose picks the variant by chance or by the request's subject, and its endpoint by the pool's policy.
// The body came since the table was loaded, perhaps slowly: where that table's endpoints take no more
// requests by now, as after a shift and a drain, the one in force says who does.
func (r *request) choose() kind {
	for range maxChoices {
		chosen, intended := r.pickVariant()
		if chosen < 0 {
			if !r.renew() {
				return noEndpoint
			}
			continue
		}
		r.variant = r.route.variants[chosen]
		r.settle()
		if x := r.route.experiment; x != nil {
			x.meet(r, intended, chosen)
		}
		if c := r.route.cache; c != nil && !r.upgrade {
			if k := c.find(r); k != success || r.sent {
				return k
			}
		}
		if l := r.variant.load; l != nil {
			if k := l.acquire(r); k != success {
				return k
			}
		}
		if r.endpoint = r.pick(r.route.split.Variants()[chosen].Pool, nil); r.endpoint == nil {
			if l := r.variant.load; l != nil {
				l.release(r)
			}
			continue // it was usable a moment ago
		}
		if chosen != intended {
			r.route.variants[intended].live.spilled.Add(1)
		}
		r.route.counts.byVariant[chosen].Add(1)
		if t := r.route.trial; t != nil {
			t.chose(r, intended, chosen)
		}
		r.route.retry.live.request()
		if h := r.route.hedge; h != nil {
			h.live.request()
		}
		r.last = r.endpoint
		return success
	}
	return noEndpoint
}

// pick picks an endpoint of the variant's pool by its policy, not one of tried while there is another; nil when there is
// none. The request is in flight there from now on.
func (r *request) pick(pool *balancer.Pool, tried []*balancer.Endpoint) *balancer.Endpoint {
	var like []byte
	if s := &r.variant.alike; s.Kind != "" {
		like = r.sourceText(*s)
	}
	e := pool.PickFor(like, tried)
	if e != nil {
		r.rif = e.Inflight()
	}
	return e
}

// renew takes the request's route from the table in force, if that is another one and has it.
func (r *request) renew() bool {
	now := r.p.table.Load()
	next := now.route(r.route.cfg.Name)
	if now == r.table || next == nil {
		return false
	}
	r.table, r.route, r.variant = now, next, nil
	return true
}

func (r *request) pickVariant() (chosen, intended int) {
	rt := r.route
	if rt.cfg.Affinity != nil {
		subject := r.sourceText(rt.subject)
		if x := rt.experiment; x != nil {
			if v, ok := x.steer(r, subject); ok {
				return v, v
			}
		}
		if len(subject) > 0 {
			return rt.split.BySubject(subject)
		}
		if f := rt.fallback; f >= 0 {
			if v := rt.split.Variants()[f]; v.Weight > 0 && v.Pool.Usable() {
				return f, f
			}
		}
		if rt.cfg.Affinity.Fallback == "client_ip" {
			return rt.split.BySubject(r.clientText())
		}
	}
	return rt.split.ByChance(rand.Uint64())
}
