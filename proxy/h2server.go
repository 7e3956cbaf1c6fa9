package proxy

import (
	"errors"
	"os"
	"sync"

	"weir/config"
	"weir/proxy/h2"
)

// HTTP/2 from clients. A connection is a clientMux; each of its streams is a request, which a conn of its own serves
// (h2server_stream.go) as it would one of HTTP/1.1, on a strand of its own in the connection's lane.
//
// The connection's own conn reads, waits without a strand and without a buffer while nothing comes, and is what the
// watch holds to the idle time (h2server_watch.go). What the streams and the connection have to say gathers in h2, and
// a strand that exists only meanwhile sends it: what many streams say in one turn of a loop leaves in one write, and
// a client that does not read holds up nobody else.

// clientMux is an HTTP/2 connection from a client.
type clientMux struct {
	c       *conn
	wr      socket       // of c's descriptor: one strand writes while another reads
	writeFn func(strand) // write, bound once
	nowFn   func(fd uintptr)
	first   []byte // what came before it was known to be HTTP/2

	mu      sync.Mutex // taken after that of a conn; never held for I/O
	h2      *h2.Conn
	list    h2.List
	limit   int    // of requests under way
	parts   int    // strands that have not ended yet, and the reader, also while it waits without one
	under   int    // of them requests
	writing bool   // there is a strand that sends
	amid    uint64 // what the client has begun to send (h2.Conn.Amid), and has until c.total to end
	refused uint64 // streams, as far as they were counted
	broken  bool   // nothing can be sent any more
	over    bool   // nothing is read any more
	free    []*clientStream
	// What the bytes that are taken in have begun, and which requests they have ended. The reader's.
	begun, gone []*clientStream
}

// Windows of clients, in bytes: what they may send on a stream before any of it is read, and once it is; and on all
// streams of a connection beside what waits to be read. So uploads that wait, for their turn or for a slow endpoint, hold
// up none of the others.
const (
	clientStreamWindow = 64 << 10
	leastStreamWindow  = 16 << 10 // where so many streams are allowed that together they would be more than
	clientUnread       = 16 << 20
	clientStreamGrown  = 256 << 10
	clientGrowth       = 6 << 20 // of all streams of a connection that are read
	clientWindow       = 1 << 20
)

// clientSettings are what weir allows a client.
func clientSettings(limits *config.ListenerLimits) h2.Settings {
	window := min(max(clientUnread/max(limits.Streams, 1), leastStreamWindow), clientStreamWindow)
	return h2.Settings{
		MaxStreams: uint32(limits.Streams), MaxHeader: int(limits.Header), Window: int32(window), ConnWindow: clientWindow,
		Unread: int64(limits.Streams)*int64(window) + clientGrowth, Grown: clientStreamGrown,
	}
}

// errHTTP2 says that a connection begins with the preface of HTTP/2.
var errHTTP2 = errors.New("HTTP/2")

// errHTTP1 says that it does not, where nothing else is spoken.
var errHTTP1 = errors.New("not HTTP/2")

// protocol looks at the first bytes of a connection, in the buffer: it returns errHTTP2, errHTTP1, or nil for a
// request of HTTP/1.1. It reads more only where what is there may be either.
func (c *conn) protocol(in *intake) error {
	c.met = true
	settings := c.listener.settings.Load()
	if c.agreed == alpnHTTP2 {
		return errHTTP2
	}
	for settings.Speaks(config.ProtocolHTTP2) && !c.secure { // over TLS it is agreed upon before
		b, _ := in.br.Peek(in.br.Buffered())
		n := min(len(b), len(h2.Preface))
		if string(b[:n]) != h2.Preface[:n] {
			break
		}
		if n == len(h2.Preface) {
			return errHTTP2
		}
		if _, err := in.br.Peek(n + 1); err != nil {
			break
		}
	}
	if !settings.Speaks(config.ProtocolHTTP1) {
		return errHTTP1
	}
	return nil
}

// speakHTTP2 makes an HTTP/2 connection of c, from whose client came what is in first. The strand of c, which calls
// it, goes on with mux.read.
func (c *conn) speakHTTP2(first []byte) {
	l := c.listener
	limits := &l.settings.Load().Limits
	m := &clientMux{c: c, limit: limits.Streams, parts: 1, first: append([]byte(nil), first...)}
	m.h2 = h2.NewServer(clientSettings(limits), m)
	m.wr.open(c.descriptor, l.p.ops)
	m.wr.progress = c.wrote
	m.writeFn, m.nowFn = m.write, m.nowStep
	c.idleUntil = l.clock.after(l.settings.Load().Timeouts.KeepAlive)
	l.p.http2.connections.Add(1)
	m.amid = m.h2.Amid()
	m.timeHead(true)
	c.mux.Store(m)
	m.settle()
	m.mu.Lock()
	m.flush(c.strand)
	m.mu.Unlock()
}

// read takes in what there is, and then waits for more. Its strand is the connection's.
func (m *clientMux) read(s strand) {
	c := m.c
	waits := idlerOf(c.descriptor)
	for m.readAll(s) {
		if waits == nil {
			_ = c.wait() // why it failed, the watch has noted, or the read that comes next finds
		} else if waits.await(c.task) {
			return
		} else { // weir is ending
			break
		}
	}
	m.end(s)
}

// readAll takes in what there is. It returns true when there is nothing for now, and false when the connection has to
// end.
func (m *clientMux) readAll(s strand) bool {
	if !m.wakened(s) {
		return false
	}
	c := m.c
	if p := m.first; p != nil {
		if m.first = nil; !m.take(s, p) {
			return false
		}
	}
	buffers := &c.listener.p.http2.buffers
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	for vain := 0; ; {
		n, err := m.readSome(*bp)
		switch {
		case err == nil:
			if vain = 0; !m.take(s, (*bp)[:n]) {
				return false
			}
			if b, ok := c.descriptor.(breather); ok {
				b.breathe()
			}
		case err == errIdle:
			return true
		case !errors.Is(err, os.ErrDeadlineExceeded):
			_ = c.readFailed(err)
			return false
		case !m.heed(s), vain > maxVain:
			return false
		case c.phase.Load() == phaseDetached:
			return true
		default:
			vain++
		}
	}
}

// maxVain is how often in a row an interrupt may have been meant for another strand. Beyond that, nobody has anything
// to heed: weir is ending.
const maxVain = 8

// readSome reads some bytes. It returns errIdle where there is nothing to read and a goroutine is not worth its
// waiting.
func (m *clientMux) readSome(p []byte) (int, error) {
	c := m.c
	switch {
	case c.via != nil:
		return c.via.receiveNow(p)
	case c.fused:
		return c.read(p)
	case !c.announced():
		return 0, errIdle
	}
	c.rbuf, c.n, c.err = p, 0, nil
	if err := c.fd.Control(m.nowFn); err != nil {
		return 0, err
	}
	return c.n, c.err
}

// nowStep is readStep for a strand that does not wait.
func (m *clientMux) nowStep(fd uintptr) {
	if c := m.c; !c.readStep(fd) {
		c.drained()
		c.err = errIdle
	}
}

// take takes in bytes, begins the requests in them and ends those that their clients have given up; false when the
// connection has to end.
func (m *clientMux) take(s strand, p []byte) bool {
	m.mu.Lock()
	err := m.h2.Receive(p)
	m.flush(s)
	over := m.h2.Drained()
	before, amid, refused := m.amid, m.h2.Amid(), m.h2.Refused()-m.refused
	m.amid, m.refused = amid, m.refused+refused
	m.mu.Unlock()
	if refused > 0 {
		m.c.listener.p.http2.refused.Add(refused)
	}
	if amid != before {
		m.timeHead(amid != 0)
		m.settle()
	}
	m.pass(s)
	return err == nil && !over
}

// pass has the streams begin that have come, and tells those that are gone.
func (m *clientMux) pass(s strand) {
	if len(m.begun) > 0 && m.c.phase.Load() != phaseBusy {
		m.settle()
	}
	for i, st := range m.begun {
		m.begun[i] = nil
		if st.conn.shard == nil {
			st.conn.shard = m.c.listener.p.watch.add(&st.conn)
		}
		if !s.spawn(st.task) { // weir is ending
			st.finish(s)
		}
	}
	for i, st := range m.gone {
		m.gone[i] = nil
		st.conn.left()
	}
	m.begun, m.gone = m.begun[:0], m.gone[:0]
}

// end ends the connection: what is under way on it, too.
func (m *clientMux) end(s strand) {
	c := m.c
	m.mu.Lock()
	m.over = true
	if err := m.h2.Err(); err != nil {
		c.linger = true // the client may still be sending
		c.listener.p.http2.faults.add(err.Code.String())
	}
	m.broken = m.broken || c.eof || c.broken
	m.h2.Close(h2.NoError)
	m.flush(s)
	m.mu.Unlock()
	m.pass(s)
	m.leave(s)
}

// leave is the end of a part of the connection. The last one closes it.
func (m *clientMux) leave(s strand) {
	m.mu.Lock()
	m.parts--
	last := m.parts == 0
	m.mu.Unlock()
	if !last {
		return
	}
	m.forget()
	c := m.c
	s.own(c.descriptor)
	c.strand = s
	c.listener.p.http2.connections.Add(-1)
	c.hangUp()
}

// forget gives up what is kept for further streams.
func (m *clientMux) forget() {
	m.mu.Lock()
	free := m.free
	m.free = nil
	m.mu.Unlock()
	for _, st := range free {
		st.conn.shard.remove(&st.conn)
	}
}

// flush has what is pending sent. Called with mu held, by a strand of the lane.
func (m *clientMux) flush(s strand) {
	if !m.writing && !m.broken && len(m.h2.Pending()) > 0 && s.spawn(m.writeFn) {
		m.writing = true
		m.parts++
	}
}

// write is the strand that sends what is pending, as long as there is any.
func (m *clientMux) write(s strand) {
	c := m.c
	m.mu.Lock()
	for vain := 0; !m.broken; {
		p := m.h2.Pending()
		if len(p) == 0 && !m.wr.unsent() {
			break
		}
		m.mu.Unlock()
		c.wrote()
		n, err := m.wr.write(p)
		if vain++; n > 0 {
			vain = 0
		}
		lost := err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || !m.heed(s) || vain > maxVain)
		if lost {
			c.noteWrite(err)
		}
		m.mu.Lock()
		m.h2.Sent(n)
		m.broken = m.broken || lost
	}
	m.writing = false
	over := !m.over && (m.broken || m.h2.Drained())
	m.mu.Unlock()
	m.settle()
	if over {
		m.quit()
	}
	m.leave(s)
}
