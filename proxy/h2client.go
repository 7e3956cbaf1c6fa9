package proxy

import (
	"errors"
	"slices"
	"sync"
	"time"

	"weir/proxy/h2"
)

// HTTP/2 to endpoints. A request sees a channel (h2client_stream.go); what it shares with others is an epMux, whose
// place among the connections of its lane is in h2client_lane.go.

// epMux is an HTTP/2 connection to an endpoint, which the strands of one lane share. Two strands are its own: one
// takes in what comes, the other sends what h2 has pending. So no request ever waits for what another one has to say,
// an interrupt concerns one stream alone, and what many streams say in one turn of a loop leaves in one write.
type epMux struct {
	t      *transport
	lane   *lane
	index  int // of lane
	conn   descriptor
	waits  idler  // conn, where it can wait without a strand
	rd, wr socket // of conn: one strand reads while the other writes
	secure bool
	readFn func(strand) // read, bound once

	mu        sync.Mutex // taken after that of a conn, a transport or a lane; never held for I/O
	h2        *h2.Conn
	list      h2.List
	wake      signal // of the writer
	sent      uint64 // bytes that have left
	leaving   int    // bytes behind those that a write may have sent
	free      []*epStream
	lingering []*epStream // given back before the endpoint has ended them
	first     [32]byte    // that came, as long as it may not be HTTP/2
	came      int         // of them
	away      bool        // the endpoint said GOAWAY
	over      bool        // all streams are closed, the connection is about to be
	broken    bool        // and nothing can be sent any more
	cause     error       // why it is over

	// In seconds, as tick counts them.
	silent, asked int // since something came while there were streams; since there was a PING
}

// What an endpoint may send before it is consumed, in bytes, and how many streams' memory a connection keeps.
const (
	streamWindow   = 256 << 10
	maxMuxWindow   = 1 << 30
	maxFreeStreams = 128
	// lingerTicks is for how many seconds a stream whose answer is whole may stay open for its END_STREAM.
	lingerTicks = 5
)

var (
	errPingUnanswered = errors.New("the endpoint has not answered a PING in time")
	errPanic          = errors.New("a panic inside weir")
	errRetired        = errors.New("the connection is not needed any more")
)

// notHTTP2Error is what an endpoint said that does not speak HTTP/2.
type notHTTP2Error struct{ found string }

func (e *notHTTP2Error) Error() string {
	return "expected HTTP/2, found " + e.found
}

// newMux makes a connection of d, whose strands begin to run.
func newMux(t *transport, s strand, d descriptor) (*epMux, error) {
	m := &epMux{t: t, lane: t.lane(s.lane()), index: s.lane(), conn: d, waits: idlerOf(d), wake: s.signal()}
	_, m.secure = d.(*tlsConn)
	// All streams together may have as much as they may each: else a few whose clients read slowly would hold up all.
	window := int32(min(int64(t.settings.Load().streams)*streamWindow, maxMuxWindow))
	m.rd.open(d, t.ops)
	m.wr.open(d, t.ops)
	m.h2 = h2.NewClient(h2.Settings{MaxHeader: maxResponseHead, Window: streamWindow, ConnWindow: window}, m)
	m.readFn = m.read
	if !s.spawn(m.write) || !s.spawn(m.read) { // weir is ending
		return nil, errNoConnection
	}
	t.http2.dialed.Add(1)
	return m, nil
}

// read is the strand that takes in what comes. While nothing does, a loop has no strand and no buffer for it.
func (m *epMux) read(s strand) {
	s.own(m.conn)
	bp := m.t.http2.buffers.Get().(*[]byte)
	defer m.t.http2.buffers.Put(bp)
	defer m.survive()
	for {
		if m.waits != nil && !m.conn.announced() && m.waits.await(m.readFn) {
			return
		}
		n, err := m.rd.read(*bp)
		if !m.take((*bp)[:n], err) {
			return
		}
	}
}

// take takes in what was read; false when the connection is over.
func (m *epMux) take(p []byte, err error) bool {
	goes := m.absorb(p, err)
	if m.lane.waiting.Load() > 0 {
		m.t.serve(m.lane)
	}
	return goes
}

func (m *epMux) absorb(p []byte, err error) (goes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(p) > 0 && !m.over {
		m.receive(p)
	}
	if err != nil {
		if m.came > 0 && !m.h2.Greeted() && !m.over {
			err = m.t.notHTTP2(m.first[:m.came])
		}
		m.end(err, h2.NoError)
		m.broken = true
		m.conn.interrupt() // the writer, too
	}
	m.flush()
	return !m.over
}

// receive takes in bytes. Called with mu held.
func (m *epMux) receive(p []byte) {
	m.silent = 0
	greeted := m.h2.Greeted()
	if !greeted {
		m.came += copy(m.first[m.came:], p)
	}
	err := m.h2.Receive(p)
	switch {
	case err != nil && !m.h2.Greeted():
		err = m.t.notHTTP2(m.first[:m.came])
	case !greeted && m.h2.Greeted():
		m.t.http2.allowed.Store(int64(max(m.h2.Room()+m.h2.Streams(), 1)))
	}
	if err != nil {
		m.end(err, h2.ProtocolError)
	}
	if !m.away && m.h2.Draining() && !m.over {
		m.away = true
		m.t.http2.goAways.Add(1)
	}
}

// end ends all streams, and the connection as soon as the writer has said so. Called with mu held.
func (m *epMux) end(cause error, code h2.Code) {
	if m.over {
		return
	}
	m.over, m.cause = true, cause
	m.h2.Close(code)
	m.wake.raise()
}

// flush has the writer send what is pending, or end. Called with mu held.
func (m *epMux) flush() {
	if len(m.h2.Pending()) > 0 || m.h2.Drained() {
		m.wake.raise()
	}
}

// write is the strand that sends what is pending. It ends with the connection, which it closes.
func (m *epMux) write(s strand) {
	defer func() {
		s.own(m.conn)
		m.conn.close()
		m.t.lost(m)
	}()
	defer m.survive()
	for p := m.pending(); p != nil; p = m.pending() {
		m.wrote(m.wr.write(p))
	}
}

// pending waits for something that is to be sent; nil when there is nothing more to come.
func (m *epMux) pending() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if p := m.h2.Pending(); len(p) > 0 && !m.broken {
			m.leaving = len(p)
			return p
		}
		if m.over || m.h2.Drained() {
			m.end(errRetired, h2.NoError)
			return nil
		}
		m.wake.wait(&m.mu)
	}
}

func (m *epMux) wrote(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent, m.leaving = m.sent+uint64(n), 0
	m.h2.Sent(n)
	if err != nil {
		m.broken = true
		m.end(err, h2.NoError)
	}
}

// survive ends the connection, and not the process, after a panic of one of its strands.
func (m *epMux) survive() {
	v := recover()
	if v == nil {
		return
	}
	m.t.panicked(v)
	defer func() { _ = recover() }() // what has failed may fail again
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = true
	m.conn.interrupt()
	m.end(errPanic, h2.InternalError)
}

// retire has the connection carry no more requests, and end after those that it carries. It may come from anywhere.
func (m *epMux) retire() {
	m.mu.Lock()
	m.away = true // by weir, this time
	m.h2.Shutdown()
	for _, x := range m.lingering {
		m.recycle(x)
	}
	m.lingering = nil
	m.wake.raiseFrom()
	m.mu.Unlock()
}

// ended is why the connection never came to anything; nil where it did.
func (m *epMux) ended() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.h2.Greeted() {
		return nil
	}
	return m.cause
}

// streams is how many requests the connection carries.
func (m *epMux) streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.h2.Streams() - len(m.lingering)
}

// idle reports whether the connection has nothing to do, and might have.
func (m *epMux) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.h2.Streams() == len(m.lingering) && !m.away && !m.over
}

// tick is called once a second, by the lane of the connection.
func (m *epMux) tick(s *transportSettings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over { // and the writer has not come through since
		m.broken = true
		m.conn.interrupt()
		return
	}
	m.h2.Tick()
	m.lingering = slices.DeleteFunc(m.lingering, func(x *epStream) bool {
		if x.lingers++; x.lingers <= lingerTicks {
			return false
		}
		m.recycle(x)
		return true
	})
	m.live(s)
	m.flush()
}

// live asks an endpoint that says nothing for a sign of life, and gives it up without. One that has nothing to do
// is not asked: some take that for an attack. Called with mu held.
func (m *epMux) live(s *transportSettings) {
	if m.h2.Streams() == 0 {
		m.silent, m.asked = 0, 0
		return
	}
	m.silent++
	switch {
	case !m.h2.Pinged(), !m.h2.Greeted(): // SETTINGS are the first sign of life, and nobody has to ask for them
		if m.asked++; time.Duration(m.asked)*time.Second < s.keepaliveTimeout {
			return
		}
		m.t.http2.unanswered.Add(1)
		m.broken = true
		m.end(errPingUnanswered, h2.NoError)
		m.conn.interrupt()
	case time.Duration(m.silent)*time.Second >= s.keepalive:
		m.asked = 0
		m.h2.Ping()
	}
}

// Headers implements h2.Events, and so do the following. They are called with mu held.
func (m *epMux) Headers(s *h2.Stream, fields []h2.Field, end bool) {
	x := s.User.(*epStream)
	x.call.Headers(fields, end)
	x.news(end || x.call.Err() != nil)
}

func (m *epMux) Data(s *h2.Stream, p []byte, end bool) {
	x := s.User.(*epStream)
	x.call.Data(p, end)
	x.news(end)
}

func (m *epMux) Closed(s *h2.Stream, code h2.Code, unprocessed bool) {
	x := s.User.(*epStream)
	if unprocessed {
		m.t.http2.refused.Add(1)
	}
	unprocessed = unprocessed || !x.begun || x.at >= m.sent+uint64(m.leaving) // its head has never left
	x.call.Closed(code, unprocessed)
	x.news(true)
}

func (m *epMux) Writable(s *h2.Stream) {
	if x := s.User.(*epStream); x.out != nil {
		x.out.raise()
	}
}
