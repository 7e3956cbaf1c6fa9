package proxy

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"weir/config"
)

// listener accepts client connections on one address. It is known by the configured address: while
// that stays, a reload only brings new settings, which hold from the next request on (the limit of
// the head: from the next connection on).
type listener struct {
	p        *Proxy
	clock    *clock
	socket   listening
	raw      rawListener
	address  string // as configured
	settings atomic.Pointer[config.Listener]
	tls      atomic.Pointer[tlsServer] // nil: the listener speaks plain HTTP
	capacity atomic.Int64              // connections: the configured limit, or what the open files allow
	intakes  atomic.Pointer[intakes]   // for the limit of the head

	full     atomic.Uint64 // times there was no room for one more
	reported time.Time     // when that was last logged; accept's own

	mu     sync.Mutex
	room   *sync.Cond // signalled when a connection ends, and when taking does
	open   int
	taking bool // accept is about to take a connection
	paused bool // it takes none, and the socket is another process's, too
	closed bool
	done   chan struct{} // closed when accepting has ended
}

func (p *Proxy) listen(c config.Listener) (*listener, error) {
	socket, err := bind(c.Address)
	if err != nil {
		return nil, err
	}
	return p.newListener(c, socket)
}

func bind(address string) (listening, error) {
	if path, ok := config.UnixPath(address); ok {
		return bindUnix(path)
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	// Package net's default is a multipath socket, which takes neither SO_OOBINLINE nor refuseNew's filter.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// newListener makes a listener of a socket. On an error it discards that.
func (p *Proxy) newListener(c config.Listener, socket listening) (*listener, error) {
	l := &listener{p: p, clock: p.clock, socket: socket, address: c.Address, done: make(chan struct{})}
	var err error
	if l.raw, err = openRaw(socket); err != nil {
		discard(socket)
		return nil, err
	}
	l.room = sync.NewCond(&l.mu)
	l.configure(c, nil)
	return l, nil
}

// configure puts settings in force.
func (l *listener) configure(c config.Listener, s *tlsServer) {
	l.tls.Store(s)
	old := l.settings.Swap(&c)
	l.permit(&c, old)
	if old == nil || old.Limits.Header != c.Limits.Header {
		l.intakes.Store(newIntakes(int(c.Limits.Header)))
	}
	limit := min(c.Limits.Connections, openFiles())
	if old := l.capacity.Swap(int64(limit)); old != int64(limit) && limit < c.Limits.Connections {
		l.p.log.Warn("the limit of open files allows fewer connections than are configured: raise it, or lower limits.connections",
			zap.String("listener", l.address), zap.Int("connections", limit), zap.Int("configured", c.Limits.Connections))
	}
	l.mu.Lock()
	l.room.Broadcast()
	l.mu.Unlock()
}

// openFiles is how many client connections the limit of open files allows: each may need another
// to an endpoint, and weir needs some itself. Without this bound clients would be accepted that no
// connection to an endpoint is left for.
func openFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	n := int(l.Cur)
	return max((n-min(n/4, 64))/2, 1)
}

// accept takes connections until the listener is closed.
func (l *listener) accept() {
	defer close(l.done)
	defer l.took()
	backoff := 5 * time.Millisecond
	for l.waitForRoom() {
		err := l.take()
		switch {
		case err == nil:
			backoff = 5 * time.Millisecond
		case errors.Is(err, os.ErrDeadlineExceeded): // a pause, or the end
			l.leave()
		case errors.Is(err, net.ErrClosed):
			l.leave()
			return
		default:
			// Out of file descriptors, most likely: without a pause this loop would eat a core.
			l.leave()
			if l.stopped() {
				return
			}
			l.p.log.Warn("cannot accept a connection", zap.String("listener", l.address), zap.Error(err))
			time.Sleep(backoff)
			backoff = min(2*backoff, time.Second)
		}
	}
}

// waitForRoom takes a place for the next connection; while there is none, or a pause, clients wait in
// the backlog.
func (l *listener) waitForRoom() bool {
	l.took()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && int64(l.open) >= l.capacity.Load() {
		l.full.Add(1)
		open := l.open
		l.mu.Unlock() // connections end meanwhile, whatever the log does
		l.reportFull(open, time.Now())
		l.mu.Lock()
	}
	for !l.closed && (l.paused || int64(l.open) >= l.capacity.Load()) {
		l.room.Wait()
	}
	if l.closed {
		return false
	}
	l.open++
	l.taking = true
	return true
}

// took is the end of taking a connection.
func (l *listener) took() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taking = false; l.paused {
		l.room.Broadcast()
	}
}

// reportFull logs that the listener is full, once a minute: a full one takes a client for each that leaves.
func (l *listener) reportFull(open int, now time.Time) {
	if !l.reported.IsZero() && now.Sub(l.reported) < time.Minute {
		return
	}
	l.reported = now
	l.p.log.Warn("a listener is full: further clients wait in the backlog", zap.String("listener", l.address),
		zap.Int("connections", open), zap.Int("configured", l.settings.Load().Limits.Connections), zap.Int("open_files_allow", openFiles()))
}

func (l *listener) leave() {
	l.mu.Lock()
	l.open--
	l.room.Signal()
	l.mu.Unlock()
}

func (l *listener) stopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// stop ends accepting. Connections whose handshake the system has completed are taken first: their
// clients believe that somebody listens. A paused listener's are the other process's.
func (l *listener) stop() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	shared := l.paused
	l.room.Broadcast()
	l.mu.Unlock()
	if !shared {
		refuse(l.socket)
	}
	l.setDeadline(time.Now()) // wakes accept
	<-l.done
	for !shared && queued(l.socket) {
		l.setDeadline(time.Now().Add(time.Second)) // a busy machine may take its time to get from here to the accept
		l.mu.Lock()
		l.open++
		l.mu.Unlock()
		if err := l.take(); err != nil {
			l.leave()
			break
		}
	}
	l.closeAddress()
}

func (l *listener) setDeadline(t time.Time) {
	_ = l.socket.SetDeadline(t)
	l.raw.setDeadline(t)
}

// closeAddress gives the address back, at which nobody accepts any more.
func (l *listener) closeAddress() {
	l.raw.close()
	_ = l.socket.Close()
}

// discard is closeAddress of a listener that has never accepted.
func (l *listener) discard() {
	l.raw.close()
	discard(l.socket)
}

// takeForGoroutine accepts a connection and gives it a goroutine. It counts from here: before its
// first byte a stop must not take weir for idle.
func (l *listener) takeForGoroutine() error {
	nc, err := l.socket.Accept()
	if err != nil {
		return err
	}
	l.p.connections.Add(1)
	d, err := newNetConn(nc.(streamConn))
	if err != nil {
		_ = nc.Close()
		l.gone()
		return nil
	}
	go func() {
		l.newConn(d, addrPort(nc.RemoteAddr())).run()
	}()
	return nil
}

// newConn makes a connection of the descriptor of a client and puts it under watch.
func (l *listener) newConn(d descriptor, peer netip.AddrPort) *conn {
	c := &conn{listener: l, peer: peer.Addr(), port: peer.Port(), ip: appendClient(nil, peer.Addr())}
	c.open(d, l.p.ops)
	c.progress = c.wrote
	c.firstFn, c.nowFn = c.firstStep, c.nowStep
	timeouts := &l.settings.Load().Timeouts
	c.idleUntil = l.clock.after(min(timeouts.Header, timeouts.KeepAlive))
	c.deadline.Store(c.idleUntil)
	c.phase.Store(phaseDetached)
	c.shard = l.p.watch.add(c)
	c.told = l.p.engines.tell(d, c.departed)
	return c
}

// gone is the end of a connection that was accepted.
func (l *listener) gone() {
	l.leave()
	l.p.connections.Add(-1)
}
