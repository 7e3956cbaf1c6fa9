package proxy

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/proxy/compare"
)

// mirror sends copies of a route's requests to a pool whose answers nobody gets.
//
// A copy is made while the request is sent, out of the very bytes that go to the endpoint, and goes out when the
// request has ended: by then nothing can happen to the client any more, and the two answers can be compared
// without anybody waiting for the other. What the client's time is it does not say, since that is over by then. It goes on a goroutine and connections of package aside, so that a
// shadow that hangs holds nothing but the copies themselves, of which there are max_active at most, those that
// wait for the end of their request among them. What has no place is not copied; nothing queues.
//
// Copies are for capacity that nobody else needs. None is made while the pool has no usable endpoint or as many
// attempts under way, whoever made them, as there may be copies, nor for a while after weir was short of
// processors (mirrorLive.pause).
type mirror struct {
	cfg   *config.Mirror
	pool  *balancer.Pool
	all   bool
	below uint64         // a random number below it makes a copy
	rules *compare.Rules // nil: answers are not compared
	live  *mirrorLive
}

// mirrorField marks copies, so that a shadow can tell them from requests, and a weir behind it makes no copies of
// copies.
const mirrorField = "X-Weir-Mirror"

// newMirror returns the mirror that c asks for, nil where that is none. Figures go on while the pool and what is
// compared stay the same.
func (t *table) newMirror(c *config.Mirror, prev *mirror) *mirror {
	if c == nil {
		return nil
	}
	m := &mirror{cfg: c, pool: t.pool(c.Pool).Pool, all: c.Percent >= 100}
	m.below = uint64(max(c.Percent, 0) / 100 * (1 << 32) * (1 << 32))
	if m.all {
		m.below = math.MaxUint64
	}
	if prev != nil && prev.cfg.Pool == c.Pool && reflect.DeepEqual(prev.cfg.Compare, c.Compare) {
		m.live = prev.live
	} else {
		m.live = newMirrorLive(c.Compare)
	}
	if c.Compare != nil {
		m.rules = compare.New(c.Compare, int64(c.MaxBody))
	}
	return m
}

// of reports whether m sends to t's own pool of that name: a reload may have changed it.
func (m *mirror) of(t *table) bool {
	pl := t.pool(m.pool.Name())
	return pl != nil && pl.Pool == m.pool
}

// begin decides whether a request, whose endpoint is chosen and whose head and small body are in r.buf.out, is
// copied: by chance, since by its id the client would have a say. One that is not costs a random number.
func (m *mirror) begin(r *request) {
	if m.all || rand.Uint64() < m.below {
		m.copy(r)
	}
}

// copy makes a copy of what is sent, or says why not.
func (m *mirror) copy(r *request) {
	l, out := m.live, r.buf.out
	head, most := headLen(out, 0), int(m.cfg.MaxBody)
	switch {
	case lookup(r.raw, mirrorField) != nil:
		l.skip(skippedMirrored)
	case r.endpoint != nil && r.endpoint.Pool == m.cfg.Pool: // as in a rollout to the pool
		l.skip(skippedOwn)
	case !m.pool.Usable():
		l.skip(skippedNoEndpoint)
	case r.fields.length > int64(most) || len(out)-head > most:
		l.skip(skippedTooLarge)
	case l.pauses(r.start):
		l.skip(skippedOverloaded)
	case m.pool.Inflight() >= int64(m.cfg.MaxActive) || !l.enter(m.cfg.MaxActive):
		l.skip(skippedBusy)
	default:
		c := &mirrorCopy{m: m, head: head, limit: head + most, length: r.fields.length, asked: r.asked}
		if r.timeTold(out[:head]) != nil {
			c.timeField = r.timeField()
		}
		if c.whole = r.bodyLeft == 0; c.whole {
			c.sent = slices.Clone(out)
		} else if !r.chunkedBody {
			c.sent = make([]byte, 0, len(out)+int(r.bodyLeft))
		}
		if m.rules != nil {
			if r.tee == nil {
				r.tee = newTee(0)
			}
			r.tee.limit = max(r.tee.limit, most)
		}
		r.copied = c
	}
}

// end is called when the request has ended, however it did.
func (m *mirror) end(r *request) {
	c := r.copied
	if c == nil {
		return
	}
	r.copied = nil
	l := c.m.live
	switch {
	case c.over:
		l.skip(skippedTooLarge)
	case !c.whole:
		l.skip(skippedIncomplete)
	default:
		c.note(r)
		if r.p.aside.Go(c.run) {
			return
		}
		l.skip(skippedStopping)
	}
	l.leave()
}

// mirrorPatience is how long a copy's goroutine may wait for a processor: where it waits longer, weir has none to
// spare, and no copy is made for mirrorPause.
const (
	mirrorPatience = 20 * time.Millisecond
	mirrorPause    = 250 * time.Millisecond
)
