//go:build unix

package bench

import (
	"crypto/tls"
	"syscall"
)

// readable reports whether an idle connection is readable: the server has closed it, or sent what
// nobody asked for. Either way it is of no further use.
func (c *conn) readable() bool {
	nc := c.Conn
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	stale := true
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, peekErr := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		stale = peekErr != syscall.EAGAIN
		return true
	})
	return err != nil || stale
}
