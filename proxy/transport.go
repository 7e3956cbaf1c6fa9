package proxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"weir/balancer"
)

// transport is weir's own way to one endpoint: its kept-alive connections, newest first, and the
// bound on how many there are. It lives as long as its balancer.Endpoint, across reloads.
type transport struct {
	address string
	addrs   func() []netip.AddrPort
	ops     *SocketOps

	settings atomic.Pointer[transportSettings]
	turn     atomic.Uint32 // which address of a name is dialed next

	mu      sync.Mutex
	idle    []*epConn
	open    int // idle, in use and being dialed
	waiters []chan *epConn
	closed  bool
}

// transportSettings are what a reload may change.
type transportSettings struct {
	max, idle      int
	connectTimeout time.Duration
}

// epConn is one connection to an endpoint.
type epConn struct {
	socket
	t    *transport
	used bool // it has carried a request before
}

var (
	errNoConnection = errors.New("all connections to the endpoint are in use")
	errUnresolved   = errors.New("the endpoint's name has no address yet")
)

func newTransport(address string, addrs func() []netip.AddrPort, ops *SocketOps) *transport {
	return &transport{address: address, addrs: addrs, ops: ops}
}

func (p *Proxy) newTransport(e *balancer.Endpoint) *transport {
	return newTransport(e.Address, e.Addrs, p.ops)
}

// get returns a connection: a kept-alive one, a new one, or, with max open, the first that comes
// free within the connect timeout. fresh asks for a new one. Whether a kept-alive connection is
// still good is found out when it is used (socket.exchange), not here.
func (t *transport) get(fresh bool) (*epConn, error) {
	s := t.settings.Load()
	t.mu.Lock()
	if n := len(t.idle); n > 0 && !fresh {
		e := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return e, nil
	}
	if t.open < s.max {
		t.open++
		t.mu.Unlock()
		return t.dial(s)
	}
	if n := len(t.idle); n > 0 { // fresh wanted, no room: the oldest idle one makes it
		old := t.idle[0]
		t.idle = append(t.idle[:0], t.idle[1:]...)
		t.mu.Unlock()
		old.close()
		return t.dial(s)
	}
	w := make(chan *epConn, 1)
	t.waiters = append(t.waiters, w)
	t.mu.Unlock()
	return t.wait(w, s)
}

// wait is for a connection that another request gives back, or for the right to dial one (nil).
func (t *transport) wait(w chan *epConn, s *transportSettings) (*epConn, error) {
	timer := time.NewTimer(s.connectTimeout)
	defer timer.Stop()
	select {
	case e := <-w:
		if e == nil {
			return t.dial(s)
		}
		return e, nil
	case <-timer.C:
	}
	t.mu.Lock()
	for i, o := range t.waiters {
		if o == w {
			t.waiters = append(t.waiters[:i], t.waiters[i+1:]...)
			t.mu.Unlock()
			return nil, errNoConnection
		}
	}
	t.mu.Unlock()
	e := <-w // handed over between the timer and the lock
	if e == nil {
		return t.dial(s)
	}
	return e, nil
}

// dial opens a connection; its place in open is already taken.
func (t *transport) dial(s *transportSettings) (*epConn, error) {
	addrs := t.addrs()
	err := errUnresolved
	deadline := time.Now().Add(s.connectTimeout)
	first := int(t.turn.Add(1))
	for i := range addrs {
		var c net.Conn
		d := net.Dialer{Deadline: deadline, KeepAliveConfig: keepAlive}
		if c, err = d.Dial("tcp", addrs[(first+i)%len(addrs)].String()); err == nil {
			e := &epConn{t: t}
			if err = e.open(c.(*net.TCPConn), t.ops); err == nil {
				return e, nil
			}
			_ = c.Close()
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.release()
	return nil, err
}

// keepAlive finds peers that vanished without a word.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// put gives a connection back that is between two messages.
func (t *transport) put(e *epConn) {
	e.used = true
	t.mu.Lock()
	if len(t.waiters) > 0 {
		w := t.waiters[0]
		t.waiters = append(t.waiters[:0], t.waiters[1:]...)
		t.mu.Unlock()
		w <- e
		return
	}
	if t.closed || len(t.idle) >= t.settings.Load().idle {
		t.mu.Unlock()
		t.drop(e)
		return
	}
	t.idle = append(t.idle, e)
	t.mu.Unlock()
}

// drop closes a connection that is of no more use.
func (t *transport) drop(e *epConn) {
	e.close()
	t.release()
}

// release gives the place of a connection to a waiter, or takes it back.
func (t *transport) release() {
	t.mu.Lock()
	if len(t.waiters) > 0 {
		w := t.waiters[0]
		t.waiters = append(t.waiters[:0], t.waiters[1:]...)
		t.mu.Unlock()
		w <- nil
		return
	}
	t.open--
	t.mu.Unlock()
}

// close ends the idle connections and keeps no more: the endpoint left the configuration. Requests
// under way finish.
func (t *transport) close() {
	t.mu.Lock()
	t.closed = true
	idle := t.idle
	t.idle = nil
	t.mu.Unlock()
	for _, e := range idle {
		t.drop(e)
	}
}

// configure puts settings in force. It also undoes close, for an endpoint that came back by a later
// reload while it was still in use.
func (t *transport) configure(s transportSettings) {
	t.settings.Store(&s)
	t.mu.Lock()
	t.closed = false
	var surplus []*epConn
	if n := len(t.idle) - s.idle; n > 0 {
		surplus = append(surplus, t.idle[:n]...)
		t.idle = append(t.idle[:0], t.idle[n:]...)
	}
	t.mu.Unlock()
	for _, e := range surplus {
		t.drop(e)
	}
}

// connections is the number of open and of idle connections.
func (t *transport) connections() (open, idle int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open, len(t.idle)
}

// fit reports whether a kept-alive connection is still quiet, and so good for another request.
func (e *epConn) fit() (quiet bool) {
	_ = e.raw.Control(func(fd uintptr) { quiet = e.quiet(fd) })
	return quiet
}

// prune closes idle connections that their endpoint has ended or that have said something unasked.
// A request would notice too, but only when it draws them.
func (t *transport) prune() {
	t.mu.Lock()
	var ended []*epConn
	kept := t.idle[:0]
	for _, e := range t.idle {
		if e.fit() {
			kept = append(kept, e)
		} else {
			ended = append(ended, e)
		}
	}
	clear(t.idle[len(kept):])
	t.idle = kept
	t.mu.Unlock()
	for _, e := range ended {
		t.drop(e)
	}
}
