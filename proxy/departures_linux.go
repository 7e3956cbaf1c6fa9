package proxy

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// departures tells the goroutine engine's connections that their client has ended its side. The runtime's poller wakes
// only who reads, and while a request waits for its answer nobody reads from the client. A connection costs a system
// call when it comes; nothing is asked afterwards.
type departures struct {
	mu    sync.Mutex
	epoll int // -1 until the first connection, and after the end
	event int // an eventfd that ends wait
	conns map[uint64]*netConn
	last  uint64
	over  bool
	ended chan struct{}
}

func newDepartures() *departures { return &departures{epoll: -1, conns: map[uint64]*netConn{}} }

// add has ended called when the peer of c has ended its side; false where that cannot be had.
func (d *departures) add(c *netConn, ended func(hard bool)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoll < 0 && !d.begin() {
		return false
	}
	d.last++
	c.departures, c.number, c.ended = d, d.last, ended
	err := error(nil)
	if c.Control(func(fd uintptr) { err = d.register(int(fd), unix.EPOLLRDHUP, d.last) }) != nil || err != nil {
		c.departures = nil
		return false
	}
	d.conns[d.last] = c
	return true
}

func (d *departures) register(fd int, events uint32, number uint64) error {
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: events | unix.EPOLLET, Fd: int32(number >> 32), Pad: int32(number & math.MaxUint32),
	})
}

// begin is called with mu held.
func (d *departures) begin() (ok bool) {
	if d.over {
		return false
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return false
	}
	d.epoll, d.event = ep, ev
	if d.register(ev, unix.EPOLLIN, 0) != nil {
		_ = unix.Close(ev)
		_ = unix.Close(ep)
		d.epoll = -1
		return false
	}
	d.ended = make(chan struct{})
	go d.wait(ep)
	return true
}

// wait tells of what ends until there is nothing more to tell of.
func (d *departures) wait(epoll int) {
	defer close(d.ended)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			number := uint64(uint32(e.Fd))<<32 | uint64(uint32(e.Pad))
			if number == 0 {
				return
			}
			d.mu.Lock()
			c := d.conns[number]
			d.mu.Unlock()
			if c != nil {
				c.gone.Store(true)
				c.ended(e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0)
			}
		}
	}
}

// remove forgets c, which is about to be closed.
func (d *departures) remove(c *netConn) {
	d.mu.Lock()
	delete(d.conns, c.number)
	d.mu.Unlock()
}

// end is called when there is no connection any more.
func (d *departures) end() {
	d.mu.Lock()
	d.over = true
	running := d.epoll >= 0
	d.mu.Unlock()
	if !running {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(d.event, one[:])
	<-d.ended
	_ = unix.Close(d.event)
	_ = unix.Close(d.epoll)
}
