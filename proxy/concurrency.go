package proxy

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"weir/config"
	"weir/internal/stats"
	"weir/proxy/queue"
)

// bound is a limit on requests under way and what is counted of it. It outlives tables.
type bound struct {
	what    string // of which there are too many: a label, and part of the message
	timeout atomic.Int64
	wait    stats.Histogram // of those that did
	refused [refusals]atomic.Uint64
}

// Why a request is refused by a bound, a label of weir_overloaded_total.
const (
	refusedFull = iota
	refusedTimeout
	refusedDeadline
	refusedShed
	refusals
)

var refusal = [refusals]string{"full", "timeout", "deadline", "shed"}

// refusalTexts are what the client is told, after what there are too many of.
var refusalTexts = [refusals]string{
	"",
	", and this one has waited for its turn as long as it may",
	", and the turn of this one would come after its deadline",
	", and this one made room for another that is served before it",
}

// What bounds count, a label.
const (
	boundKey   = "key"
	boundRoute = "route"
	boundPool  = "pool"
)

var boundTexts = map[string]string{
	boundKey:   "of this client",
	boundRoute: "on this route",
	boundPool:  "at this variant",
}

// queueBound bounds all requests together, keysBound those of each key.
type (
	queueBound struct {
		bound
		queue *queue.Queue
	}
	keysBound struct {
		bound
		source config.Source
		keys   *queue.Keys
	}
)

// permits bound the requests of a route that are under way: those of each key, then all of them. What it consists
// of outlives tables.
type permits struct {
	keys  *keysBound  // nil: keys are not told apart
	total *queueBound // nil: not bounded
}

// newPermits returns what c asks for, over from prev what bounds the same. Figures come into force when the table
// does (ApplyFor).
func newPermits(c config.Route, prev *permits) *permits {
	if c.Concurrency == nil {
		return nil
	}
	if prev == nil {
		prev = &permits{}
	}
	p := &permits{}
	perKey, total := routeBounds(c.Concurrency)
	if perKey.Limit > 0 {
		if p.keys = prev.keys; p.keys == nil || p.keys.source != c.Concurrency.Key {
			p.keys = &keysBound{bound: bound{what: boundKey}, source: c.Concurrency.Key, keys: queue.NewKeys(perKey)}
		}
	}
	if total.Limit > 0 {
		if p.total = prev.total; p.total == nil {
			p.total = newQueueBound(boundRoute, total)
		}
	}
	return p
}

func newQueueBound(what string, s queue.Settings) *queueBound {
	return &queueBound{bound: bound{what: what}, queue: queue.New(s)}
}

// configure puts the figures of c in force.
func (p *permits) configure(c *config.Concurrency) {
	if p == nil {
		return
	}
	perKey, total := routeBounds(c)
	if p.keys != nil {
		p.keys.timeout.Store(int64(c.Queue.Timeout))
		p.keys.keys.Configure(perKey)
	}
	if p.total != nil {
		p.total.timeout.Store(int64(c.Queue.Timeout))
		p.total.queue.Configure(total)
	}
}

// succeed has those that wait at bounds which next has no more go on.
func (p *permits) succeed(next *permits) {
	if p == nil {
		return
	}
	if next == nil {
		next = &permits{}
	}
	if p.keys != nil && p.keys != next.keys {
		p.keys.keys.Configure(queue.Settings{Limit: unbounded})
	}
	if p.total != nil && p.total != next.total {
		p.total.queue.SetLimit(unbounded)
	}
}

const unbounded = 1 << 40

// routeBounds are the bounds of each key and of the whole route; a limit of 0: none.
func routeBounds(c *config.Concurrency) (perKey, total queue.Settings) {
	perKey, total = queueSettings(c, c.Max), queueSettings(c, c.Total)
	if c.Key.Kind == "" {
		if total.Limit == 0 || perKey.Limit > 0 && perKey.Limit < total.Limit {
			total.Limit = perKey.Limit
		}
		perKey.Limit = 0
	}
	return perKey, total
}

func queueSettings(c *config.Concurrency, limit int) queue.Settings {
	s := queue.Settings{Limit: limit, Size: c.Queue.Size}
	switch c.Queue.Order {
	case config.QueueLIFO:
		s.Order = queue.LIFO
	case config.QueueAdaptive:
		s.Order = queue.Adaptive
	}
	return s
}

// turn is what a request holds of bounds, and what it waits for. It lives in the intake, so that a request that
// meets no bound does not have to clear it; between two requests it is empty.
type turn struct {
	held             bool // something
	key, total, pool place
	breaker          *breaker
	retried          bool // counts among the breaker's retries
	waiter           *queue.Waiter

	refused string    // what the client is told
	sent    time.Time // when the attempt's body was, where it came in pieces
}

// place is one in a queue's limit.
type place struct {
	queue *queue.Queue // nil: there is none
	since int64
}

// leave gives it back. Where the request was not served, nothing is learned about how long others take.
func (p *place) leave(now int64, served bool) {
	q := p.queue
	if q == nil {
		return
	}
	p.queue = nil
	if served {
		q.Leave(max(time.Duration(now-p.since), 0))
	} else {
		q.Leave(-1)
	}
}

// acquire waits for the request's turn.
func (p *permits) acquire(r *request) kind {
	t, now := &r.in.turn, r.p.sinceStart(r.start)
	if b := p.keys; b != nil {
		key := r.concurrencyKey(b.source)
		if q := b.keys.Enter(key); q != nil {
			t.key = place{q, now}
		} else if k := r.queueUp(&b.bound, &t.key, b.at(key)); k != success {
			r.retryAfter = b.keys.Expected(key)
			return k
		}
		t.held = true
	}
	if b := p.total; b != nil {
		return r.enter(b, &t.total, now)
	}
	return success
}

// at joins the queue of a key.
func (b *keysBound) at(key []byte) func(*queue.Waiter, int64) queue.Verdict {
	return func(w *queue.Waiter, now int64) queue.Verdict { return b.keys.Join(key, w, now) }
}

// enter takes a place of those that all requests share, or waits for one.
func (r *request) enter(b *queueBound, p *place, now int64) kind {
	if b.queue.Enter() {
		*p, r.in.turn.held = place{b.queue, now}, true
		return success
	}
	k := r.queueUp(&b.bound, p, b.queue.Join)
	if k == shed {
		r.retryAfter = b.queue.Expected()
	}
	return k
}

// release gives back all that the request holds of its route and its pool.
func (t *turn) release(r *request) {
	if !t.held && t.waiter == nil {
		return
	}
	if w := t.waiter; w != nil { // a panic came upon it
		if !w.Quit() && w.State() == queue.Admitted {
			w.Queue().Leave(-1)
		}
		t.waiter = nil
	}
	now, served := r.p.sinceStart(time.Now()), r.kind != shed && r.tunneled == nil
	t.releasePool(now, served)
	t.total.leave(now, served)
	t.key.leave(now, served)
	t.held = false
}

func (t *turn) releasePool(now int64, served bool) {
	if b := t.breaker; b != nil {
		b.leave(t.retried)
		t.breaker, t.retried = nil, false
	}
	t.pool.leave(now, served)
}

// queueUp waits for the request's turn at a bound that had no place. The place is then noted, whatever else is the
// answer.
func (r *request) queueUp(b *bound, p *place, join func(w *queue.Waiter, now int64) queue.Verdict) kind {
	t, began := &r.in.turn, time.Now()
	w := &queue.Waiter{Class: r.class(), Wake: r.c.strand.unpark, Deadline: r.p.sinceStart(r.start.Add(r.time.total))}
	switch join(w, r.p.sinceStart(began)) {
	case queue.Full:
		return r.refuse(b, refusedFull)
	case queue.Late:
		return r.refuse(b, refusedDeadline)
	}
	t.waiter = w
	k := r.awaitPlace(b, w, began)
	t.waiter = nil
	now := time.Now()
	if w.State() == queue.Admitted {
		*p, t.held = place{w.Queue(), r.p.sinceStart(now)}, true
	}
	if k == success {
		b.wait.Record(now.Sub(began))
	}
	return k
}

// awaitPlace waits until w is served, or nobody would be there to be answered.
func (r *request) awaitPlace(b *bound, w *queue.Waiter, began time.Time) kind {
	c := r.c
	c.overcome()
	c.enter(phaseAwait)
	defer c.enter(phaseBusy)
	c.heed(true) // not by looking now and then: there may be thousands
	defer c.heed(false)
	timeout := time.Duration(b.timeout.Load())
	for {
		ended := c.interruptedBy() != reasonNone
		switch w.State() {
		case queue.Shed:
			return r.refuse(b, refusedShed)
		case queue.Admitted:
			if ended {
				return r.endpointFailed(false)
			}
			return success
		}
		left := time.Minute
		if timeout > 0 {
			left = timeout - time.Since(began)
		}
		switch {
		case !ended && left > 0:
			c.strand.park(left)
		case !w.Quit(): // it was its turn just now, or was shed
		case ended:
			return r.endpointFailed(false)
		default:
			return r.refuse(b, refusedTimeout)
		}
	}
}

// refuse notes why the request gets no turn.
func (r *request) refuse(b *bound, why int) kind {
	b.refused[why].Add(1)
	r.in.turn.refused = "too many requests " + boundTexts[b.what] + " are under way" + refusalTexts[why]
	return shed
}

// class is the request's priority, an index into config.Priorities.
func (r *request) class() int {
	p := &r.route.cfg.Priority
	class := slices.Index(config.Priorities(), p.Class)
	if p.Header != "" {
		v := r.lookup(p.Header)
		for i, name := range config.Priorities() {
			if strings.EqualFold(unsafeString(v), name) {
				class = i
			}
		}
	}
	return max(class, 0)
}

// concurrencyKey is what tells a request's client apart; one without it is told by its network, so that leaving it
// out is no way around the limit.
func (r *request) concurrencyKey(s config.Source) []byte {
	b, v := r.in.permit[:0], []byte(nil)
	if s.Kind != config.AffinityClientIP {
		v = r.sourceText(s)
	}
	switch {
	case len(v) > maxKey:
		return v
	case len(v) > 0:
		r.in.permit = append(append(b, 'k'), v...) // no address can be taken for it
	default:
		r.in.permit = appendNetwork(append(b, 'a'), r.client)
	}
	return r.in.permit
}

// succeed has those that wait at bounds which next does not have go on.
func (t *table) succeed(next *table) {
	for _, r := range t.routes {
		if now := next.route(r.cfg.Name); now != nil {
			r.permits.succeed(now.permits)
		} else {
			r.permits.succeed(nil)
		}
	}
	for _, pl := range t.pools {
		if now := next.pool(pl.Name()); now != nil {
			pl.load.succeed(now.load)
		} else {
			pl.load.succeed(nil)
		}
	}
}
