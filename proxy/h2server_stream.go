package proxy

import (
	"net/netip"
	"os"

	"github.com/valyala/fasthttp"
	"weir/proxy/grpc"
	"weir/proxy/h2"
)

// clientStream is a stream of a client's: a channel that yields the request, and takes the answer, as the text of
// HTTP/1.1, and the conn that serves it. One strand may read while another writes.
type clientStream struct {
	m       *clientMux
	conn    conn
	task    func(strand) // serve, bound once
	in, out signal       // something has come; more may be sent. nil before the first request

	// Under m's mu.
	x           h2.Exchange
	tooLarge    bool // the head
	call        bool // such a head is of a call of gRPC
	interrupted bool
}

// maxFreeClientStreams is how many streams' memory a connection keeps that was busy a moment ago.
const maxFreeClientStreams = 128

// Headers implements h2.Events, and so do the following. They are called with mu held.
func (m *clientMux) Headers(s *h2.Stream, fields []h2.Field, end bool) {
	if st, ok := s.User.(*clientStream); ok {
		if st.x.Trailers(fields); st.x.Gone() {
			m.lose(st)
		}
		st.news()
		return
	}
	if m.under >= 2*m.limit { // streams that the client has reset, whose requests have not ended yet
		m.c.listener.p.http2.refused.Add(1)
		s.Reset(h2.RefusedStream)
		s.Release()
		return
	}
	st := m.stream()
	s.User = st
	st.x.Begin(s, fields, end)
	st.tooLarge, st.call, st.interrupted = s.TooLarge, s.TooLarge && asksCall(fields), false
	m.under++
	m.parts++
	m.begun = append(m.begun, st)
	p := m.c.listener.p
	p.http2.streams.Add(1)
	p.http2.begun.Add(1)
}

// asksCall reports whether a head, as far as it is there, is that of a call of gRPC.
func asksCall(fields []h2.Field) bool {
	post, ofCall := false, false
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case ":method":
			post = f.Value == "POST"
		case "content-type":
			ofCall = grpc.IsContentType([]byte(f.Value))
		}
	}
	return post && ofCall
}

func (m *clientMux) Data(s *h2.Stream, p []byte, end bool) {
	st := s.User.(*clientStream)
	st.x.Data(p, end)
	st.news()
}

func (m *clientMux) Closed(s *h2.Stream, _ h2.Code, _ bool) {
	p := m.c.listener.p
	if s.Fault != "" {
		p.http2.reset.Add(1)
	} else {
		p.http2.left.Add(1)
	}
	st, ok := s.User.(*clientStream)
	if !ok { // nothing was told of it yet
		p.badRequests.add(malformed.failure().reason)
		s.Release()
		return
	}
	st.x.Closed()
	m.lose(st)
	st.news()
}

func (m *clientMux) Writable(s *h2.Stream) {
	if st, ok := s.User.(*clientStream); ok && st.out != nil {
		st.out.raise()
	}
}

func (m *clientMux) lose(st *clientStream) { m.gone = append(m.gone, st) }

// stream returns a stream whose memory may have been another's.
func (m *clientMux) stream() *clientStream {
	if last := len(m.free) - 1; last >= 0 {
		st := m.free[last]
		m.free = m.free[:last]
		return st
	}
	own := m.c
	st := &clientStream{m: m}
	st.task = st.serve
	c := &st.conn
	c.listener, c.peer, c.ip, c.port, c.aim, c.secure, c.stream = own.listener, own.peer, own.ip, own.port, own.aim, own.secure, st
	c.identity = own.identity
	c.open(st, own.ops)
	c.progress = c.wrote
	c.phase.Store(phaseFree)
	return st
}

// news wakes who waits for the request, and who sends an answer that nobody waits for any more. Called with m's mu
// held.
func (st *clientStream) news() {
	if st.in == nil {
		return
	}
	st.in.raise()
	if st.x.Gone() {
		st.out.raise()
	}
}

// serve serves the stream's request.
func (st *clientStream) serve(s strand) {
	c := &st.conn
	c.mu.Lock()
	c.strand = s
	c.phase.Store(phaseHead)
	c.mu.Unlock()
	if st.open(s) {
		c.serveOne(st.tooLarge)
	}
	st.finish(s)
}

// open makes text of the request's head; false where there is nothing to be served.
func (st *clientStream) open(s strand) bool {
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if st.in == nil {
		st.in, st.out = s.signal(), s.signal()
	}
	switch {
	case st.x.Gone():
		return false
	case st.tooLarge:
		return true
	}
	if st.x.Open() == nil {
		return true
	}
	p := m.c.listener.p
	p.badRequests.add(malformed.failure().reason)
	p.http2.reset.Add(1)
	m.flush(s)
	return false
}

// serveOne serves the only request of a connection; tooLarge: it has too large a head, and can only be refused.
func (c *conn) serveOne(tooLarge bool) {
	defer func() {
		if v := recover(); v != nil { // as in converse
			c.listener.p.panicked(v)
		}
	}()
	in := c.listener.intakes.Load().take(c)
	c.req = &in.req
	var err error
	if tooLarge {
		c.sawLine, err = true, &fasthttp.ErrSmallBuffer{}
	} else {
		err = in.msg.Header.Read(in.br)
	}
	if err != nil {
		c.refuse(in, err)
	} else {
		c.serveNext(in)
	}
	c.req = nil
	in.rest()
}

// finish gives the stream back. One whose answer is whole ends as it should, also where nobody has read all of the
// request (RFC 9113, 8.1); any other is reset, so that nobody takes for whole what is not.
func (st *clientStream) finish(s strand) {
	m, c := st.m, &st.conn
	cut := c.cut
	c.free()
	p := c.listener.p
	m.mu.Lock()
	switch stream := st.x.Stream(); {
	case !stream.Open():
	case st.x.Answered():
		stream.Reset(h2.NoError)
	default:
		p.http2.reset.Add(1)
		if cut {
			stream.Reset(h2.InternalError)
		} else {
			stream.Reset(h2.Cancel)
		}
	}
	st.x.End()
	if p.stopping.Load() || p.memory.pressure.Load() != pressureNone {
		m.h2.Shutdown()
	}
	m.flush(s)
	kept := len(m.free) < maxFreeClientStreams
	if kept {
		m.free = append(m.free, st)
	}
	m.under--
	idle := m.under == 0
	if idle {
		m.rested()
	}
	m.mu.Unlock()
	p.http2.streams.Add(-1)
	if !kept && c.shard != nil {
		c.shard.remove(c)
	}
	if idle {
		m.settle()
	}
	m.leave(s)
}

// free makes a stream's conn ready for another stream.
func (c *conn) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase.Store(phaseFree)
	c.deadline.Store(0)
	c.total.Store(0)
	c.reason, c.parked, c.armed, c.ep = reasonNone, false, false, nil
	c.eof, c.broken, c.cut, c.hard, c.stuck, c.finished, c.linger, c.sawLine = false, false, false, false, false, false, false, false
}

func (st *clientStream) receive(p []byte) (int, error) {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	for {
		if n, err := st.take(p); err != errIdle {
			return n, err
		}
		st.in.wait(&st.m.mu)
	}
}

func (st *clientStream) receiveNow(p []byte) (int, error) {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	return st.take(p)
}

// take is receiveNow with m's mu held.
func (st *clientStream) take(p []byte) (int, error) {
	if st.interrupted {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := st.x.Read(p)
	if n > 0 {
		st.m.flush(st.conn.strand) // windows are open again
	} else if err == nil && len(p) > 0 {
		err = errIdle
	}
	return n, err
}

func (st *clientStream) attend() error {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	for !st.interrupted {
		if st.x.Readable() {
			return nil
		}
		st.in.wait(&st.m.mu)
	}
	return os.ErrDeadlineExceeded
}

func (st *clientStream) transmit(p []byte, progress func()) (n int, err error) {
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if st.interrupted {
			return n, os.ErrDeadlineExceeded
		}
		k, err := st.x.Write(p[n:], &m.list)
		n += k
		m.flush(st.conn.strand)
		if err != nil || n == len(p) {
			return n, err
		}
		if k > 0 && progress != nil {
			progress()
		}
		st.out.wait(&m.mu)
	}
}

func (st *clientStream) quiet() bool { return !st.readable() }

func (st *clientStream) readable() bool {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	return st.x.Readable()
}

// peerGone: a client that has sent all of its request is still there.
func (st *clientStream) peerGone() bool {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	return st.x.Gone()
}

func (st *clientStream) interrupt() {
	st.m.mu.Lock()
	st.interrupted = true
	if st.in != nil {
		st.in.raiseFrom()
		st.out.raiseFrom()
	}
	st.m.mu.Unlock()
}

func (st *clientStream) resume() {
	st.m.mu.Lock()
	st.interrupted = false
	st.m.mu.Unlock()
}

// Where and how the answer ends, its framing has said by then, or finish does.
func (st *clientStream) close()      {}
func (st *clientStream) closeWrite() {}
func (st *clientStream) reset()      {}

func (st *clientStream) announced() bool       { return true }
func (st *clientStream) drained()              {}
func (st *clientStream) rest()                 {}
func (st *clientStream) local() netip.AddrPort { return st.m.c.local() }
