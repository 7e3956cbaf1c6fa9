package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// sweepInterval is how often the watch looks at every connection, and so the error of every
// timeout. A timer or a deadline per request would cost more than everything weir does with it.
const sweepInterval = 100 * time.Millisecond

// parkAfter is the idle time after which a connection gives its read buffer back.
const parkAfter = time.Second

// clock is monotonic time in nanoseconds, read once per sweep: precise enough for timeouts, and
// free on the request path.
type clock struct {
	now   atomic.Int64
	start time.Time
}

func newClock() *clock {
	c := &clock{start: time.Now()}
	c.tick()
	return c
}

func (c *clock) tick() int64 {
	// 1: a zero deadline means none.
	n := int64(time.Since(c.start)) + 1
	c.now.Store(n)
	return n
}

// after is the deadline d from now, rounded up by a sweep; 0, which is never, when d is 0.
func (c *clock) after(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return c.now.Load() + int64(d) + int64(sweepInterval)
}

const watchShards = 16

// watch knows every open client connection. Once per sweepInterval it interrupts what is late,
// notices clients that went away, and parks what is idle.
type watch struct {
	clock  *clock
	next   atomic.Uint32
	shards [watchShards]watchShard
}

type watchShard struct {
	mu    sync.Mutex
	conns []*conn
}

func newWatch(c *clock) *watch { return &watch{clock: c} }

func (w *watch) add(c *conn) *watchShard {
	s := &w.shards[w.next.Add(1)%watchShards]
	s.mu.Lock()
	c.indexed = len(s.conns)
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	return s
}

func (s *watchShard) remove(c *conn) {
	s.mu.Lock()
	last := len(s.conns) - 1
	moved := s.conns[last]
	s.conns[c.indexed] = moved
	moved.indexed = c.indexed
	s.conns[last] = nil
	s.conns = s.conns[:last]
	s.mu.Unlock()
}

// run sweeps until ctx ends or done says that nothing is left to watch; also is called with each sweep.
func (w *watch) run(ctx context.Context, also func(), done func() bool) {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := w.clock.tick()
			w.each(func(c *conn) { c.inspect(now) })
			also()
		}
	}
}

func (w *watch) each(f func(*conn)) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for _, c := range s.conns {
			f(c)
		}
		s.mu.Unlock()
	}
}

// inspect is the sweep's look at one connection. The phase is read under mu, where the owner
// changes what an interrupt would hit. So are the deadlines: a request may have ended meanwhile.
func (c *conn) inspect(now int64) {
	phase := c.phase.Load()
	deadline, total := c.deadline.Load(), c.total.Load()
	late := deadline != 0 && now > deadline
	if phase == phaseIdle && !late && now < c.parkAt.Load() {
		return
	}
	if phase == phaseDetached && !late {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != reasonNone || c.phase.Load() != phase || c.deadline.Load() != deadline || c.total.Load() != total {
		return
	}
	switch {
	case late:
		c.halt(reasonTimeout)
	case total != 0 && now > total && phase >= phaseBusy:
		c.halt(reasonTotal)
	case phase == phaseIdle:
		c.halt(reasonPark)
	case (phase == phaseAwait || phase == phaseDuplex) && !c.told && c.peerGone():
		c.halt(reasonGone)
	case phase == phaseUpload && c.ep != nil && c.ep.readable():
		c.halt(reasonEarly)
	}
}

// halt wakes the owner out of whatever it waits for. Called with mu held.
func (c *conn) halt(why reason) {
	c.reason = why
	c.interrupt()
	if c.parked {
		c.strand.unpark()
	}
	if c.ep != nil {
		c.ep.interrupt()
	}
}
