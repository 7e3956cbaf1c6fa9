//go:build !linux

package proxy

import (
	"net"
	"syscall"
)

// peek looks at the next byte without taking it and without waiting (the socket is non-blocking).
func peek(fd uintptr) (int, error) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// peerGone reports whether the peer has ended the connection. Without Linux's POLLRDHUP a
// pipelined request hides it until that request is read.
func (s *socket) peerGone() (gone bool) {
	_ = s.raw.Control(func(fd uintptr) {
		n, err := peek(fd)
		gone = err != syscall.EAGAIN && (err != nil || n == 0)
	})
	return gone
}

// readable reports whether a read would not block.
func (s *socket) readable() (ready bool) {
	_ = s.raw.Control(func(fd uintptr) {
		_, err := peek(fd)
		ready = err != syscall.EAGAIN
	})
	return ready
}

// refuseNew does nothing: see Linux's.
func refuseNew(*net.TCPListener) {}

// queued cannot tell here; the accept that follows has a deadline.
func queued(*net.TCPListener) bool { return true }
