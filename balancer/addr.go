package balancer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Addr is where an endpoint takes connections. It is a net.Addr.
type Addr struct {
	AddrPort netip.AddrPort
	Path     string // of a Unix socket; "": it is AddrPort
}

// unixPrefix is what the address of an endpoint on a Unix socket begins with.
const unixPrefix = "unix:"

// socketPath returns the path in the address of an endpoint on a Unix socket.
func socketPath(address string) (path string, ok bool) { return strings.CutPrefix(address, unixPrefix) }

// Network returns the network as package net names it.
func (a Addr) Network() string {
	if a.Path != "" {
		return "unix"
	}
	return "tcp"
}

// Target returns the address as package net dials it.
func (a Addr) Target() string {
	if a.Path != "" {
		return a.Path
	}
	return a.AddrPort.String()
}

// Dial makes a connection, by d.
func (a Addr) Dial(ctx context.Context, d *net.Dialer) (net.Conn, error) {
	for wait := FirstBusyWait; ; wait = min(2*wait, LongestBusyWait) {
		c, err := d.DialContext(ctx, a.Network(), a.Target())
		if err == nil || !a.Busy(err) || !d.Deadline.IsZero() && time.Until(d.Deadline) < wait {
			return c, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, err
		case <-t.C:
		}
	}
}

// A Unix socket whose backlog is full refuses connections at once, where one of TCP has them wait. Who dials tries again
// after FirstBusyWait, and after twice as long each time, up to LongestBusyWait.
const (
	FirstBusyWait   = time.Millisecond
	LongestBusyWait = 50 * time.Millisecond
)

// Busy reports whether err, of a connection that could not be made, says that the backlog of a Unix socket is full.
func (a Addr) Busy(err error) bool { return a.Path != "" && errors.Is(err, syscall.EAGAIN) }

// String returns the address as an endpoint's is written.
func (a Addr) String() string {
	if a.Path != "" {
		return unixPrefix + a.Path
	}
	return a.AddrPort.String()
}

// Host returns what requests of weir's own call the endpoint: its address, which for a Unix socket would be no valid
// Host, and is localhost.
func (e *Endpoint) Host() string {
	if _, ok := socketPath(e.Address); ok {
		return "localhost"
	}
	return e.Address
}
