package proxy

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// descriptor is the seam between the request path and the engine that moves its bytes: a TCP
// connection in non-blocking mode. There is one of goroutines (goroutine.go) and one of event loops
// (loopconn_linux.go).
//
// Read and Write are those of syscall.RawConn: they run step until it says that it is done, and block
// in between until the connection may be readable or writable. The strand that owns the descriptor
// calls them; interrupt, peerGone and readable may be called from anywhere.
type descriptor interface {
	Read(step func(fd uintptr) (done bool)) error
	Write(step func(fd uintptr) (done bool)) error
	Control(f func(fd uintptr)) error

	// announced reports whether the engine has been told of something to read; drained says
	// that a read took all there was, so that it need not try before it waits.
	announced() bool
	drained()
	// quiet reports whether an idle connection is open with nothing to read.
	quiet() bool
	// peerGone reports whether the peer has ended its side, unread bytes or not.
	peerGone() bool
	// readable reports whether a read would not block.
	readable() bool

	// interrupt makes the blocked call, and every later one until resume, fail with
	// os.ErrDeadlineExceeded.
	interrupt()
	resume()

	// rest says that nobody uses the descriptor until a strand owns it again.
	rest()

	local() netip.AddrPort
	closeWrite()
	close()
	// reset closes with a RST, so that a peer in the middle of a message cannot take it for whole.
	reset()
}

// strand is the thread of control of one client connection, on either engine: what its code waits on
// beside its own sockets.
type strand interface {
	// lane is the index of the connections to endpoints that this strand may use.
	lane() int
	// own says that the strand, and no other, is going to use d.
	own(d descriptor)
	dial(address netip.AddrPort, timeout time.Duration) (descriptor, error)
	// park blocks until unpark, which may come first and from anywhere, or false after timeout.
	park(timeout time.Duration) bool
	unpark()
}

// socket is one TCP connection, to a client or to an endpoint, whose calls look blocking. Deadlines are
// not set per call: the owner notes them and the watch (watch.go) interrupts what is late.
type socket struct {
	descriptor
	ops *SocketOps
	// fused: a step that has nothing to read yet costs a system call, so exchange spares it.
	fused bool
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

func (s *socket) open(d descriptor, ops *SocketOps) {
	_, goroutine := d.(*netConn)
	s.descriptor, s.ops, s.fused = d, ops, goroutine
	s.readFn, s.writeFn, s.exchangeFn, s.waitFn = s.readStep, s.writeStep, s.exchangeStep, s.waitStep
}

// handOver moves the connection to the goroutine engine, for what the loops do not serve: tunnels. Its
// strand calls it and ends; whoever goes on with it has a goroutine of its own. After an error it is closed.
func (s *socket) handOver() error {
	l, ok := s.descriptor.(interface{ leave() (*netConn, error) })
	if !ok {
		return nil
	}
	d, err := l.leave()
	if err != nil {
		return err
	}
	s.descriptor, s.fused = d, true
	return nil
}

// read returns at least one byte or an error; io.EOF when the peer ended the connection.
func (s *socket) read(p []byte) (int, error) {
	s.rbuf, s.n, s.err = p, 0, nil
	if err := s.Read(s.readFn); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// write writes all of p, or returns how far it got and why it stopped.
func (s *socket) write(p []byte) (int, error) {
	s.wbuf, s.n, s.err = p, 0, nil
	if err := s.Write(s.writeFn); err != nil {
		return s.n, err
	}
	return s.n, s.err
}

// exchange sends w and waits for the first bytes of the answer, which it puts into r. With check it
// first makes sure that the connection is quiet (errStale if not). sent reports whether any byte of w
// may have reached the endpoint.
func (s *socket) exchange(w, r []byte, check bool) (n int, sent bool, err error) {
	if s.fused {
		return s.exchangeFused(w, r, check)
	}
	if check && !s.quiet() {
		return 0, false, errStale
	}
	_, err = s.write(w)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, true, err
	}
	// An endpoint that answers early and closes makes the write fail: what it said still counts.
	n, readErr := s.read(r)
	if readErr != nil && err == nil {
		err = readErr
	}
	if n > 0 {
		err = nil
	}
	return n, true, err
}

// exchangeFused is one write, one park, one read, without the read that the runtime's poller would
// try first and that could only fail.
func (s *socket) exchangeFused(w, r []byte, check bool) (n int, sent bool, err error) {
	s.wbuf, s.rbuf, s.n, s.err, s.sent, s.check = w, r, 0, nil, false, check
	if err := s.Read(s.exchangeFn); err != nil {
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
	if s.check && !s.quietFD(fd) {
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
	// As in exchange.
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
		n, err := sysRead(fd, s.rbuf)
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
			if n < len(s.rbuf) {
				s.drained()
			}
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
		n, err := sysWrite(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// quietFD is quiet for a step: anything else on an idle connection is its end, or bytes that belong
// to no request.
func (s *socket) quietFD(fd uintptr) bool {
	if s.ops != nil {
		s.ops.Peeks.Add(1)
	}
	_, err := peek(fd)
	return err == syscall.EAGAIN
}

// wait blocks until the socket has something to read, or its end, without holding a buffer.
func (s *socket) wait() error { return s.Read(s.waitFn) }

func (s *socket) waitStep(fd uintptr) bool { return !s.quietFD(fd) }
