package backend

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// departurePeriod is how often the connections are looked at of which a request waits or runs.
const departurePeriod = 20 * time.Millisecond

// departures tells requests of HTTP/1.1 that their client has gone, which nobody notices while the
// request's goroutine waits for a model: one goroutine asks the kernel about all connections at
// once. A client that has closed its sending side counts as gone, as it does for most servers.
type departures struct {
	mu      sync.Mutex
	waiting map[*guest]struct{}
	some    chan struct{} // holds a token when there may be somebody in waiting
}

// guest is a request. Its connection stays open until it has left.
type guest struct {
	fd     int32
	since  time.Time
	cancel context.CancelFunc
}

func newDepartures() *departures {
	return &departures{waiting: make(map[*guest]struct{}), some: make(chan struct{}, 1)}
}

// watch calls cancel when the client has gone, until leave is called; the connection must stay open
// that long.
func (d *departures) watch(conn net.Conn, cancel context.CancelFunc) (leave func()) {
	if c, ok := conn.(*lingerConn); ok {
		conn = c.Conn
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() {}
	}
	g := &guest{since: time.Now(), cancel: cancel}
	if raw.Control(func(fd uintptr) { g.fd = int32(fd) }) != nil {
		return func() {}
	}
	d.mu.Lock()
	d.waiting[g] = struct{}{}
	first := len(d.waiting) == 1
	d.mu.Unlock()
	if first {
		select {
		case d.some <- struct{}{}:
		default:
		}
	}
	return func() {
		d.mu.Lock()
		delete(d.waiting, g)
		d.mu.Unlock()
	}
}

// until looks after the waiting until stop is closed.
func (d *departures) until(stop <-chan struct{}) {
	tick := time.NewTicker(departurePeriod)
	defer tick.Stop()
	for {
		select {
		case <-d.some:
		case <-stop:
			return
		}
		tick.Reset(departurePeriod)
		for some := true; some; {
			select {
			case <-tick.C:
				some = d.look()
			case <-stop:
				return
			}
		}
	}
}

// look tells those that their client has gone who wait for longer than a period. It reports whether
// anybody waits.
func (d *departures) look() bool {
	// Connections may close when their guests have left: mu keeps them here while the kernel looks.
	d.mu.Lock()
	defer d.mu.Unlock()
	old := time.Now().Add(-departurePeriod)
	var guests []*guest
	var fds []unix.PollFd
	for g := range d.waiting {
		if g.since.Before(old) {
			guests = append(guests, g)
			fds = append(fds, unix.PollFd{Fd: g.fd, Events: hangup})
		}
	}
	if len(fds) > 0 {
		if _, err := unix.Poll(fds, 0); err == nil { // it may be interrupted: the next look is soon
			for i := range fds {
				if fds[i].Revents != 0 {
					guests[i].cancel()
					delete(d.waiting, guests[i])
				}
			}
		}
	}
	return len(d.waiting) > 0
}
