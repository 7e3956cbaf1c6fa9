package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tunnel carries bytes between a client and an endpoint, both ways at once, until both have ended their side or one
// is gone. Each way has a strand: up, to the endpoint, that of the request, which does not end before the other's has.
type tunnel struct {
	r        *request
	idle     time.Duration // without a byte either way; 0: without end
	live     *tunnelLive
	began    time.Time
	up, down way

	mu   sync.Mutex
	done bool // down is
	wake signal
}

// way is one direction of a tunnel. While nothing flows it holds no buffer.
type way struct {
	t        *tunnel
	from, to socket // of their own: those of the connections serve the other way
	total    int64  // bytes
	count    *atomic.Uint64
	end      ending
	held     bool // an interrupt has ended a write: whom it was for does not read
	in       lending
}

// ending is how a way has ended.
type ending uint8

const (
	endClean   ending = iota // by the end of what was read
	endSource                // reading failed: who has sent is gone
	endSink                  // writing failed: nobody reads any more
	endStopped               // the watch, or the other way, has ended it
)

func newTunnel(r *request, e *epConn, live *tunnelLive, sent int) *tunnel {
	t := &tunnel{r: r, idle: r.route.cfg.Timeouts.Idle, live: live, began: time.Now(), wake: r.c.strand.signal()}
	t.up.open(t, r.c.descriptor, e.descriptor, &live.in)
	t.down.open(t, e.descriptor, r.c.descriptor, &live.out)
	t.down.add(sent)
	return t
}

func (w *way) open(t *tunnel, from, to descriptor, count *atomic.Uint64) {
	w.t, w.count = t, count
	w.from.open(from, t.r.p.ops)
	w.in.open(&w.from, &t.r.p.pieces)
	w.to.open(to, t.r.p.ops)
	w.to.progress = t.touch
}

// touch defers the idle timeout.
func (t *tunnel) touch() {
	c := t.r.c
	c.deadline.Store(c.listener.clock.after(t.idle))
}

// run carries bytes until the tunnel is over.
func (t *tunnel) run(s strand) {
	t.touch()
	defer t.account()
	if !s.spawn(t.runDown) { // weir is ending
		t.up.end, t.down.end = endStopped, endStopped
		return
	}
	defer t.join()
	t.runUp()
}

// runUp begins with what has come behind the head of the request.
func (t *tunnel) runUp() {
	in := t.r.in
	b, _ := in.br.Peek(in.br.Buffered())
	t.up.end = endStopped // should it panic
	if len(b) > 0 && !t.up.send(b) {
		return
	}
	in.part()
	t.r.c.forget()
	t.r.c.ep.forget()
	t.up.relay()
}

// runDown is the other way, on a strand of its own.
func (t *tunnel) runDown(strand) {
	defer func() {
		if v := recover(); v != nil {
			t.r.p.panicked(v)
			t.down.end = endStopped
			t.breakOff()
		}
		t.mu.Lock()
		t.done = true
		t.wake.raise()
		t.mu.Unlock()
	}()
	t.down.relay()
	if t.down.end == endSource {
		t.breakOff()
	}
}

// join waits for the other way, which ends by itself unless this one was broken off: a peer that takes nothing any
// more may still have sent something.
func (t *tunnel) join() {
	if t.up.end == endSource || t.up.end == endStopped {
		t.breakOff()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.done {
		t.wake.wait(&t.mu)
	}
}

// breakOff ends both ways.
func (t *tunnel) breakOff() {
	c := t.r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonNone {
		c.halt(reasonOver)
	}
}

// account notes what has become of the tunnel, and ends the endpoint's side.
func (t *tunnel) account() {
	r, c := t.r, t.r.c
	c.bodyRead, r.bytesOut = t.up.total, t.down.total
	t.live.duration.Record(time.Since(t.began))
	c.stuck = t.down.held
	switch t.why() {
	case clientGone:
		c.broken = true
		e := c.ep
		c.detach()
		e.t.abort(e)
	case resetByEndpoint:
		c.cut, c.hard = true, true
	case success:
		c.eof = t.up.end == endClean
	}
}

// why is what has ended the tunnel; success where both sides were done.
func (t *tunnel) why() kind {
	switch {
	case t.up.end == endSource:
		return clientGone
	case t.down.end == endSource:
		return resetByEndpoint
	case t.r.c.interruptedBy() == reasonTimeout:
		return attemptTimeout
	}
	return success
}

// relay carries bytes one way until there are no more to come, and passes their end on.
func (w *way) relay() {
	for {
		n, err := w.in.read()
		if n > 0 {
			ok := w.send(w.in.piece(n))
			w.giveBack(n)
			if !ok {
				return
			}
			continue
		}
		w.giveBack(0)
		switch {
		case err == io.EOF:
			w.to.closeWrite()
			w.end = endClean
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.end = endStopped
		default:
			w.end = endSource
		}
		return
	}
}

// send passes a piece on.
func (w *way) send(piece []byte) bool {
	w.t.touch()
	_, err := w.to.write(piece)
	if err != nil {
		if w.end = endSink; errors.Is(err, os.ErrDeadlineExceeded) {
			w.end, w.held = endStopped, true
		}
		return false
	}
	w.t.touch()
	w.add(len(piece))
	return true
}

func (w *way) add(n int) {
	w.total += int64(n)
	w.count.Add(uint64(n))
}

// giveBack ends the use of the buffer. The next is a large one where n bytes have filled this one.
func (w *way) giveBack(n int) {
	if w.in.lent == nil {
		return
	}
	filled := n == len(*w.in.lent)
	w.in.giveBack()
	if w.in.pool = &w.t.r.p.pieces; filled {
		w.in.pool = &w.t.r.p.relays
	}
}
