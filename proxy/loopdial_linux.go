package proxy

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"weir/balancer"
)

// dial connects without blocking the loop.
func (w *worker) dial(address balancer.Addr, timeout time.Duration) (descriptor, error) {
	family, to := sockaddr(address)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if family != unix.AF_UNIX {
		setOptions(fd)
	}
	err = unix.Connect(fd, to)
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c, adoptErr := w.l.adopt(fd)
	if adoptErr != nil {
		_ = unix.Close(fd)
		return nil, adoptErr
	}
	c.owner = w
	if err != nil {
		err = w.connected(c, timeout)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// connected waits until the system has made the connection.
func (w *worker) connected(c *loopConn, timeout time.Duration) error {
	c.dialing = true
	defer func() { c.dialing = false }()
	for until := time.Now().Add(timeout); !c.writable; {
		if !w.park(time.Until(until)) {
			return os.ErrDeadlineExceeded
		}
	}
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

func sockaddr(to balancer.Addr) (family int, _ unix.Sockaddr) {
	if to.Path != "" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: to.Path}
	}
	a := to.AddrPort
	if a.Addr().Is4() || a.Addr().Is4In6() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zoneID(a.Addr().Zone())}
}
