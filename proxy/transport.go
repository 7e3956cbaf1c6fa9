package proxy

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"weir/balancer"
	"weir/config"
)

// transport is weir's own way to one endpoint: its kept-alive connections, newest first, and the
// bound on how many there are. It lives as long as its balancer.Endpoint, across reloads.
//
// A connection to an endpoint belongs to a lane: that of all goroutines, or that of one loop. A request
// only uses those of its own lane, so that the usual case touches nothing that another loop writes.
type transport struct {
	address string
	addrs   func() []balancer.Addr
	ops     *SocketOps

	settings atomic.Pointer[transportSettings]
	turn     atomic.Uint32 // which address of a name is dialed next
	lanes    []atomic.Pointer[lane]

	open   atomic.Int64 // idle, in use and being dialed, in all lanes
	closed atomic.Bool
	drains atomic.Bool

	handshake atomic.Pointer[endpointTLS] // nil before the first
	warned    atomic.Int64                // of one that failed, in seconds

	http2   http2Live
	reports reportsLive
	scraper scraper
	log     *zap.Logger // nil: nobody is told
	// panicked is told what a strand of an HTTP/2 connection has recovered from.
	panicked func(v any)

	waiting atomic.Int32 // len(waiters), or more for a moment
	mu      sync.Mutex
	waiters []*waiter
}

// lane holds the idle connections of one lane. Its lock is contended only where idle connections are
// closed from outside.
type lane struct {
	mu   sync.Mutex
	idle []*epConn
	muxes
}

// waiter is a request that found all connections in use.
type waiter struct {
	strand strand
	since  time.Time
	served bool    // under the transport's mu: e is its connection, or, when nil, it may dial one
	e      *epConn // of its lane
}

// transportSettings are what a reload may change.
type transportSettings struct {
	max, idle      int
	connectTimeout time.Duration
	breaker        *breaker // of the pool; nil: there is none

	http2                       bool
	streams                     int // of a connection
	keepalive, keepaliveTimeout time.Duration

	tls       *tlsClient // nil: plain HTTP
	introduce string     // version of the PROXY protocol that a connection begins with; "": it does not
}

func (pl *pool) transportSettings() transportSettings {
	c, protocol := pl.Config().Connections, pl.Config().Protocol
	return transportSettings{
		max: c.Max, idle: c.Idle, connectTimeout: c.ConnectTimeout, breaker: pl.load.breakerOf(),
		http2: protocol == config.ProtocolHTTP2, streams: c.Streams, keepalive: c.Keepalive, keepaliveTimeout: c.KeepaliveTimeout,
		tls: pl.tls, introduce: pl.Config().ProxyProtocol,
	}
}

// epConn is one connection to an endpoint, or a stream on one.
type epConn struct {
	socket
	t      *transport
	lane   int
	used   bool      // it has carried a request before
	taken  bool      // it is one client's, and carries one request (present.go)
	stream *epStream // nil: it is a connection
}

var (
	errNoConnection = errors.New("all connections to the endpoint are in use")
	errUnresolved   = errors.New("the endpoint's name has no address yet")
)

func (p *Proxy) newTransport(e *balancer.Endpoint) *transport {
	t := newTransport(e.Address, e.Addrs, p.engines.lanes(), p.ops)
	t.log, t.panicked = p.log, p.panicked
	return t
}

func newTransport(address string, addrs func() []balancer.Addr, lanes int, ops *SocketOps) *transport {
	t := &transport{address: address, addrs: addrs, lanes: make([]atomic.Pointer[lane], lanes), ops: ops}
	t.http2.buffers.New = func() any { b := make([]byte, readSize); return &b }
	return t
}

// lane returns a lane, which is made when it is first asked for.
func (t *transport) lane(i int) *lane {
	l := t.lanes[i].Load()
	if l == nil {
		t.lanes[i].CompareAndSwap(nil, new(lane))
		l = t.lanes[i].Load()
	}
	return l
}

// get returns a connection: a kept-alive one, a new one, or, with max open, the first that comes
// free within the connect timeout. fresh asks for a new one, who is whom it would be for. Whether a kept-alive connection is
// still good is found out when it is used (socket.exchange), not here.
func (t *transport) get(s strand, fresh bool, who presenter) (*epConn, error) {
	settings := t.settings.Load()
	if settings.http2 {
		return t.stream(s, settings) // which are all fresh
	}
	if !fresh && settings.introduce == "" {
		if e := t.lane(s.lane()).newest(); e != nil {
			s.own(e.descriptor)
			return e, nil
		}
	}
	if t.reserve(settings.max) || t.evict() {
		return t.dial(s, settings, who)
	}
	return t.wait(s, settings, who)
}

// newest takes the idle connection that was used last; nil when there is none.
func (l *lane) newest() (e *epConn) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		e = l.idle[n-1]
		l.idle[n-1] = nil
		l.idle = l.idle[:n-1]
	}
	l.mu.Unlock()
	return e
}

// oldest takes the n connections that were used longest ago.
func (l *lane) oldest(n int) []*epConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(max(n, 0), len(l.idle))
	taken := append([]*epConn(nil), l.idle[:n]...)
	l.idle = append(l.idle[:0], l.idle[n:]...)
	return taken
}

// reserve takes a place among the open connections, if there is one.
func (t *transport) reserve(limit int) bool {
	for {
		n := t.open.Load()
		if n >= int64(limit) {
			return false
		}
		if t.open.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// evict closes an idle connection of any lane and takes its place.
func (t *transport) evict() bool {
	for i := range t.lanes {
		l := t.lanes[i].Load()
		if l == nil {
			continue
		}
		for _, e := range l.oldest(1) {
			e.close()
			return true
		}
	}
	return false
}

// wait is for a connection that another request gives back, or for the right to dial one.
func (t *transport) wait(s strand, settings *transportSettings, who presenter) (*epConn, error) {
	if !settings.breaker.pend() {
		return nil, errPending
	}
	defer settings.breaker.pended()
	w := &waiter{strand: s, since: time.Now()}
	t.mu.Lock()
	t.waiting.Add(1)
	t.waiters = append(t.waiters, w)
	t.mu.Unlock()
	// What came free just before it was known that somebody waits, nobody hands over.
	if t.evict() || t.reserve(settings.max) {
		t.hand(nil)
	}
	for until := time.Now().Add(settings.connectTimeout); ; {
		t.mu.Lock()
		served := w.served
		t.mu.Unlock()
		if served {
			break
		}
		if !s.park(time.Until(until)) && t.leave(w) {
			return nil, errNoConnection
		}
	}
	if w.e == nil {
		return t.dial(s, settings, who)
	}
	s.own(w.e.descriptor)
	return w.e, nil
}

// leave takes w from the queue; false when it has been served.
func (t *transport) leave(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range t.waiters {
		if o == w {
			t.waiters = append(t.waiters[:i], t.waiters[i+1:]...)
			t.waiting.Add(-1)
			return true
		}
	}
	return false
}

// hand gives e, or with nil the place of a connection, to who has waited longest. It takes the place
// back when nobody waits any more.
func (t *transport) hand(e *epConn) {
	t.mu.Lock()
	if len(t.waiters) == 0 {
		t.open.Add(-1) // under the lock: who queues next sees the place
		t.mu.Unlock()
		if e != nil {
			e.close()
		}
		return
	}
	i := t.nextWaiter(e)
	w := t.waiters[i]
	t.waiters = append(t.waiters[:i], t.waiters[i+1:]...)
	t.waiting.Add(-1)
	if e != nil && e.lane == w.strand.lane() && t.settings.Load().introduce == "" {
		w.e = e
	} else if e != nil {
		e.close()
	}
	w.served = true
	t.mu.Unlock()
	w.strand.unpark()
}

// nextWaiter is the index of the waiter that is served with e: the oldest of its lane, since another would
// have to dial anew; but nobody waits much longer for the sake of that. Called with mu held.
func (t *transport) nextWaiter(e *epConn) int {
	if e == nil || time.Since(t.waiters[0].since) > t.settings.Load().connectTimeout/4 {
		return 0
	}
	return max(slices.IndexFunc(t.waiters, func(w *waiter) bool { return w.strand.lane() == e.lane }), 0)
}

// dial opens a connection; its place in open is already taken.
func (t *transport) dial(s strand, settings *transportSettings, who presenter) (*epConn, error) {
	d, err := t.connect(s, settings, who)
	if err != nil {
		t.release()
		return nil, err
	}
	e := &epConn{t: t, lane: s.lane(), taken: settings.introduce != ""}
	e.socket.open(d, t.ops)
	return e, nil
}

// connect dials the addresses of the endpoint until one answers.
func (t *transport) connect(s strand, settings *transportSettings, who presenter) (d descriptor, err error) {
	addrs := t.addrs()
	err = errUnresolved
	deadline := time.Now().Add(settings.connectTimeout)
	first := int(t.turn.Add(1))
	for i := range addrs {
		d, err = dial(s, addrs[(first+i)%len(addrs)], deadline)
		if err == nil && settings.introduce != "" {
			err = t.introduce(d, settings.introduce, who)
		}
		if err == nil && settings.tls != nil {
			d, err = t.secure(d, settings, deadline)
		}
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	return d, err
}

// dial makes a connection to an address.
func dial(s strand, a balancer.Addr, deadline time.Time) (descriptor, error) {
	for wait := balancer.FirstBusyWait; ; wait = min(2*wait, balancer.LongestBusyWait) {
		d, err := s.dial(a, time.Until(deadline))
		if err == nil || !a.Busy(err) || time.Until(deadline) < wait {
			return d, err
		}
		s.park(wait)
	}
}

// keepAlive finds peers that vanished without a word.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// put gives a connection back that is between two messages.
func (t *transport) put(e *epConn) {
	if e.stream != nil {
		e.stream.finish(true)
		return
	}
	if e.taken {
		t.drop(e)
		return
	}
	e.used = true
	e.rest()
	if t.waiting.Load() > 0 {
		t.hand(e)
		return
	}
	l := t.lane(e.lane)
	l.mu.Lock()
	if s := t.settings.Load(); len(l.idle) >= t.keep(e.lane) || s.http2 || s.introduce != "" { // which a reload has made it
		l.mu.Unlock()
		t.drop(e)
		return
	}
	l.idle = append(l.idle, e)
	l.mu.Unlock()
	if t.waiting.Load() > 0 { // since the look above
		if e := l.newest(); e != nil {
			t.hand(e)
		}
	}
}

// keep is how many connections a lane keeps idle: the loops share the limit out.
func (t *transport) keep(lane int) int {
	if t.closed.Load() || t.drains.Load() {
		return 0
	}
	if lane == goroutineLane {
		return t.settings.Load().idle
	}
	loops := max(len(t.lanes)-1, 1)
	return (t.settings.Load().idle + loops - 1) / loops
}

// drop closes a connection that is of no more use.
func (t *transport) drop(e *epConn) {
	if e.stream != nil {
		e.stream.finish(false)
		return
	}
	e.close()
	t.release()
}

// abort is drop in the middle of a request, which the endpoint must not take for whole.
func (t *transport) abort(e *epConn) {
	if e.stream != nil {
		e.stream.finish(false)
		return
	}
	e.reset()
	t.release()
}

// release gives the place of a connection to a waiter, or takes it back.
func (t *transport) release() {
	if t.waiting.Load() > 0 {
		t.hand(nil)
		return
	}
	t.open.Add(-1)
	if t.waiting.Load() > 0 && t.reserve(t.settings.Load().max) { // since the look above
		t.hand(nil)
	}
}
