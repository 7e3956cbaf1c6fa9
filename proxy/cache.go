package proxy

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"weir/config"
	"weir/proxy/cache"
)

// cached is the cache of a route as its configuration has it. What is kept outlives tables.
type cached struct {
	cfg     config.Cache
	policy  cache.Policy
	methods [len(methods)]bool
	key     []config.Source // header names in lower case
	secrets []string        // names of fields with credentials, in lower case
	// rules are the settings that say which requests are alike. They are part of each key: what was kept by
	// other ones is never found.
	rules string
	live  *cacheLive
}

// cacheLive is what a cache holds and has counted.
type cacheLive struct {
	*cache.Cache
	results    [cacheResults]atomic.Uint64
	refreshes  [refreshOutcomes]atomic.Uint64
	refreshing atomic.Int32
}

// cacheResult is what a cache was to a request.
type cacheResult uint8

const (
	cacheUnasked cacheResult = iota // its answers are not kept anyway
	cacheBypass                     // what it says of itself, or its body, keeps it from the cache
	cacheMiss
	cacheHit
	cacheStale
	cacheCoalesced // answered with what another request at the same time has got
	cacheResults
)

// cacheResultNames are a label of weir_cache_requests_total.
var cacheResultNames = [cacheResults]string{cacheBypass: "bypass", cacheMiss: "miss", cacheHit: "hit", cacheStale: "stale", cacheCoalesced: "coalesced"}

// cacheFields tell the client.
var cacheFields = [cacheResults]string{
	cacheMiss: "X-Weir-Cache: miss\r\n", cacheHit: "X-Weir-Cache: hit\r\n", cacheStale: "X-Weir-Cache: stale\r\n", cacheCoalesced: "X-Weir-Cache: coalesced\r\n",
}

// newCached returns the cache that a route's configuration asks for, with what prev keeps; nil where it asks for
// none. Its size comes into force when the table does (enforce).
func newCached(c config.Route, prev *cached) *cached {
	if c.Cache == nil {
		return nil
	}
	n := &cached{cfg: *c.Cache, secrets: []string{"authorization", "cookie", "x-api-key"}}
	n.policy = cache.Policy{
		TTL:          map[int]time.Duration{},
		StaleIfError: n.cfg.StaleIfError, StaleWhileRevalidate: n.cfg.StaleWhileRevalidate, MaxObject: int(n.cfg.MaxObject),
	}
	for _, t := range n.cfg.TTL {
		n.policy.TTL[t.Status] = t.TTL
	}
	for _, m := range n.cfg.Methods {
		n.methods[methodIndex([]byte(m))] = true
	}
	if c.Auth != nil && c.Auth.APIKey != nil {
		if name := strings.ToLower(c.Auth.APIKey.Header); !slices.Contains(n.secrets, name) {
			n.secrets = append(n.secrets, name)
		}
	}
	n.rules = n.cfg.Credentials + "\n" + strings.Join(n.secrets, "\n") + "\n"
	if n.cfg.SharedByVariants {
		n.rules += "shared"
	}
	for _, s := range n.cfg.Key {
		if s.Kind == config.AffinityHeader {
			s.Name = strings.ToLower(s.Name)
		}
		n.key = append(n.key, s)
		n.rules += "\n" + s.Kind + ":" + s.Name
	}
	if prev != nil {
		n.live = prev.live
	} else {
		n.live = &cacheLive{Cache: cache.New(int64(n.cfg.MaxBytes))}
	}
	return n
}

// enforce puts the size into force.
func (c *cached) enforce() { c.live.Resize(int64(c.cfg.MaxBytes)) }

// caching is what a request has to do with its route's cache. It lives in the connection's intake.
type caching struct {
	of     *cached
	ask    cache.Ask
	result cacheResult
	base   cache.Key // without what answers vary by
	found  cache.Found
	target uint64
	asked  int64         // when the endpoint was
	flight *cache.Flight // that this request leads
	spare  *cache.Entry  // what the client gets should the endpoint fail
	unsafe bool          // the request may change its target

	keeps   bool // the answer is to be kept, as far as is known
	judged  bool // and so says its head
	rescued kind // what a stale answer stands for; success: none does
	counted bool
	came    int64
	life    cache.Life
	key     []byte // parts of a key
	// lines are the head that the endpoint gets: what it varies by is what it sees, with what weir and the route
	// have changed.
	lines []byte
}

// find answers a request whose variant is chosen from the cache (r.sent), or has its answer kept. Where another
// request like it is under way it waits for the answer to that.
func (c *cached) find(r *request) kind {
	g := &r.in.caching
	if r.caching != nil { // the variant chosen first had no endpoint after all
		g.land(cache.Again, nil)
	}
	g.begin(c, r)
	if g.result != cacheMiss {
		return success
	}
	var late *cache.Flight
	for {
		now := r.p.sinceStart(time.Now())
		g.look(r, now)
		if g.takes(now) {
			return g.answer(r, g.found.Entry, cacheHit)
		}
		if e := g.found.Entry; e != nil && g.takesStale(now) {
			g.refresh(r, e, now)
			return g.answer(r, e, cacheStale)
		}
		if g.ask.OnlyIfCached {
			return notCached
		}
		if !g.coalesces(r) {
			g.lead(r, nil, now)
			return success
		}
		f, place, leads := c.live.Join(g.found.Key, now, c.live.Since(g.target), late, r.c.strand.unpark)
		if leads {
			if g.overtaken(r, f, now) {
				continue
			}
			g.lead(r, f, now)
			return success
		}
		v, k := g.wait(r, f, place)
		if k != success || r.sent {
			return k
		}
		switch v {
		case cache.Alone, cache.Failed:
			g.lead(r, nil, r.p.sinceStart(time.Now()))
			return success
		case cache.Late:
			late = f
		}
	}
}

// look looks for an answer.
func (g *caching) look(r *request, now int64) {
	g.found = g.of.live.Find(g.key, g.base, g.lines, g.target, now)
	if e := g.found.Entry; e != nil && e.IfError(now) {
		g.spare = e
	}
}

// overtaken reports whether the flight before f has landed after the look for an answer and before f began, so that
// there is one by now, or it is known how answers vary. f then ends.
func (g *caching) overtaken(r *request, f *cache.Flight, now int64) bool {
	key := g.found.Key
	if g.look(r, now); g.found.Key == key && !g.takes(now) {
		return false
	}
	g.of.live.Land(f, cache.Again, nil)
	return true
}

// takes reports whether what was found is an answer to the request.
func (g *caching) takes(now int64) bool {
	e := g.found.Entry
	return e != nil && !g.ask.Fetch && e.Left(now) > 0 && g.ask.Takes(e.Age(now), e.Left(now))
}

// takesStale reports whether it is one while a new one is fetched.
func (g *caching) takesStale(now int64) bool {
	e := g.found.Entry
	return !g.ask.Fetch && e.Left(now) <= 0 && e.WhileRevalidating(now) && g.ask.Takes(e.Age(now), e.Left(now))
}

// coalesces reports whether the request is one that waits for others, and others for it. It is not where the
// answer is of no use to them.
func (g *caching) coalesces(r *request) bool {
	if e := g.found.Entry; e != nil && e.Life.Fresh <= e.Life.Age {
		return false
	}
	return g.of.cfg.Coalesce && !r.isHead && !g.ask.Fetch && !g.found.Refused
}

// lead sends the request on and has its answer kept, for the others that wait for f, if there is one.
func (g *caching) lead(r *request, f *cache.Flight, now int64) {
	g.flight, g.asked = f, now
	if r.isHead { // the answer has no body
		return
	}
	g.keeps = true
	if r.tee == nil {
		r.tee = newTee(g.of.policy.MaxObject)
	}
	r.tee.caching = g
	if g.ask.Conditional() && !g.found.Refused && methods[r.method] == "GET" {
		r.buf.out = unconditional(r.buf.out) // 304 would leave nothing to be kept
		r.gathered = span{int32(len(r.buf.out)), int32(len(r.buf.out))}
	}
}

// unconditional takes the conditions out of the head of a request without a body.
func unconditional(b []byte) []byte {
	return removeField(removeField(b, 0, "if-none-match"), 0, "if-modified-since")
}

// landPatience is how long others wait for the rest of an answer that has begun to come: no longer, since it
// comes as fast as a client, not theirs, takes it.
const landPatience = time.Second

// wait waits until f lands, and answers the request with what came of it where it is good for it.
func (g *caching) wait(r *request, f *cache.Flight, place int) (cache.Verdict, kind) {
	c, flights := r.c, &g.of.live.Flights
	c.overcome()
	c.enter(phaseAwait)
	c.heed(true)
	for {
		if e, v, ok := f.Result(); ok {
			c.heed(false)
			return g.landed(r, e, v)
		}
		if c.interruptedBy() != reasonNone {
			c.heed(false)
			flights.Leave(f, place)
			return cache.Again, r.endpointFailed(false)
		}
		if at := f.HeadAt(); at != 0 && r.p.sinceStart(time.Now())-at > int64(landPatience) {
			c.heed(false)
			flights.Leave(f, place)
			return cache.Late, success
		}
		c.strand.park(landPatience)
	}
}

// landed is what a flight that has ended with e and v is to a request that has waited for it.
func (g *caching) landed(r *request, e *cache.Entry, v cache.Verdict) (cache.Verdict, kind) {
	now := r.p.sinceStart(time.Now())
	switch v {
	case cache.Landed:
		// It need not be in the cache any more; but perhaps answers vary by more than was known.
		if !g.of.live.Answers(g.key, g.base, g.lines, e) {
			return cache.Again, success
		}
		if e.Left(now) > 0 && g.ask.Takes(e.Age(now), e.Left(now)) {
			return v, g.answer(r, e, cacheCoalesced)
		}
		return cache.Alone, success
	case cache.Failed:
		if s := g.spare; s != nil && s.IfError(now) {
			return v, g.answer(r, s, cacheStale)
		}
	}
	return v, success
}
