package proxy

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"weir/proxy/h2"
)

// epStream is a request's stream on a connection to an endpoint: a channel that takes the request, and yields the
// answer, as the text of HTTP/1.1. One strand may wait for the answer while another sends.
type epStream struct {
	e  epConn
	m  *epMux
	in signal // something has come
	// out: more may be sent. Both are nil until a strand has had the stream.
	out signal

	// Under m's mu.
	call        h2.Call
	begun       bool
	at          uint64 // where its head is in all that m sends
	interrupted bool
	lingers     int // the request has done with it, for so many seconds
}

// open begins a stream; nil where there is no room. Until the endpoint has said how many streams it takes there is
// one. Called with the lane's mu held.
func (m *epMux) open(limit int) *epConn {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.h2.Streams()
	if n >= limit || n > 0 && !m.h2.Greeted() || m.away {
		return nil
	}
	s := m.h2.Open()
	if s == nil {
		return nil
	}
	var x *epStream
	if last := len(m.free) - 1; last >= 0 {
		x, m.free = m.free[last], m.free[:last]
	} else {
		x = &epStream{m: m}
		x.e.stream, x.e.t = x, m.t
		x.e.open(x, m.t.ops)
	}
	s.User = x
	x.call.Begin(s)
	x.begun, x.interrupted, x.lingers = false, false, 0
	// As with a kept-alive connection of HTTP/1.1: what nobody has used for a moment may just be ending.
	x.e.used = n == 0 && m.h2.Greeted()
	return &x.e
}

// bind makes x the strand's. It has signals of its lane.
func (x *epStream) bind(s strand) {
	if x.in == nil {
		in, out := s.signal(), s.signal()
		x.m.mu.Lock()
		x.in, x.out = in, out
		x.m.mu.Unlock()
	}
}

// news wakes who waits for the answer; the last, who sends as well. Called with m's mu held.
func (x *epStream) news(last bool) {
	switch {
	case x.lingers > 0:
		if m := x.m; last {
			m.lingering = slices.Delete(m.lingering, slices.Index(m.lingering, x), 1+slices.Index(m.lingering, x))
			m.recycle(x)
		}
	case x.in != nil:
		x.in.raise()
		if last {
			x.out.raise()
		}
	}
}

// finish gives the stream back. keep: its answer was read whole; the END_STREAM behind that may take a moment, and
// an endpoint that is about to send it is not told that its work was in vain.
func (x *epStream) finish(keep bool) {
	m := x.m
	m.mu.Lock()
	switch s := x.call.Stream(); {
	case keep && s.Open() && x.call.Sent() && !m.away:
		x.lingers = 1
		m.lingering = append(m.lingering, x)
	default:
		m.recycle(x)
	}
	idle := m.h2.Streams() == len(m.lingering)
	m.flush()
	m.mu.Unlock()
	if m.lane.waiting.Load() > 0 {
		m.t.serve(m.lane)
	}
	if idle {
		m.t.settle(m)
	}
}

// recycle ends x's call and keeps its memory. Called with mu held.
func (m *epMux) recycle(x *epStream) {
	x.call.End()
	if len(m.free) < maxFreeStreams {
		m.free = append(m.free, x)
	}
}

func (x *epStream) transmit(p []byte, progress func()) (n int, err error) {
	m := x.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if x.interrupted {
			return n, os.ErrDeadlineExceeded
		}
		if !x.begun {
			x.begun, x.at = true, m.sent+uint64(len(m.h2.Pending()))
		}
		k, err := x.call.Write(p[n:], &m.list, m.secure)
		n += k
		m.flush()
		if errors.Is(err, h2.ErrUnprocessed) {
			err = errStale
		}
		if err != nil || n == len(p) {
			return n, err
		}
		if x.call.Whole() { // nobody waits for the rest
			return n, h2.ErrOver
		}
		if k > 0 && progress != nil {
			progress()
		}
		x.out.wait(&m.mu)
	}
}

func (x *epStream) receive(p []byte) (int, error) {
	m := x.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if n, err := x.take(p); err != errIdle {
			return n, err
		}
		x.in.wait(&m.mu)
	}
}

func (x *epStream) receiveNow(p []byte) (int, error) {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	return x.take(p)
}

// take is receiveNow with m's mu held.
func (x *epStream) take(p []byte) (int, error) {
	if x.interrupted {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := x.call.Read(p)
	switch {
	case n > 0:
		x.m.flush() // windows are open again
	case errors.Is(err, h2.ErrUnprocessed):
		err = errStale
	case err == nil && len(p) > 0:
		err = errIdle
	}
	return n, err
}

func (x *epStream) attend() error {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	for !x.interrupted {
		if x.call.Readable() {
			return nil
		}
		x.in.wait(&x.m.mu)
	}
	return os.ErrDeadlineExceeded
}

// faulty reports whether the answer ended because of what the endpoint sent.
func (x *epStream) faulty() bool {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	if e, ok := errors.AsType[*h2.CallError](x.call.Err()); !ok {
		return false
	} else if e.Fault != "" {
		return true
	}
	_, fault := errors.AsType[*h2.Error](x.m.cause)
	_, other := errors.AsType[*notHTTP2Error](x.m.cause)
	return fault || other
}

// quiet is asked about a connection that had nothing to do for a while. One that has ended takes no more streams. Where
// it has no strand that would have noticed, the loop may know of it.
func (x *epStream) quiet() bool {
	gone := x.m.waits != nil && x.m.conn.peerGone()
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	x.m.away = x.m.away || gone
	return !gone && !x.call.Readable()
}

// readable: interim answers are no reason to stop sending.
func (x *epStream) readable() bool {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	return x.call.Answering()
}

func (x *epStream) peerGone() bool {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	return x.call.Err() != nil
}

func (x *epStream) interrupt() {
	x.m.mu.Lock()
	x.interrupted = true
	x.in.raiseFrom()
	x.out.raiseFrom()
	x.m.mu.Unlock()
}

func (x *epStream) resume() {
	x.m.mu.Lock()
	x.interrupted = false
	x.m.mu.Unlock()
}

// reset cancels what the endpoint does. The stream is given back later.
func (x *epStream) reset() {
	x.m.mu.Lock()
	if s := x.call.Stream(); s != nil {
		s.Reset(h2.Cancel)
	}
	x.m.flush()
	x.m.mu.Unlock()
}

func (x *epStream) announced() bool       { return true }
func (x *epStream) drained()              {}
func (x *epStream) rest()                 {}
func (x *epStream) close()                { x.reset() }
func (x *epStream) closeWrite()           {} // the framing of the request says where it ends
func (x *epStream) local() netip.AddrPort { return x.m.conn.local() }
