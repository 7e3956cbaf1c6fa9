package proxy

import (
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/internal/stats"
)

// Hedging: while an attempt waits for its answer longer than most do, the request goes to another endpoint as
// well. Whoever answers first has its answer delivered, the other is cancelled by the end of its connection
// (Dean and Barroso, The Tail at Scale, Communications of the ACM 56(2), 2013).

// hedging is what a route's configuration says about second attempts beside slow first ones.
type hedging struct {
	config.Hedge
	live *hedgeLive
}

// hedgeLive is what a route's hedges have come to. It outlives tables.
type hedgeLive struct {
	budget
	won, lost, failed atomic.Uint64
}

func newHedging(c *config.Hedge, prev *hedging) *hedging {
	if c == nil {
		return nil
	}
	if prev != nil {
		return &hedging{Hedge: *c, live: prev.live}
	}
	return &hedging{Hedge: *c, live: new(hedgeLive)}
}

// heads is how long the endpoints of a variant take to the head of an answer, over the last minute. What a hedge
// overtook counts with the time that it had until then, so that hedges do not make slow answers look fast.
type heads struct {
	window stats.Window
	delay  atomic.Int64 // the percentile that is asked for, in ns; 0 while too little is known
}

const (
	// hedgeSamples is how many attempts a percentile needs.
	hedgeSamples = 100
	// hedgeAtLeast is the least delay that follows from a percentile: below it a second attempt costs more
	// than it can save.
	hedgeAtLeast = time.Millisecond
)

// tick takes the percentile once a second.
func (h *heads) tick(now time.Time, percentile float64) {
	h.window.Tick(now)
	s := h.window.Snapshot()
	d, ok := s.Quantile(percentile / 100)
	if !ok || s.Count() < hedgeSamples {
		h.delay.Store(0)
		return
	}
	h.delay.Store(int64(max(d, hedgeAtLeast)))
}

// newHeads finds what is known of the variant before, where hedges go by it.
func newHeads(c *config.Hedge, prev *route, pool string) *heads {
	if c == nil || c.Delay > 0 {
		return nil
	}
	i := slices.IndexFunc(prev.variants, func(v *variant) bool { return v.pool == pool })
	if i >= 0 && prev.variants[i].heads != nil {
		return prev.variants[i].heads
	}
	h := new(heads)
	h.window.Tick(time.Now())
	return h
}

// hedgeAfter is how long the attempt may wait before it gets company; 0: it never does.
func (r *request) hedgeAfter() time.Duration {
	h := r.route.hedge
	if h == nil || r.upgrade || r.retries > 0 || !r.idempotent() || r.wholeRequest() == nil {
		return 0
	}
	if h.Delay > 0 {
		return h.Delay
	}
	return time.Duration(r.variant.heads.delay.Load())
}

// wholeRequest is everything that was sent to the endpoint; nil where it is not in memory any more.
func (r *request) wholeRequest() []byte {
	switch {
	case r.unread() || r.up.lost || r.cutShort:
		return nil
	case r.up.held != nil:
		return r.up.buf[:r.up.to]
	}
	return r.buf.out
}

// sendHedged is send for a request that is in r.buf.out whole.
func (r *request) sendHedged(e *epConn, delay time.Duration) (n int, k kind) {
	if e.used && !e.quiet() {
		return 0, stale
	}
	if _, err := e.write(r.buf.out); errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, r.endpointFailed(e.used)
	}
	return r.awaitHedged(e, delay) // which also finds out that the write has failed, unless there is an early answer
}

// awaitHedged waits for the first bytes of the answer to what was sent over e, and after the delay for those of
// another endpoint as well. It returns how many there are in r.buf.in; they came over r.c.ep.
func (r *request) awaitHedged(e *epConn, delay time.Duration) (n int, k kind) {
	c := r.c
	c.alarm(delay)
	for {
		n, err := e.read(r.buf.in)
		alarmed := c.alarmOff()
		if err == nil || !alarmed {
			return n, r.awaited(e, err)
		}
		left := delay - time.Since(r.began)
		if left <= 0 {
			break
		}
		c.alarm(left) // it was another request's
	}
	if x := r.startHedge(); x != nil {
		return r.race(e, x)
	}
	n, err := e.read(r.buf.in)
	return n, r.awaited(e, err)
}

// answered notes how long the first attempt took to its answer, or until its answer was of no more use.
func (r *request) answered() {
	if h := r.variant.heads; h != nil && r.retries == 0 && !r.hedged {
		h.window.Record(time.Since(r.began))
	}
}

// startHedge begins an attempt at another endpoint; nil where there is none or the budget is used up.
func (r *request) startHedge() *hedge {
	h := r.route.hedge
	first := r.rif
	other := r.pick(r.pool(), []*balancer.Endpoint{r.last})
	rif := r.rif
	r.rif = first
	if other == nil {
		return nil
	}
	if other == r.last || !h.live.take(h.BudgetPercent) {
		other.Done(balancer.Canceled, 0)
		return nil
	}
	if r.time.form != noTime {
		r.retime()
	}
	x := &hedge{
		c: r.c, waits: r.c.strand, endpoint: other, rif: rif, began: time.Now(),
		request: slices.Clone(r.wholeRequest()), in: make([]byte, smallBuffer),
	}
	if t := other.Transport.(*transport); t.settings.Load().introduce != "" {
		x.who = r.present()
	}
	r.traced.hedge(x)
	r.c.alarm(0) // before it can ring
	if !r.c.strand.spawn(x.run) {
		r.c.alarmOff()
		other.Done(balancer.Canceled, 0)
		return nil
	}
	r.attempts++
	r.c.deadline.Store(r.c.listener.clock.after(r.route.cfg.Timeouts.Attempt))
	return x
}

// race waits for whichever answers first, and cancels the other.
func (r *request) race(e *epConn, x *hedge) (n int, k kind) {
	c, live := r.c, r.route.hedge.live
	for {
		n, err := e.read(r.buf.in)
		alarmed := c.alarmOff()
		if err == nil {
			live.lost.Add(1)
			x.cancel(c.strand)
			return n, success
		}
		if !alarmed {
			break
		}
		c.alarm(0) // first, so that nothing is missed
		switch answered, failed := x.state(); {
		case answered:
			c.alarmOff()
			live.won.Add(1)
			r.answered()
			return r.change(e, x, canceledByHedge)
		case failed:
			c.alarmOff()
			live.failed.Add(1)
			r.traced.hedgeFailed()
			if n, err = e.read(r.buf.in); err != nil {
				return 0, r.endpointFailed(e.used)
			}
			return n, success
		}
	}
	if c.interruptedBy() != reasonNone {
		live.lost.Add(1)
		x.cancel(c.strand)
		return 0, r.endpointFailed(e.used)
	}
	return r.rely(e, x, r.endpointFailed(e.used))
}

// rely waits for the second attempt after the first has failed with k.
func (r *request) rely(e *epConn, x *hedge, k kind) (int, kind) {
	c, live := r.c, r.route.hedge.live
	x.mu.Lock()
	x.parked = true
	x.mu.Unlock()
	for {
		answered, failed := x.state()
		switch {
		case answered:
			live.won.Add(1)
			return r.change(e, x, k)
		case failed:
			live.failed.Add(1)
			r.traced.hedgeFailed()
			return 0, k
		case c.interruptedBy() != reasonNone:
			live.lost.Add(1)
			x.cancel(c.strand)
			return 0, r.endpointFailed(false)
		}
		c.strand.park(pauseStep)
	}
}

// canceledByHedge is what became of an attempt whose hedge was faster.
const canceledByHedge = clientGone

// change goes on with the answer of x instead of e's, whose attempt ended with k.
func (r *request) change(e *epConn, x *hedge, k kind) (int, kind) {
	c := r.c
	c.detach()
	e.t.drop(e)
	r.ended(k)
	x.mu.Lock()
	next := x.e
	x.e = nil
	x.mu.Unlock()
	c.strand.own(next.descriptor)
	r.hedged = true
	r.traced.hedgeAnswered()
	r.endpoint, r.last, r.began, r.rif = x.endpoint, x.endpoint, x.began, x.rif
	r.joined = r.connect
	n := copy(r.buf.in, x.in[:x.n])
	c.attach(next)
	return n, success
}
