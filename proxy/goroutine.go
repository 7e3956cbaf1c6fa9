package proxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/balancer"
)

// netConn is the goroutine engine's descriptor: a blocked call parks its goroutine in the runtime's
// poller. It works on every system and for every kind of connection.
type netConn struct {
	conn streamConn
	syscall.RawConn

	// Where departures tell that the peer has ended its side (gone).
	departures *departures
	number     uint64
	ended      func(hard bool)
	gone       atomic.Bool
}

// streamConn is a *net.TCPConn or a *net.UnixConn.
type streamConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

func newNetConn(conn streamConn) (*netConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &netConn{conn: conn, RawConn: raw}, nil
}

// longAgo is the deadline that wakes every blocked call.
var longAgo = time.Unix(1, 0)

func (c *netConn) interrupt()      { _ = c.conn.SetDeadline(longAgo) }
func (c *netConn) resume()         { _ = c.conn.SetDeadline(time.Time{}) }
func (c *netConn) closeWrite()     { _ = c.conn.CloseWrite() }
func (c *netConn) announced() bool { return true }
func (c *netConn) drained()        {}
func (c *netConn) rest()           {}

func (c *netConn) readBefore(t time.Time) { _ = c.conn.SetReadDeadline(t) }

func (c *netConn) reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.close()
}

func (c *netConn) close() {
	if c.departures != nil {
		c.departures.remove(c)
	}
	_ = c.conn.Close()
}

func (c *netConn) local() netip.AddrPort { return addrPort(c.conn.LocalAddr()) }

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(t.AddrPort().Addr().Unmap().WithZone(""), t.AddrPort().Port())
}

func (c *netConn) quiet() (quiet bool) {
	_ = c.Control(func(fd uintptr) {
		_, err := peek(fd)
		quiet = err == syscall.EAGAIN
	})
	return quiet
}

func (c *netConn) peerGone() bool {
	if c.departures != nil {
		return c.gone.Load()
	}
	return c.askGone()
}

func (c *netConn) askGone() (gone bool) {
	_ = c.Control(func(fd uintptr) { gone = endedFD(fd) })
	return gone
}

func (c *netConn) readable() (ready bool) {
	_ = c.Control(func(fd uintptr) { ready = readableFD(fd) })
	return ready
}

// goroutineLane is the lane of all strands that are goroutines; those of the loops follow it.
const goroutineLane = 0

// goroutineStrand is a strand with a goroutine of its own.
type goroutineStrand struct{ wake chan struct{} }

func newGoroutineStrand() goroutineStrand { return goroutineStrand{make(chan struct{}, 1)} }

func (goroutineStrand) lane() int      { return goroutineLane }
func (goroutineStrand) own(descriptor) {}

func (goroutineStrand) dial(address balancer.Addr, timeout time.Duration) (descriptor, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	c, err := d.Dial(address.Network(), address.Target())
	if err != nil {
		return nil, err
	}
	n, err := newNetConn(c.(streamConn))
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return n, nil
}

func (s goroutineStrand) park(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.wake:
		return true
	case <-timer.C:
		return false
	}
}

func (s goroutineStrand) unpark() {
	select {
	case s.wake <- struct{}{}:
	default: // a wake-up that nobody waited for: park returns at once the next time
	}
}

func (goroutineStrand) spawn(task func(strand)) bool {
	go task(newGoroutineStrand())
	return true
}

func (goroutineStrand) signal() signal { return goroutineSignal(make(chan struct{}, 1)) }

// goroutineSignal holds a raise for who waits next.
type goroutineSignal chan struct{}

func (g goroutineSignal) wait(mu sync.Locker) {
	mu.Unlock()
	<-g
	mu.Lock()
}

func (g goroutineSignal) raise() {
	select {
	case g <- struct{}{}:
	default:
	}
}

func (g goroutineSignal) raiseFrom() { g.raise() }
