package proxy

import (
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"weir/config"
)

// haveLoops says that the system has what event loops need.
const haveLoops = true

// engines are what client connections run on: goroutines, which need no keeping, and the loops, which
// start when the first connection is for them.
type engines struct {
	p     *Proxy
	count int // of loops

	departures *departures

	mu     sync.Mutex
	loops  []*loop
	failed error // why there are none
	ended  bool

	blocked  atomic.Uint64 // loops, so far
	dog      watchdog      // the watch's, and so is
	reported time.Time     // when a blocked loop was last reported
}

func newEngines(p *Proxy, count int) *engines {
	if count <= 0 {
		count = runtime.GOMAXPROCS(0)
	}
	return &engines{p: p, count: count, dog: watchdog{patience: 1}, departures: newDepartures()}
}

// lanes is how many lanes connections to endpoints have: one for goroutines, one for each loop.
func (g *engines) lanes() int { return 1 + g.count }

// running returns the loops, and starts them where they are not running; nil where there can be none.
func (g *engines) running() []*loop {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.loops != nil || g.failed != nil || g.ended {
		return g.loops
	}
	dedicated := g.p.options.Dedicated
	for i := range g.count {
		l, err := newLoop(i, dedicated)
		if err != nil {
			g.failed = err
			g.p.log.Warn("the event loops cannot start, goroutines serve the connections: " + err.Error())
			for _, l := range g.loops {
				l.discard()
			}
			g.loops = nil
			return nil
		}
		g.loops = append(g.loops, l)
	}
	// One more than there are loops, which keep theirs while they wait: for everything else.
	if dedicated && runtime.GOMAXPROCS(0) <= g.count {
		runtime.GOMAXPROCS(g.count + 1)
	}
	for _, l := range g.loops {
		go l.run()
	}
	return g.loops
}

// blockedCount is how often a loop was found blocked.
func (g *engines) blockedCount() uint64 { return g.blocked.Load() }

// started returns the loops that are running.
func (g *engines) started() []*loop {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loops
}

// sweep looks after the loops and wakes what waits for a moment on them. The watch calls it.
func (g *engines) sweep() {
	loops := g.started()
	g.guard(loops)
	for _, l := range loops {
		if l.waiting.Load() > 0 {
			l.post(l.expire)
		}
	}
}

// prune calls f for each lane, in a place where f may look at its connections.
func (g *engines) prune(f func(lane int)) {
	f(goroutineLane)
	for i, l := range g.started() {
		_ = l.post(func() { f(1 + i) })
	}
}

// stop breaks off what still runs on the loops, and ends them.
func (g *engines) stop() {
	g.mu.Lock()
	loops := g.loops
	g.loops, g.ended = nil, true
	g.mu.Unlock()
	for _, l := range loops {
		l.end()
	}
	g.departures.end()
}

// tell has ended called when the peer of d has ended its side; false where nobody can tell, and the watch has to ask.
func (g *engines) tell(d descriptor, ended func(hard bool)) bool {
	switch d := d.(type) {
	case *netConn:
		return g.departures.add(d, ended)
	case teller:
		d.tell(ended)
		return true
	}
	return false
}

// take accepts a connection and has the engine in force serve it.
func (l *listener) take() error {
	if l.p.table.Load().cfg.Engine != config.EngineGoroutine {
		if loops := l.p.engines.running(); loops != nil {
			return l.takeForLoop(loops)
		}
	}
	return l.takeForGoroutine()
}

func (l *listener) takeForLoop(loops []*loop) error {
	fd, from, err := l.raw.accept()
	if err != nil {
		return err
	}
	lp := loops[0]
	for _, o := range loops[1:] {
		if o.clients.Load() < lp.clients.Load() {
			lp = o
		}
	}
	l.p.connections.Add(1)
	lp.clients.Add(1)
	if !lp.post(func() { l.welcome(lp, fd, from) }) { // weir is ending
		_ = unix.Close(fd)
		lp.clients.Add(-1)
		l.gone()
	}
	return nil
}

// welcome makes fd a connection of lp, which calls it. It waits for its first byte.
func (l *listener) welcome(lp *loop, fd int, peer netip.AddrPort) {
	d, err := lp.adopt(fd)
	if err != nil {
		_ = unix.Close(fd)
		lp.clients.Add(-1)
		l.gone()
		return
	}
	d.client = true
	c := l.newConn(d, peer)
	c.task = c.turn
	if !d.await(c.task) { // weir is ending
		lp.start(func(s strand) { s.own(d); c.hangUp() })
	}
}

// rawListener is a second descriptor of a listener, for connections that the runtime's poller is not to
// know of: package net offers no way to accept those.
type rawListener struct {
	file *os.File
	conn syscall.RawConn
}

// openRaw also sets on the listener what the connections that are accepted from it are to have.
func openRaw(ln listening) (r rawListener, err error) {
	if r.file, err = duplicate(ln); err != nil {
		return r, err
	}
	if r.conn, err = r.file.SyscallConn(); err == nil {
		err = r.conn.Control(func(fd uintptr) { setOptions(int(fd)) })
	}
	if err != nil {
		_ = r.file.Close()
	}
	return r, err
}

func (r rawListener) setDeadline(t time.Time) { _ = r.file.SetReadDeadline(t) }
func (r rawListener) close()                  { _ = r.file.Close() }

// accept accepts a connection, non-blocking.
func (r rawListener) accept() (fd int, from netip.AddrPort, err error) {
	var sa unix.Sockaddr
	var acceptErr error
	err = r.conn.Read(func(ln uintptr) bool {
		for {
			fd, sa, acceptErr = unix.Accept4(int(ln), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if acceptErr != unix.EINTR && acceptErr != unix.ECONNABORTED {
				return acceptErr != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return -1, from, err
	case acceptErr != nil:
		return -1, from, os.NewSyscallError("accept4", acceptErr)
	}
	return fd, fromSockaddr(sa), nil
}

// setOptions makes fd send at once, and find peers that vanished without a word. A failure costs
// latency or a late notice, no request.
func setOptions(fd int) {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, // urgent bytes are bytes
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAlive.Count},
	} {
		_ = syscall.SetsockoptInt(fd, o.level, o.name, o.value)
	}
}
