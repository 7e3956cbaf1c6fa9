package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// loop serves all connections on one thread, with one receive and one send for a small request.
// A goroutine for each connection would look once more, in vain, before every wait.
type loop struct {
	epoll     int
	wake      int // an eventfd: readable when the loop shall end
	listeners map[int32]bool
	conns     map[int32]*conn
	answers   answers
	clock     clock
	scratch   []byte // what is read and not yet looked at
}

// conn is a connection.
type conn struct {
	fd     int
	head   []byte  // an incomplete head
	known  bool    // which protocol it speaks
	h2     *h2     // the state of HTTP/2; nil for HTTP/1.1
	events *events // that are sent over it, with HTTP/1.1
	gone   bool
	body   int64  // bytes of the request's body still to come
	due    []byte // the answer when the body is there
	out    []byte // what the socket did not take yet
	buf    []byte // what out is written into, but for answers of HTTP/1.1
	last   bool   // close after the answer
	parked bool   // it waits to write
}

const (
	scratchSize = 256 << 10
	maxEvents   = 256
)

func serve(ctx context.Context, listeners []*net.TCPListener, a answers) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := &loop{listeners: map[int32]bool{}, conns: map[int32]*conn{}, answers: a, scratch: make([]byte, scratchSize)}
	defer l.close()
	if err := l.open(listeners); err != nil {
		return err
	}
	if err := l.clock.open(); err != nil {
		return err
	}
	if err := l.watch(l.clock.fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	events := make([]unix.EpollEvent, maxEvents)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l.wake {
				return nil
			}
			l.handle(e)
		}
		l.tick()
	}
}

// open takes the listeners' sockets over from the runtime.
func (l *loop) open(listeners []*net.TCPListener) (err error) {
	defer closeAll(listeners)
	l.epoll, l.wake, l.clock.fd = -1, -1, -1
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if err := l.watch(l.wake, unix.EPOLL_CTL_ADD, unix.EPOLLIN); err != nil {
		return err
	}
	for _, ln := range listeners {
		raw, err := ln.SyscallConn()
		if err != nil {
			return err
		}
		var fd int
		var dup error
		if err := raw.Control(func(own uintptr) { fd, dup = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dup != nil {
			return errors.Join(err, dup)
		}
		l.listeners[int32(fd)] = true
		if err := l.watch(fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) watch(fd, op int, events uint32) error {
	if err := unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (l *loop) close() {
	for fd := range l.listeners {
		_ = unix.Close(int(fd))
	}
	for fd := range l.conns {
		_ = unix.Close(int(fd))
	}
	for _, fd := range []int{l.wake, l.clock.fd, l.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (l *loop) handle(e unix.EpollEvent) {
	if l.listeners[e.Fd] {
		l.accept(int(e.Fd))
		return
	}
	c := l.conns[e.Fd]
	if c == nil {
		return
	}
	ok := true
	if c.parked {
		ok = l.flush(c)
	}
	// While an answer waits for its reader, no further request is read.
	if ok && !c.parked {
		ok = l.read(c)
	}
	if !ok {
		l.drop(c)
	}
}

func (l *loop) drop(c *conn) {
	c.gone = true
	delete(l.conns, int32(c.fd))
	_ = unix.Close(c.fd)
}

func (l *loop) accept(listener int) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return // it has gone; or there are too many open files, and others end first
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := l.watch(fd, unix.EPOLL_CTL_ADD, unix.EPOLLIN); err != nil {
		_ = unix.Close(fd)
		return
	}
	l.conns[int32(fd)] = &conn{fd: fd}
}

// read reads once and answers what is complete; false ends the connection.
func (l *loop) read(c *conn) bool {
	n, err := unix.Read(c.fd, l.scratch)
	if err != nil {
		return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
	}
	if n == 0 {
		return false
	}
	data := l.scratch[:n]
	if len(c.head) > 0 {
		c.head = append(c.head, data...)
		data = c.head
	}
	return l.take(c, data)
}

// take goes through what was read.
func (l *loop) take(c *conn, data []byte) bool {
	if !c.known {
		var more bool
		if data, more = c.detect(data); more {
			c.head = append(c.head[:0], data...)
			return true
		}
	}
	switch {
	case c.h2 != nil:
		rest, err := l.frames(c, data)
		c.head = append(c.head[:0], rest...)
		return l.flush(c) && err == nil
	case c.events != nil:
		return true // nothing of what a client sends after it asked for events matters
	}
	for len(data) > 0 {
		if c.due == nil {
			r, n, err := parse(data)
			if err != nil {
				_, _ = unix.Write(c.fd, []byte(refusal))
				return false
			}
			if n == 0 {
				break
			}
			data = data[n:]
			if r.every > 0 && r.body == 0 {
				c.append(eventHead)
				c.events = l.clock.begin(c, nil, &r)
				break
			}
			c.body, c.due, c.last = r.body, l.answers.of(&r), r.last
		}
		n := min(int64(len(data)), c.body)
		data = data[n:]
		if c.body -= n; c.body > 0 {
			break
		}
		c.answer()
		if c.last {
			break
		}
	}
	c.head = append(c.head[:0], data...)
	return l.flush(c)
}

// answer puts the answer that is due behind what is on its way. The first is sent from where all
// connections have it.
func (c *conn) answer() {
	if len(c.out) == 0 {
		c.out = slices.Clip(c.due)
	} else {
		c.out = append(c.out, c.due...)
	}
	c.due = nil
}

// flush writes what is due; false ends the connection.
func (l *loop) flush(c *conn) bool {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return l.park(c, true)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false
		default:
			c.out = c.out[n:]
		}
	}
	return !c.last && l.park(c, false)
}

// park lets a connection wait to write, or to read.
func (l *loop) park(c *conn, parked bool) bool {
	if c.parked == parked {
		return true
	}
	c.parked = parked
	events := uint32(unix.EPOLLIN)
	if parked {
		events = unix.EPOLLOUT
	}
	return l.watch(c.fd, unix.EPOLL_CTL_MOD, events) == nil
}
