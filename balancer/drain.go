package balancer

import (
	"sync"
	"sync/atomic"
	"time"
)

// line is what pools of one name hand on, from each to the one that is built from it.
type line struct {
	born     time.Time // what moments count from
	turn     turn
	draining atomic.Bool // the whole pool; its endpoints share it
	// inForce is the pool started last. A drain reaches it whichever pool of the line is told.
	inForce atomic.Pointer[Pool]

	judging   sync.Mutex  // guards what outlier detection knows, and which pool of the line is in force
	tick      time.Time   // when the interval of failure percentages ends; guarded by judging
	weigh     time.Time   // when weights follow reports next; guarded by judging
	panicking atomic.Bool // whether the pool in force uses ejected endpoints
	toldPanic atomic.Bool // what the log knows of it
}

// Drain begins or ends the drain of the whole pool. While it drains it gets no new requests
// and is not Usable; those that run finish, and probes go on. It leaves alone which endpoints
// drain by themselves.
//
// A drain is the line's, not the configuration's: it holds at once for the pool in force and for p,
// and for every pool that NewPool builds from them. One that was built before the drain heeds
// it when it starts. A pool given up before its Start has drained nonetheless.
//
// PoolOptions.Changed is not called: whoever drains knows, and may hold its own locks.
func (p *Pool) Drain(draining bool) {
	p.line.draining.Store(draining)
	p.refreshLine()
}

// DrainEndpoint begins or ends the drain of one endpoint by itself, as Drain does for all, and
// reports whether the pool has it. An endpoint that a configuration drops and a later one
// brings back is a new one, which does not drain.
func (p *Pool) DrainEndpoint(address string, draining bool) bool {
	for _, e := range p.endpoints {
		if e.Address == address {
			e.drains.Store(draining)
			p.refreshLine()
			return true
		}
	}
	return false
}

// Draining reports whether the pool drains as a whole. Endpoints that drain by themselves do
// not make it so, even when it has no other.
func (p *Pool) Draining() bool { return p.line.draining.Load() }

// Inflight returns how many attempts are under way at the pool's endpoints; a drain is over
// when it is 0. Endpoints that left with an earlier configuration do not count.
func (p *Pool) Inflight() int64 {
	n := int64(0)
	for _, e := range p.endpoints {
		n += e.Inflight()
	}
	return n
}

// refreshLine lets Pick heed a drain that was just set. A pool that starts meanwhile either
// sees the drain in its own refresh, or is in force here already.
func (p *Pool) refreshLine() {
	p.refresh()
	if now := p.line.inForce.Load(); now != nil && now != p {
		now.refresh()
	}
}

// Draining reports whether the endpoint gets no new requests because it drains, by itself or
// because its pool does.
func (e *Endpoint) Draining() bool { return e.drains.Load() || e.line.draining.Load() }

// DrainsItself reports whether the endpoint drains by itself, whatever its pool does.
func (e *Endpoint) DrainsItself() bool { return e.drains.Load() }
