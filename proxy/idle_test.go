//go:build linux

package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"weir/config"
)

// What ends idle connections, at a moment that the tests choose: what comes first, the request or the end,
// is decided once, and a request that came first is answered.

const idleRequest = "GET /idle HTTP/1.1\r\nHost: h\r\n\r\n"

// enders end an idle connection, as the watch and a stop do.
var enders = map[string]func(*conn){
	"expiry": func(c *conn) { c.inspect(c.idleUntil + 1) },
	"stop":   func(c *conn) { c.stop(false) },
}

// TestRequestBeforeTheEnd: the end comes when the request's bytes have been read and nothing else was done.
func TestRequestBeforeTheEnd(t *testing.T) {
	for name, end := range enders {
		for _, engine := range []string{config.EngineLoop, config.EngineGoroutine} {
			t.Run(name+", "+engine, func(t *testing.T) {
				p := engineProxy(t, engine, "", fixedEndpoint(t))
				nc, c := held(t, p)
				send(t, nc, idleRequest)
				reads := 0
				c.proceed(func() {
					if reads++; reads == 1 {
						end(c.conn)
					}
				}, nothing)
				answered(t, nc, 1)
				send(t, nc, idleRequest)
				answered(t, nc, 1) // and it is a connection like all others
			})
		}
	}
}

// TestPipelinedRequestBeforeTheEnd: the end comes between two requests that came together.
func TestPipelinedRequestBeforeTheEnd(t *testing.T) {
	for name, end := range enders {
		t.Run(name, func(t *testing.T) {
			p := engineProxy(t, config.EngineLoop, "", fixedEndpoint(t))
			nc, c := held(t, p)
			send(t, nc, idleRequest+idleRequest)
			c.proceed(nothing, func() { end(c.conn) })
			answered(t, nc, 2)
		})
	}
}

// TestRequestOvertakesTheEnd: a connection's time is over, but before that takes effect a request is there.
func TestRequestOvertakesTheEnd(t *testing.T) {
	for name, end := range enders {
		for _, engine := range []string{config.EngineLoop, config.EngineGoroutine} {
			p := engineProxy(t, engine, "", fixedEndpoint(t))
			nc, c := held(t, p)
			end(c.conn)
			if c.interruptedBy() == reasonNone {
				t.Fatalf("%s: it did not end", name)
			}
			send(t, nc, idleRequest)
			c.proceed(nothing, nothing)
			answered(t, nc, 1)
		}
	}
}

// heldConn is an idle client connection that nothing runs until proceed.
type heldConn struct {
	*conn
	release chan func()
}

// held makes the first connection of p, and keeps its engine from it.
func held(t *testing.T, p *Proxy) (*net.TCPConn, *heldConn) {
	t.Helper()
	if p.Config().Engine == config.EngineLoop {
		nc := connect(t, p)
		h := &heldConn{release: make(chan func())}
		ready := make(chan bool)
		l := p.engines.started()[0]
		l.post(func() {
			h.conn = p.watched()[0]
			h.expireSoon()
			close(ready)
			(<-h.release)()
		})
		<-ready
		return nc, h
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	d, err := newNetConn(accepted.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	l := (*p.listeners.Load())[0]
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	p.connections.Add(1)
	h := &heldConn{conn: l.newConn(d, addrPort(accepted.RemoteAddr()))}
	h.expireSoon()
	return nc.(*net.TCPConn), h
}

// expireSoon makes the idle time end before a head would be late.
func (h *heldConn) expireSoon() {
	h.idleUntil = h.listener.clock.after(5 * time.Second)
	h.deadline.Store(h.idleUntil)
}

// proceed lets the engine have the connection. afterRead is called after each read from it, between
// between two requests that a loop serves in one go.
func (h *heldConn) proceed(afterRead, between func()) {
	c := h.conn
	if h.release == nil {
		c.fd = &meddled{c.fd, afterRead}
		go c.run()
		return
	}
	h.release <- func() {
		lc := c.descriptor.(*loopConn)
		lc.idle, lc.ready = nil, true
		lc.l.start(func(s strand) {
			s.own(lc)
			m := &meddledLoop{lc, afterRead, between}
			c.descriptor, c.fd = m, m
			c.turn(s)
			c.descriptor, c.fd = lc, lc
		})
	}
}

// meddled is a file of which a test has a say when it was read.
type meddled struct {
	file
	afterRead func()
}

func (m *meddled) Read(step func(uintptr) bool) error {
	defer m.afterRead()
	return m.file.Read(step)
}

// meddledLoop is the same on a loop.
type meddledLoop struct {
	*loopConn
	afterRead, between func()
}

func (m *meddledLoop) Read(step func(uintptr) bool) error {
	defer m.afterRead()
	return m.loopConn.Read(step)
}

func (m *meddledLoop) Control(f func(uintptr)) error {
	defer m.afterRead()
	return m.loopConn.Control(f)
}

func (m *meddledLoop) breathe() {
	m.between()
	m.loopConn.breathe()
}

func nothing() {}

func send(t *testing.T, nc net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(nc, s); err != nil {
		t.Fatal(err)
	}
}

// answered checks for so many answers, and nothing behind them so far.
func answered(t *testing.T, nc net.Conn, n int) {
	t.Helper()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(nc)
	for i := range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("no answer %d: %v", i+1, err)
		}
		if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil {
			t.Errorf("answer %d: %s %q, %v", i+1, resp.Status, body, err)
		}
	}
}
