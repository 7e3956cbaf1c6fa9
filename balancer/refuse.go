package balancer

import (
	"context"
	"errors"
	"time"
)

// How long an endpoint is passed over that refuses connections: the first time, and at most.
const (
	firstRefusal   = 250 * time.Millisecond
	longestRefusal = 2 * time.Second
)

// refusal is the time for which an endpoint is passed over because no connection could be made. What refuses at once
// has the fewest requests in flight, so that least_request would send it all it can until enough have failed to
// eject it. It is never changed.
type refusal struct {
	since, until time.Time
	wait         time.Duration
}

// Refusing reports whether the endpoint gets no requests while others are usable, because it refused a connection
// and none has been made since. It stays Usable: it is better than none.
func (e *Endpoint) Refusing() bool { return e.trust.refusal.Load() != nil }

// refused has the endpoint passed over. It is called by Done, and so only notes it down.
func (e *Endpoint) refused() {
	p := e.line.inForce.Load()
	if p == nil || p.options.Dial == nil || e.Refusing() {
		return
	}
	now := time.Now()
	if e.trust.refusal.CompareAndSwap(nil, &refusal{since: now, until: now.Add(firstRefusal), wait: firstRefusal}) {
		p.tendIn(alarmDelay)
	}
}

// answered ends that, where a request that took d was sent after the refusal: nothing else was usable. An older
// one says nothing; a server that shuts down refuses connections and goes on answering on those it has.
func (e *Endpoint) answered(r *refusal, d time.Duration) {
	if time.Since(r.since) <= d || !e.trust.refusal.CompareAndSwap(r, nil) {
		return
	}
	if p := e.line.inForce.Load(); p != nil {
		p.tendIn(alarmDelay)
	}
}

// tryRefusing makes connections to endpoints that have been passed over for long enough: it is not requests that
// find out whether they are back. tend calls it.
func (p *Pool) tryRefusing(now time.Time) {
	for _, e := range p.endpoints {
		r := e.trust.refusal.Load()
		if r != nil && !now.Before(r.until) && p.options.Dial != nil && e.trust.trying.CompareAndSwap(false, true) {
			p.running.Go(func() { p.try(e, r) })
		}
	}
}

// try puts e back if it takes a connection, else has it passed over for twice as long. A failure counts for outlier
// detection as that of a request would, whom it has spared it.
func (p *Pool) try(e *Endpoint, r *refusal) {
	err := p.dial(e)
	e.trust.trying.Store(false)
	switch {
	case errors.Is(err, context.Canceled): // the pool stops; the one in force goes on
	case err == nil:
		e.trust.refusal.CompareAndSwap(r, nil)
	default:
		now, wait := time.Now(), min(2*r.wait, longestRefusal)
		if e.trust.refusal.CompareAndSwap(r, &refusal{since: r.since, until: now.Add(wait), wait: wait}) {
			if c := e.trust.watch.Load(); c != nil {
				e.weigh(c, Connect, 0)
			}
		}
	}
	p.refreshLine()
	p.line.inForce.Load().plan() // another pool may have taken e over meanwhile
}

// dialer returns what connects to an endpoint, by whichever address works, until stop is done.
func (p *Pool) dialer(stop context.Context) func(*Endpoint) error {
	return func(e *Endpoint) (err error) {
		ctx, cancel := context.WithTimeout(stop, max(p.config.Connections.ConnectTimeout, firstRefusal))
		defer cancel()
		for _, addr := range e.Addrs() {
			if err = p.options.Dial(ctx, addr); err == nil {
				return nil
			}
		}
		if stop.Err() != nil {
			return stop.Err()
		}
		return err
	}
}
