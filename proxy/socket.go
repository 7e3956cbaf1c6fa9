package proxy

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"weir/balancer"
)

// descriptor is the seam between the request path and what moves its bytes. It is a file or a channel. One strand
// may read while another writes; interrupt, peerGone and readable may be called from anywhere.
type descriptor interface {
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

	// local is the socket's own address; the zero AddrPort where it has none, as a Unix socket.
	local() netip.AddrPort
	closeWrite()
	close()
	// reset closes with a RST, so that a peer in the middle of a message cannot take it for whole. A Unix socket has no
	// such thing: it is closed.
	reset()
}

// file is a descriptor of the system's: a connection in non-blocking mode. There is one of goroutines
// (goroutine.go) and one of event loops (loopconn_linux.go).
//
// Read and Write are those of syscall.RawConn: they run step until it says that it is done, and block
// in between until the connection may be readable or writable.
type file interface {
	descriptor
	Read(step func(fd uintptr) (done bool)) error
	Write(step func(fd uintptr) (done bool)) error
	Control(f func(fd uintptr)) error
}

// teller is a descriptor that tells when its peer has ended its side, so that nobody has to ask. It calls ended from
// anywhere, without a lock that the owner takes, when peerGone says so already; hard: the peer takes nothing any more.
type teller interface{ tell(ended func(hard bool)) }

// channel is a descriptor whose bytes are not those of a file: what a TLS connection carries, or an HTTP/2 stream.
// Its lock is taken after that of a conn, never before.
type channel interface {
	descriptor
	// receive blocks until there are bytes, their end (io.EOF), or an interrupt (os.ErrDeadlineExceeded).
	receive(p []byte) (int, error)
	// receiveNow is receive, but errIdle where that would block.
	receiveNow(p []byte) (int, error)
	// attend blocks until receive would not, or an interrupt.
	attend() error
	// transmit sends all of p, or returns how far it got and why it stopped. After each piece that was taken, but
	// the last, it calls progress, if that is not nil.
	transmit(p []byte, progress func()) (int, error)
}

// strand is the thread of control of one client connection, on either engine: what its code waits on
// beside its own sockets.
type strand interface {
	// lane is the index of the connections to endpoints that this strand may use.
	lane() int
	// own says that the strand, and no other, is going to use d.
	own(d descriptor)
	dial(address balancer.Addr, timeout time.Duration) (descriptor, error)
	// park blocks until unpark, which may come first and from anywhere, or false after timeout.
	park(timeout time.Duration) bool
	unpark()
	// spawn runs task on another strand of the same lane, soon; false where none can be begun any more. The strand
	// itself calls it.
	spawn(task func(strand)) bool
	// signal makes what strands of this lane wait on.
	signal() signal
}

// signal is what one strand at a time waits on until others have news for it. There may be none: who waits looks
// again.
type signal interface {
	// wait blocks until a raise. It unlocks mu meanwhile.
	wait(mu sync.Locker)
	// raise wakes who waits. A strand of the same lane calls it, with mu locked.
	raise()
	// raiseFrom is raise, from anywhere, with mu locked.
	raiseFrom()
}

// socket is one connection, of TCP or of a Unix socket, to a client or to an endpoint, whose calls look blocking. Deadlines are
// not set per call: the owner notes them and the watch (watch.go) interrupts what is late.
type socket struct {
	descriptor
	fd  file    // nil where the descriptor is
	via channel // this
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
	s.ops = ops
	s.use(d)
	s.readFn, s.writeFn, s.exchangeFn, s.waitFn = s.readStep, s.writeStep, s.exchangeStep, s.waitStep
}

// use makes d what the socket reads and writes.
func (s *socket) use(d descriptor) {
	_, s.fused = d.(*netConn)
	s.descriptor = d
	s.fd, _ = d.(file)
	s.via, _ = d.(channel)
}

// read returns at least one byte or an error; io.EOF when the peer ended the connection.
func (s *socket) read(p []byte) (int, error) {
	if s.via != nil {
		return s.via.receive(p)
	}
	s.rbuf, s.n, s.err = p, 0, nil
	if err := s.fd.Read(s.readFn); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// write writes all of p, or returns how far it got and why it stopped.
func (s *socket) write(p []byte) (int, error) {
	if s.via != nil {
		return s.via.transmit(p, s.progress)
	}
	s.wbuf, s.n, s.err = p, 0, nil
	if err := s.fd.Write(s.writeFn); err != nil {
		return s.n, err
	}
	return s.n, s.err
}

// forget drops what the last operations were given, which keeps it from the garbage collector.
func (s *socket) forget() { s.rbuf, s.wbuf = nil, nil }

// exchange sends w and waits for the first bytes of the answer, which it puts into r. With check it
// first makes sure that the connection is quiet (errStale if not). sent reports whether any byte of w
// may have reached the endpoint.
func (s *socket) exchange(w, r []byte, check bool) (n int, sent bool, err error) {
	if s.fused {
		return s.exchangeFused(w, r, check)
	}
	if t, ok := s.via.(*tlsConn); ok && len(w) <= tlsPiece {
		if _, fused := t.file.(*netConn); fused {
			return t.exchange(w, r, check)
		}
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
	if err := s.fd.Read(s.exchangeFn); err != nil {
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

// unsent reports whether some of what write has taken has not left, after an interrupt: a further write, also of
// nothing, sends it.
func (s *socket) unsent() bool {
	t, ok := s.via.(*tlsConn)
	return ok && t.unsent()
}

// wait blocks until the socket has something to read, or its end, without holding a buffer.
func (s *socket) wait() error {
	if s.via != nil {
		return s.via.attend()
	}
	return s.fd.Read(s.waitFn)
}

func (s *socket) waitStep(fd uintptr) bool { return !s.quietFD(fd) }
