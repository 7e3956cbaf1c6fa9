package aside

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdleConnectionsAreClosed: after idleTime, at the latest half of it later, and nothing runs on then.
func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Client
		open := func(address string) (other net.Conn) {
			mine, other := net.Pipe()
			c.keep(address, newConn(mine))
			return other
		}
		closed := func(nc net.Conn) bool {
			_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := nc.Read(make([]byte, 1))
			e, ok := err.(net.Error)
			return !ok || !e.Timeout()
		}
		a, b := open("a"), open("b")
		time.Sleep(idleTime - time.Second)
		later := open("a")
		if closed(a) || closed(b) || closed(later) {
			t.Error("closed too early")
		}
		time.Sleep(2 * time.Second)
		if !closed(a) || !closed(b) || closed(later) {
			t.Error("what was idle for 30 s is not closed, or what was not is")
		}
		if c.take("b") != nil {
			t.Error("a closed connection is still there")
		}
		time.Sleep(idleTime + idleTime/2)
		c.mu.Lock()
		if !closed(later) || len(c.idle) != 0 || c.sweeper != nil {
			t.Error("the last connection is not closed")
		}
		c.mu.Unlock()
		last := open("a")
		c.Close()
		if !closed(last) || c.take("a") != nil {
			t.Error("Close has left a connection open")
		}
	})
}
