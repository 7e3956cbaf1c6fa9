package proxy

import (
	"sync"
	"time"

	"weir/balancer"
)

// hedge is a second attempt, on a strand of its own. Its owner is the strand until the attempt is done, and then
// the request's.
type hedge struct {
	c        *conn
	waits    strand // the request's
	endpoint *balancer.Endpoint
	rif      int64
	began    time.Time
	who      presentation
	request  []byte // a copy: the request's buffers serve the first attempt's answer meanwhile

	mu     sync.Mutex
	over   bool    // nobody waits for it any more
	done   bool    // it has an answer, or has failed
	parked bool    // the request waits for nothing else
	e      *epConn // under way, or with the answer; nil after a failure
	in     []byte  // the answer's first bytes, n of them
	n      int
}

// state reports whether the attempt has an answer, or none to come.
func (x *hedge) state() (answered, failed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.done && x.e != nil, x.done && x.e == nil
}

// present says whose request it is, which has ended by then, perhaps.
func (x *hedge) present() presentation { return x.who }

// run is the attempt, on a strand s of its own.
func (x *hedge) run(s strand) {
	defer func() {
		if v := recover(); v != nil {
			x.c.listener.p.panicked(v)
			x.mu.Lock()
			e := x.e
			x.mu.Unlock()
			x.fail(internal, e)
		}
	}()
	t := x.endpoint.Transport.(*transport)
	for tries, fresh := 0, false; ; tries, fresh = tries+1, true {
		e, err := t.get(s, fresh, x)
		switch err {
		case nil:
		case errNoConnection, errPending: // which is no fault of the endpoint's
			x.fail(overloaded, nil)
			return
		default:
			x.fail(connectFailed, nil)
			return
		}
		if !x.use(e) {
			x.abandon(e)
			return
		}
		if e.used && !e.quiet() {
			x.unuse(e)
			continue
		}
		_, _ = e.write(x.request) // an endpoint that answers early may have closed: the read will tell
		n, err := e.read(x.in)
		switch {
		case err == nil:
			x.answer(e, n)
		case err == errStale && tries < maxStale:
			x.unuse(e)
			continue
		case e.used: // as in endpointFailed
			x.fail(staleReset, e)
		default:
			x.fail(resetByEndpoint, e)
		}
		return
	}
}

// use makes e what cancel interrupts; false when it has been cancelled.
func (x *hedge) use(e *epConn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return false
	}
	x.e = e
	return true
}

// unuse drops e, which turned out to be stale.
func (x *hedge) unuse(e *epConn) {
	x.mu.Lock()
	x.e = nil
	x.mu.Unlock()
	e.t.drop(e)
}

func (x *hedge) abandon(e *epConn) {
	if e != nil {
		e.t.drop(e)
	}
	x.endpoint.Done(balancer.Canceled, 0)
}

// fail ends the attempt without an answer.
func (x *hedge) fail(k kind, e *epConn) {
	x.mu.Lock()
	over := x.over
	x.e, x.done = nil, true
	x.mu.Unlock()
	if over {
		x.abandon(e)
		return
	}
	if e != nil {
		e.t.drop(e)
	}
	x.endpoint.Done(k.failure().outcome, time.Since(x.began))
	x.tell()
}

// answer hands e, whose answer has begun, to the request.
func (x *hedge) answer(e *epConn, n int) {
	x.mu.Lock()
	over := x.over
	x.n, x.done = n, !over
	x.mu.Unlock()
	if over {
		x.abandon(e)
		return
	}
	x.tell()
}

// tell wakes the request, which waits for its first attempt's answer or is parked.
func (x *hedge) tell() {
	x.c.ring()
	x.mu.Lock()
	parked := x.parked
	x.mu.Unlock()
	if parked {
		x.waits.unpark()
	}
}

// cancel ends the attempt, on the request's strand.
func (x *hedge) cancel(s strand) {
	x.mu.Lock()
	done, e := x.done, x.e
	x.over, x.e = true, nil
	if !done && e != nil {
		e.interrupt()
	}
	x.mu.Unlock()
	if done && e != nil {
		s.own(e.descriptor)
		x.abandon(e)
	}
}
