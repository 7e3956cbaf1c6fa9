//go:build !linux

package proxy

import (
	"net"
	"os"
	"syscall"
)

func sysRead(fd uintptr, p []byte) (int, error)  { return syscall.Read(int(fd), p) }
func sysWrite(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }

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

// endedFD reports whether the peer has ended the connection. Without Linux's POLLRDHUP a pipelined
// request hides it until that request is read.
func endedFD(fd uintptr) bool {
	n, err := peek(fd)
	return err != syscall.EAGAIN && (err != nil || n == 0)
}

// readableFD reports whether a read would not block.
func readableFD(fd uintptr) bool {
	_, err := peek(fd)
	return err != syscall.EAGAIN
}

// refuseNew does nothing: see Linux's.
func refuseNew(*net.TCPListener) {}

// admitNew does nothing: see Linux's.
func admitNew(*net.TCPListener) {}

// duplicate returns another descriptor of a listener.
func duplicate(ln listening) (*os.File, error) {
	return ln.(interface{ File() (*os.File, error) }).File()
}

// queued cannot tell here; the accept that follows has a deadline.
func queued(listening) bool { return true }
