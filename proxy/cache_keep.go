package proxy

import (
	"time"

	"weir/proxy/cache"
)

// judge says at the head of an endpoint's answer whether it is kept, so that nobody waits in vain for its end.
// The head is in r.tee.
func (g *caching) judge(r *request, p *response) {
	if g == nil {
		return
	}
	now := time.Now()
	g.came = r.p.sinceStart(now)
	if g.unsafe {
		if p.status < 400 { // RFC 9111, 4.4; before the client learns of it
			g.of.live.Invalidate(g.target, g.came)
		}
		return
	}
	if !g.keeps {
		return
	}
	var why cache.Refusal
	switch {
	case p.fields.length > int64(g.of.policy.MaxObject):
		why = cache.TooLarge
	case p.fields.trailer, p.fields.length < 0 && !p.fields.chunked && !p.bodiless(false):
		why = cache.Endless // the end of the connection may be that of the endpoint
	default:
		g.life, why = g.of.policy.Judge(p.status, r.tee.head, now, time.Duration(g.came-g.asked))
	}
	if why == cache.Kept {
		g.judged = true
		if g.flight != nil {
			g.flight.Head(g.came)
		}
		return
	}
	g.refuse(r, p.status, why)
}

// refuse gives up on keeping the answer.
func (g *caching) refuse(r *request, status int, why cache.Refusal) {
	g.keeps, g.judged = false, false
	r.tee.caching = nil
	if r.route.mirror == nil {
		r.tee = nil
	}
	g.land(cache.Alone, nil)
	if status < 500 {
		g.of.live.Refuse(g.found.Key, g.found.Entry, g.asked, g.came, !why.Transient())
	}
}

// outgrown is what an answer turns out to be that is longer than what is kept.
func (g *caching) outgrown() {
	if g.judged {
		g.judged = false
		g.land(cache.Alone, nil)
		g.of.live.Refuse(g.found.Key, g.found.Entry, g.asked, g.came, true)
	}
}

// land ends the flight that the request leads, if it does.
func (g *caching) land(v cache.Verdict, e *cache.Entry) {
	if g.flight != nil {
		g.of.live.Land(g.flight, v, e)
		g.flight = nil
	}
}

// whole is called when an answer has come whole, before the client gets the end of it: who has read one finds the
// next one kept.
func (g *caching) whole(r *request) {
	if g == nil || !g.judged {
		return
	}
	g.judged = false
	t := r.tee
	e := cache.NewEntry(t.status, t.head, t.body)
	e.Variant, e.Asked, e.Came, e.Life, e.Target = r.variant.pool, g.asked, g.came, g.life, g.target
	path, _ := normalisePath(nil, r.target)
	e.Path = string(path)
	g.of.live.Keep(g.key, g.base, g.lines, e)
	g.land(cache.Landed, e)
}

// end is called when the request has ended, however it did.
func (g *caching) end(r *request) {
	g.land(verdict(r.kind, g.rescued), nil)
	g.count()
	key, lines := g.key, g.lines
	if cap(key)+cap(lines) > maxPooled {
		key, lines = nil, nil
	}
	// An idle connection holds no answer.
	*g = caching{key: key, lines: lines, result: g.result, counted: true}
}

// count counts what the cache was to the request, once.
func (g *caching) count() {
	if !g.counted {
		g.counted = true
		g.of.live.results[g.result].Add(1)
	}
}

// verdict is what becomes of those who have waited for a request that ended with k and gave them nothing; rescued
// is what a stale answer stood for, if one did, as it can for them. Where it was the client that left or had no more
// time, or an endpoint that took too long, all of them at once would be no better. Where a bound or a breaker refused
// it all of them ask: their priorities and deadlines are their own, endpoints are bounded anyway, and one after the
// other they would wait in the queue as often as there are of them.
func verdict(k, rescued kind) cache.Verdict {
	switch {
	case k == clientGone, rescued == expired, k == expired, k == totalTimeout, k == attemptTimeout:
		return cache.Again
	case k == success && rescued == success:
		return cache.Alone
	}
	return cache.Failed
}
