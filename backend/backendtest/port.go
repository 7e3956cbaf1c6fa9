package backendtest

import (
	"net"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Refused returns an address of 127.0.0.1 that refuses connections until the test ends: the
// port is taken, and nobody listens.
func Refused(t testing.TB) (addr string) {
	t.Helper()
	_, addr = bound(t)
	return addr
}

// Unanswered returns an address of 127.0.0.1 where connecting neither succeeds nor fails
// until the test ends, as with a host that drops packets: its queue of connections is full
// and nobody accepts.
func Unanswered(t testing.TB) (addr string) {
	t.Helper()
	fd, addr := bound(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatalf("backendtest: cannot listen: %v", err)
	}
	const most = 16 // a queue of length 0 holds one connection; some kernels round up
	for range most {
		nc, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { nc.Close() })
	}
	t.Fatalf("backendtest: the queue of %s still takes connections after %d", addr, most)
	return ""
}

// bound is a socket with a port of its own that does not listen yet.
func bound(t testing.TB) (fd int, addr string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("backendtest: cannot make a socket: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("backendtest: cannot bind: %v", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatalf("backendtest: cannot read the port: %v", err)
	}
	return fd, net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
}
