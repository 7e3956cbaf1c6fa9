package proxy

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"
	"weir/config"
)

// listener accepts client connections on one address. It is known by the configured address: while
// that stays, a reload only brings new settings, which hold from the next request on (the limit of
// the head: from the next connection on).
type listener struct {
	p        *Proxy
	clock    *clock
	tcp      *net.TCPListener
	address  string // as configured
	settings atomic.Pointer[config.Listener]
	capacity atomic.Int64 // connections: the configured limit, or what the open files allow
	server   atomic.Pointer[fasthttp.Server]

	mu     sync.Mutex
	room   *sync.Cond // signalled when a connection ends
	open   int
	closed bool
	done   chan struct{} // closed when accepting has ended
}

func (p *Proxy) listen(c config.Listener) (*listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	ln, err := lc.Listen(context.Background(), "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	l := &listener{p: p, clock: p.clock, tcp: ln.(*net.TCPListener), address: c.Address, done: make(chan struct{})}
	l.room = sync.NewCond(&l.mu)
	l.configure(c)
	return l, nil
}

// configure puts settings in force.
func (l *listener) configure(c config.Listener) {
	if old := l.settings.Swap(&c); old == nil || old.Limits.Header != c.Limits.Header {
		l.server.Store(l.p.newServer(int(c.Limits.Header)))
	}
	l.capacity.Store(int64(min(c.Limits.Connections, openFiles())))
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

// newServer is the fasthttp server that reads heads and bodies. It has no timeouts (the watch has)
// and never answers by itself.
func (p *Proxy) newServer(headLimit int) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                       p.serve,
		ErrorHandler:                  p.refuse,
		ExpectHandler:                 p.expect,
		HeaderReceived:                headRead,
		ReadBufferSize:                headLimit,
		MaxRequestBodySize:            1 << 40, // admit and readBody hold the limit
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		LazyRequestTime:               true,
		Concurrency:                   1 << 30,
		Logger:                        silent{},
	}
}

// silent is fasthttp's logger: what it has to say weir counts and answers itself.
type silent struct{}

func (silent) Printf(string, ...any) {}

// accept takes connections until the listener is closed.
func (l *listener) accept() {
	defer close(l.done)
	backoff := 5 * time.Millisecond
	for l.waitForRoom() {
		c, err := l.tcp.AcceptTCP()
		switch {
		case err == nil:
			backoff = 5 * time.Millisecond
			l.p.connections.Add(1)
			go l.serve(c)
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

// waitForRoom takes a place for the next connection; while there is none, clients wait in the backlog.
func (l *listener) waitForRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && int64(l.open) >= l.capacity.Load() {
		l.room.Wait()
	}
	if l.closed {
		return false
	}
	l.open++
	return true
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
// clients believe that somebody listens.
func (l *listener) stop() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	refuseNew(l.tcp)
	_ = l.tcp.SetDeadline(time.Now()) // wakes accept
	<-l.done
	for queued(l.tcp) {
		_ = l.tcp.SetDeadline(time.Now().Add(time.Second)) // a busy machine may take its time to get from here to the accept
		c, err := l.tcp.AcceptTCP()
		if err != nil {
			break
		}
		l.mu.Lock()
		l.open++
		l.mu.Unlock()
		l.p.connections.Add(1)
		go l.serve(c)
	}
	_ = l.tcp.Close()
}

// serve is the life of one connection, which is counted already: between the accept and here a stop
// must not take weir for idle.
func (l *listener) serve(tcp *net.TCPConn) {
	defer l.p.connections.Add(-1)
	defer l.leave()
	c := &conn{listener: l}
	if err := c.open(tcp, l.p.ops); err != nil {
		_ = tcp.Close()
		return
	}
	addr, _ := netip.ParseAddrPort(tcp.RemoteAddr().String())
	c.peer = addr.Addr().Unmap().WithZone("")
	c.ip = c.peer.AppendTo(nil)
	c.progress = c.wrote
	c.req.lookup = func(name string) []byte { return lookup(c.req.raw, name) }
	timeouts := &l.settings.Load().Timeouts
	c.idleWait = min(timeouts.Header, timeouts.KeepAlive)
	shard := l.p.watch.add(c)
	defer shard.remove(c)
	for l.converse(c) {
	}
	switch {
	case c.cut && c.hard:
		c.reset()
		return
	case !c.broken && !c.eof && (c.linger || c.readable()):
		c.lingerClose()
	}
	c.close()
}

// converse serves requests until the connection ends or has been idle for a while. In the latter case
// it waits for the next request without the buffers that fasthttp holds, and returns true.
func (l *listener) converse(c *conn) (more bool) {
	defer func() {
		if v := recover(); v != nil { // outside a request: in fasthttp, or in weir's own recovery
			l.p.panicked(v)
			more = false
		}
	}()
	c.parked = false
	s := l.server.Load()
	c.bufferSize = s.ReadBufferSize
	_ = s.ServeConn(c)
	if !c.parked || c.finished {
		return false
	}
	if err := c.wait(); err != nil {
		return false
	}
	c.enter(phaseIdle)
	return c.interruptedBy() == reasonNone
}
