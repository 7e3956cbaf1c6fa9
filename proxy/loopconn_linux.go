package proxy

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopConn is the loop engine's descriptor.
type loopConn struct {
	l     *loop
	fd    int
	slot  int32
	round uint32

	// ready (to be read) and writable are what the last events said and no call has found otherwise since.
	ready, writable bool
	urgent          bool        // before TCP's urgent byte a read stops short of what there is
	gone            atomic.Bool // the peer has ended its side, or the connection
	dead            bool        // the connection
	ended           func(hard bool)
	interrupted     atomic.Bool
	closed          bool
	client          bool // counts among the loop's clients

	owner   *worker // who uses it; nil while nobody does
	reader  *worker // who waits to read
	writer  *worker // and to write
	dialing bool    // owner is parked until it is connected
	queued  bool    // in the loop's again
	// idle is the task of a client connection between two requests: whatever happens starts it.
	idle func(strand)
}

// note takes in what an event says.
func (c *loopConn) note(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.gone.Store(true)
		c.dead = c.dead || events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
		c.ready, c.writable = true, true
	}
	if events&unix.EPOLLIN != 0 {
		c.ready = true
	}
	if events&unix.EPOLLPRI != 0 {
		c.urgent = true
	}
	if events&unix.EPOLLOUT != 0 {
		c.writable = true
	}
}

// proceed wakes whom the connection's state concerns.
func (c *loopConn) proceed() {
	if c.ended != nil && c.gone.Load() {
		c.ended(c.dead)
	}
	interrupted := c.interrupted.Load()
	if w := c.writer; w != nil && (c.writable || interrupted) {
		w.resume()
	}
	switch {
	case c.reader != nil && (c.ready && !c.queued || interrupted):
		c.reader.resume()
	case c.dialing && c.writable:
		c.owner.woken.Store(true)
		c.owner.resume()
	case c.idle != nil && (c.ready || interrupted):
		task := c.idle
		c.idle = nil
		c.l.start(task)
	}
}

// block lets the loop go on until there is news for who waits at place.
func (c *loopConn) block(place **worker) {
	w := c.l.current
	*place = w
	w.wait(struct{}{})
	*place, w.waits = nil, false
}

// readsAtOnce is how many reads a coroutine may make before it lets the others have a turn, however much
// there is to read.
const readsAtOnce = 8

func (c *loopConn) Read(step func(fd uintptr) bool) error {
	for {
		switch {
		case c.interrupted.Load() || c.l.ending:
			return os.ErrDeadlineExceeded
		case c.closed:
			return net.ErrClosed
		case !c.ready:
			c.block(&c.reader)
		case c.l.current.reads >= readsAtOnce:
			c.giveTurn()
		case step(uintptr(c.fd)):
			c.l.current.reads++
			return nil
		default:
			c.ready = false
		}
	}
}

// giveTurn lets the other coroutines go on first.
func (c *loopConn) giveTurn() {
	if !c.queued {
		c.queued = true
		c.l.again = append(c.l.again, c)
	}
	c.block(&c.reader)
}

// breathe gives others a turn now and then between requests that need no waiting.
func (c *loopConn) breathe() {
	w := c.l.current
	if w.reads++; w.reads >= readsAtOnce {
		c.giveTurn()
	}
}

func (c *loopConn) Write(step func(fd uintptr) bool) error {
	for {
		if c.interrupted.Load() || c.l.ending {
			return os.ErrDeadlineExceeded
		}
		if c.closed {
			return net.ErrClosed
		}
		if step(uintptr(c.fd)) {
			return nil
		}
		c.writable = false
		c.block(&c.writer)
	}
}

func (c *loopConn) Control(f func(fd uintptr)) error {
	if c.closed {
		return net.ErrClosed
	}
	f(uintptr(c.fd))
	return nil
}

// announced: a request that the system has but not told of yet is left for the next batch of events, in
// which stands before it what happened to the endpoints' idle connections before it was sent.
func (c *loopConn) announced() bool { return c.ready }

// drained: what comes after a read that took all there was makes a new event. Not so the end of the
// connection where it has been announced, nor what lies behind an urgent byte; of that, which the system
// has one of at most, the next read takes all.
func (c *loopConn) drained() {
	c.ready = c.gone.Load() || c.urgent
	c.urgent = false
}

// quiet goes by the events of the last batch: announced says why they are news enough.
func (c *loopConn) quiet() bool {
	if c.ready && !c.gone.Load() {
		// The event may have been late: for bytes that a read before it has taken.
		_, err := peek(uintptr(c.fd))
		c.ready = err != syscall.EAGAIN
	}
	return !c.ready
}

func (c *loopConn) tell(ended func(hard bool)) { c.ended = ended }

func (c *loopConn) peerGone() bool { return c.gone.Load() }

func (c *loopConn) readable() bool {
	return c.gone.Load() || readableFD(uintptr(c.fd))
}

func (c *loopConn) interrupt() {
	c.interrupted.Store(true)
	c.l.post(c.proceed)
}

// await makes c wait without a strand; the loop starts task when there is something to read, or an
// interrupt. It returns false, and does not wait, when the loop is to end.
func (c *loopConn) await(task func(strand)) bool {
	if c.l.ending {
		return false
	}
	c.owner = nil
	c.idle = task
	return true
}

func (c *loopConn) rest() { c.owner = nil }

func (c *loopConn) resume() { c.interrupted.Store(false) }

func (c *loopConn) local() netip.AddrPort {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return fromSockaddr(sa)
}

func (c *loopConn) closeWrite() { _ = unix.Shutdown(c.fd, unix.SHUT_WR) }

func (c *loopConn) reset() {
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.close()
}

// close may come from outside the loop for a connection that nobody owns.
func (c *loopConn) close() {
	if c.owner == nil {
		c.l.post(c.closeNow)
		return
	}
	c.closeNow()
}

// closeAfter is close, with last called before it on the loop.
func (c *loopConn) closeAfter(last func()) {
	end := func() {
		if !c.closed {
			last()
			c.closeNow()
		}
	}
	if c.owner == nil {
		c.l.post(end)
		return
	}
	end()
}

func (c *loopConn) closeNow() {
	if c.closed {
		return
	}
	c.closed = true
	if c.client {
		c.l.clients.Add(-1)
	}
	c.l.forget(c)
	_ = unix.Close(c.fd)
	// Another strand may be waiting: it finds the connection closed.
	for _, w := range [...]*worker{c.reader, c.writer} {
		if w != nil {
			w.waits = true
			c.l.woken = append(c.l.woken, w)
		}
	}
}

func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
