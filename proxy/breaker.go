package proxy

import (
	"errors"
	"sync/atomic"

	"go.uber.org/zap"
	"weir/config"
)

// breaker bounds what a pool has under way: beyond that a request is refused at once, without a queue, so that
// trouble at one pool does not take the memory and the connections that others need. It outlives tables.
type breaker struct {
	settings atomic.Pointer[config.CircuitBreaker]
	under    [breakerLimits]atomic.Int64
	refused  [breakerLimits]atomic.Uint64

	// Of the ticks, one at a time.
	seen  uint64 // refused in all, at the last
	quiet int    // ticks since it refused something
	open  atomic.Bool
}

// What a breaker counts, a label of weir_circuit_breaker_refused_total.
const (
	breakerRequests = iota
	breakerPending
	breakerRetries
	breakerLimits
)

var breakerLimit = [breakerLimits]string{"requests", "pending", "retries"}

var breakerTexts = [breakerLimits]string{
	"this variant has as many requests under way as it may",
	"at this variant as many requests wait for a connection as may",
	"this variant has as many retries under way as it may",
}

// errPending says that as many requests wait for a connection as may.
var errPending = errors.New("as many requests wait for a connection as may")

// most is the bound on what; 0: there is none.
func (b *breaker) most(what int) int {
	c := b.settings.Load()
	if c == nil {
		return 0
	}
	return [breakerLimits]int{c.MaxRequests, c.MaxPending, c.MaxRetries}[what]
}

// take counts one more of what, unless there are as many as may be.
func (b *breaker) take(what int) bool {
	n := b.under[what].Add(1)
	if most := b.most(what); most > 0 && n > int64(most) {
		b.under[what].Add(-1)
		b.refused[what].Add(1)
		return false
	}
	return true
}

func (b *breaker) enter() bool { return b.take(breakerRequests) }

// leave ends a request that entered.
func (b *breaker) leave(retried bool) {
	b.under[breakerRequests].Add(-1)
	if retried {
		b.under[breakerRetries].Add(-1)
	}
}

// pend counts a request that waits for a connection, until pended.
func (b *breaker) pend() bool { return b == nil || b.take(breakerPending) }

func (b *breaker) pended() {
	if b != nil {
		b.under[breakerPending].Add(-1)
	}
}

// retries reports whether the request may be sent again; it counts as a retry until it has ended.
func (l *load) retries(r *request) bool {
	if l == nil || l.breaker == nil {
		return true
	}
	t := &r.in.turn
	if t.breaker == nil || t.retried { // it was let in before there was a breaker; or counts already
		return true
	}
	t.retried = t.breaker.take(breakerRetries)
	return t.retried
}

// broken refuses the request for a breaker's sake.
func (r *request) broken(what int) kind {
	r.in.turn.refused, r.retryAfter = breakerTexts[what], 0
	return shed
}

// tickBreaker is called once a second.
func (p *Proxy) tickBreaker(pl *pool) {
	b := pl.load.breakerOf()
	if b == nil || !b.tick() {
		return
	}
	open := b.open.Load()
	if open {
		p.log.Warn("a circuit breaker opened: it refuses requests", zap.String("pool", pl.Name()))
	} else {
		p.log.Info("a circuit breaker closed", zap.String("pool", pl.Name()))
	}
	if p.options.Breaker != nil {
		p.options.Breaker(pl.Name(), open, b.seen)
	}
}

// closesAfter is how many ticks a breaker stays open after it has refused something, so that one which opens and
// closes all the time does not say so each time.
const closesAfter = 5

// tick is called once a second. It returns whether the state has changed.
func (b *breaker) tick() (changed bool) {
	var all uint64
	for i := range b.refused {
		all += b.refused[i].Load()
	}
	if b.quiet++; all != b.seen {
		b.quiet = 0
	}
	b.seen = all
	open := b.quiet < closesAfter && all > 0
	return b.open.Swap(open) != open
}

// isOpen reports whether there is as much of something as may be, or was of late.
func (b *breaker) isOpen() bool {
	for what := range b.under {
		if most := b.most(what); most > 0 && b.under[what].Load() >= int64(most) {
			return true
		}
	}
	return b.open.Load()
}

// breakerOf is the pool's, nil where it has none.
func (l *load) breakerOf() *breaker {
	if l == nil {
		return nil
	}
	return l.breaker
}
