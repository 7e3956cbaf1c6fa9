//go:build unix

package bench

import (
	"syscall"
)

// stale reports whether an idle connection is readable: the server has closed it, or sent what
// nobody asked for. Either way it is of no further use.
func (c *conn) stale() bool {
	sc, ok := c.Conn.(syscall.Conn)
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
