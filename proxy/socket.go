package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// socket is the seam between the request path and the engine that moves its bytes: one TCP
// connection, to a client or to an endpoint, whose calls look blocking. This is the goroutine
// engine: a call parks its goroutine in the runtime's poller.
//
// Read, write and exchange belong to the goroutine that owns the socket; interrupt may be called
// from anywhere. Deadlines are not set per call: the owner notes them and the watch (watch.go)
// interrupts what is late.
type socket struct {
	c   *net.TCPConn
	raw syscall.RawConn
	ops *SocketOps
	// progress is called after each partial write, so that a slow reader that still reads is not
	// taken for one that stopped. Nil means: nobody asks.
	progress func()

	// The operation under way: the callbacks below are bound once, so no call allocates.
	wbuf, rbuf []byte
	n          int
	err        error
	sent       bool
	check      bool
	readFn     func(fd uintptr) bool
	writeFn    func(fd uintptr) bool
	exchangeFn func(fd uintptr) bool
	waitFn     func(fd uintptr) bool
}

// SocketOps counts system calls on sockets, for tests that assert how many a request costs.
type SocketOps struct {
	Reads, Writes, Peeks atomic.Uint64
}

// errStale is exchange's answer for a kept-alive connection that the endpoint has closed, or on
// which it sent bytes nobody asked for: nothing was sent, the connection is useless.
var errStale = errors.New("connection was closed while idle")

// longAgo is the deadline that wakes every blocked call.
var longAgo = time.Unix(1, 0)

func (s *socket) open(c *net.TCPConn, ops *SocketOps) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	s.c, s.raw, s.ops = c, raw, ops
	s.readFn, s.writeFn, s.exchangeFn, s.waitFn = s.readStep, s.writeStep, s.exchangeStep, s.waitStep
	return nil
}

// read returns at least one byte or an error; io.EOF when the peer ended the connection.
func (s *socket) read(p []byte) (int, error) {
	s.rbuf, s.n, s.err = p, 0, nil
	if err := s.raw.Read(s.readFn); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// write writes all of p, or returns how far it got and why it stopped.
func (s *socket) write(p []byte) (int, error) {
	s.wbuf, s.n, s.err = p, 0, nil
	if err := s.raw.Write(s.writeFn); err != nil {
		return s.n, err
	}
	return s.n, s.err
}

// exchange sends w and waits for the first bytes of the answer, which it puts into r: one write,
// one park, one read, without the read that the runtime would try first and that could only fail.
// With check it first makes sure that the connection is quiet (errStale if not).
// sent reports whether any byte of w may have reached the endpoint.
func (s *socket) exchange(w, r []byte, check bool) (n int, sent bool, err error) {
	s.wbuf, s.rbuf, s.n, s.err, s.sent, s.check = w, r, 0, nil, false, check
	if err := s.raw.Read(s.exchangeFn); err != nil {
		return 0, s.sent, err
	}
	return s.n, s.sent, s.err
}

// exchangeStep runs under the poller's read lock with the readiness already reset, so an edge that
// arrives after the write cannot be lost: the first call may park without trying to read.
func (s *socket) exchangeStep(fd uintptr) bool {
	if s.sent {
		return s.readStep(fd)
	}
	if s.check && !s.quiet(fd) {
		s.err = errStale
		return true
	}
	s.sent = true
	n, err := s.sysWrite(fd, s.wbuf)
	if err == nil && n == len(s.wbuf) {
		return false
	}
	if err == nil || err == syscall.EAGAIN {
		rest := s.wbuf[max(n, 0):]
		r := s.rbuf
		_, err = s.write(rest)
		s.rbuf, s.n, s.err = r, 0, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.err = err
		return true
	}
	// An endpoint that answers early and closes makes the write fail: what it said still counts.
	if s.readStep(fd) {
		if s.n == 0 && err != nil {
			s.err = err
		}
		return true
	}
	if err != nil {
		s.err = err
		return true
	}
	return false
}

func (s *socket) readStep(fd uintptr) bool {
	for {
		if s.ops != nil {
			s.ops.Reads.Add(1)
		}
		n, err := syscall.Read(int(fd), s.rbuf)
		switch {
		case err == syscall.EAGAIN:
			return false
		case err == syscall.EINTR:
			continue
		case err != nil:
			s.err = err
		case n == 0 && len(s.rbuf) > 0:
			s.err = io.EOF
		default:
			s.n = n
		}
		return true
	}
}

func (s *socket) writeStep(fd uintptr) bool {
	for s.n < len(s.wbuf) {
		n, err := s.sysWrite(fd, s.wbuf[s.n:])
		if n > 0 {
			s.n += n
			if s.progress != nil && s.n < len(s.wbuf) {
				s.progress()
			}
			continue
		}
		if err == syscall.EAGAIN {
			return false
		}
		s.err = err
		return true
	}
	return true
}

func (s *socket) sysWrite(fd uintptr, p []byte) (int, error) {
	for {
		if s.ops != nil {
			s.ops.Writes.Add(1)
		}
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// quiet reports whether the connection is open with nothing to read: anything else on an idle
// connection is its end, or bytes that belong to no request.
func (s *socket) quiet(fd uintptr) bool {
	if s.ops != nil {
		s.ops.Peeks.Add(1)
	}
	_, err := peek(fd)
	return err == syscall.EAGAIN
}

// wait parks until the socket has something to read, or its end, without holding a buffer.
func (s *socket) wait() error { return s.raw.Read(s.waitFn) }

func (s *socket) waitStep(fd uintptr) bool {
	if s.ops != nil {
		s.ops.Peeks.Add(1)
	}
	_, err := peek(fd)
	return err != syscall.EAGAIN
}

// interrupt makes the blocked call, and every later one until resume, fail with
// os.ErrDeadlineExceeded.
func (s *socket) interrupt() { _ = s.c.SetDeadline(longAgo) }

func (s *socket) resume() { _ = s.c.SetDeadline(time.Time{}) }

func (s *socket) close() { _ = s.c.Close() }

// reset closes with a RST, so that a peer in the middle of a message cannot take it for whole.
func (s *socket) reset() {
	_ = s.c.SetLinger(0)
	_ = s.c.Close()
}
