package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks at the next byte without taking it and without waiting.
func peek(fd uintptr) (int, error) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// peerGone reports whether the peer has shut its side down or reset the connection. Bytes that it
// sent before and that nobody has read yet (a pipelined request) do not hide it.
func (s *socket) peerGone() bool {
	return s.poll(unix.POLLRDHUP)&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// readable reports whether a read would not block.
func (s *socket) readable() bool {
	return s.poll(unix.POLLIN)&(unix.POLLIN|unix.POLLHUP|unix.POLLERR) != 0
}

func (s *socket) poll(events int16) (got int16) {
	_ = s.raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
		if n, err := unix.Poll(p[:], 0); err == nil && n > 0 {
			got = p[0].Revents
		}
	})
	return got
}

// refuseNew makes the system ignore new handshakes on a listener, so that no connection can be
// established between the last accept and the close, which would reset it. Who tries meanwhile tries
// again a second later, and then finds the address closed, or open on somebody else.
func refuseNew(ln *net.TCPListener) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return
	}
	// A handshake that has begun may end: only packets with SYN are dropped.
	filter := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags in the TCP header
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 2, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// queued reports whether an accept would return at once.
func queued(ln *net.TCPListener) (ready bool) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p[:], 0)
		ready = err == nil && n > 0
	})
	return ready
}
