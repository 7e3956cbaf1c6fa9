package proxy

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// netConn is the goroutine engine's descriptor: a blocked call parks its goroutine in the runtime's
// poller. It works on every system and for every kind of connection.
type netConn struct {
	tcp *net.TCPConn
	syscall.RawConn
}

func newNetConn(tcp *net.TCPConn) (*netConn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &netConn{tcp, raw}, nil
}

// longAgo is the deadline that wakes every blocked call.
var longAgo = time.Unix(1, 0)

func (c *netConn) interrupt()      { _ = c.tcp.SetDeadline(longAgo) }
func (c *netConn) resume()         { _ = c.tcp.SetDeadline(time.Time{}) }
func (c *netConn) close()          { _ = c.tcp.Close() }
func (c *netConn) closeWrite()     { _ = c.tcp.CloseWrite() }
func (c *netConn) announced() bool { return true }
func (c *netConn) drained()        {}
func (c *netConn) rest()           {}

func (c *netConn) readBefore(t time.Time) { _ = c.tcp.SetReadDeadline(t) }

func (c *netConn) reset() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

func (c *netConn) local() netip.AddrPort { return addrPort(c.tcp.LocalAddr()) }

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

func (c *netConn) peerGone() (gone bool) {
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

func (goroutineStrand) dial(address netip.AddrPort, timeout time.Duration) (descriptor, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	c, err := d.Dial("tcp", address.String())
	if err != nil {
		return nil, err
	}
	n, err := newNetConn(c.(*net.TCPConn))
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
