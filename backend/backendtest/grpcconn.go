package backendtest

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// handed is a listener of connections that another accepted, and the server that serves them.
// grpc-go sends GOAWAY only when a server stops for good, which must not close the port.
type handed struct {
	server *grpc.Server
	addr   net.Addr
	conns  chan net.Conn
	close  sync.Once
	closed chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.close.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.addr }

// serveLocked starts a server to which connections are handed from now on.
func (s *GRPC) serveLocked() {
	h := &handed{
		server: grpc.NewServer(s.options...), addr: s.listener.Addr(), conns: make(chan net.Conn), closed: make(chan struct{}),
	}
	s.serving = append(s.serving, h)
	s.running.Go(func() { h.server.Serve(h) })
}

// drainLocked ends the newest server when its last call has ended.
func (s *GRPC) drainLocked() {
	h := s.serving[len(s.serving)-1]
	s.running.Go(h.server.GracefulStop)
}

// grpcConn is a connection by whose number and address calls are found on it.
type grpcConn struct {
	net.Conn
	server *GRPC
	n      int64
	close  sync.Once

	// cut is the fault by which the connection ends instead of writing trailers, if any.
	cut atomic.Uint32
	// Where the writing is: have bytes of a frame's head, or left to write of its payload.
	head [9]byte
	have int
	left int
}

// end ends the connection by a FIN or an RST, as the fault says.
func (c *grpcConn) end(f Fault) {
	if f == FaultResetBeforeHead || f == FaultResetMidBody {
		reset(c.Conn)
	}
	c.Conn.Close()
}

// Write writes frames, up to the trailers where the connection is to be cut there.
func (c *grpcConn) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		if c.left > 0 {
			n := min(c.left, len(p)-at)
			at, c.left = at+n, c.left-n
			continue
		}
		n := copy(c.head[c.have:], p[at:])
		at, c.have = at+n, c.have+n
		if c.have < len(c.head) {
			break
		}
		c.have, c.left = 0, int(c.head[0])<<16|int(c.head[1])<<8|int(c.head[2])
		const headers, endStream = 1, 1
		if f := Fault(c.cut.Load()); f != FaultNone && c.head[3] == headers && c.head[4]&endStream != 0 {
			if _, err := c.Conn.Write(p[:max(at-len(c.head), 0)]); err != nil {
				return 0, err
			}
			c.end(f)
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(p)
}

func (c *grpcConn) Close() error {
	c.close.Do(func() {
		c.server.mu.Lock()
		delete(c.server.conns, c.RemoteAddr().String())
		c.server.mu.Unlock()
		c.server.counts.open.Add(-1)
	})
	return c.Conn.Close()
}

func (s *GRPC) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of file descriptors: let others end first
			continue
		}
		s.counts.open.Add(1)
		c := &grpcConn{Conn: nc, server: s, n: s.counts.connections.Add(1)}
		for !s.hand(l, c) {
		}
	}
}

// hand gives the connection to the newest server. It fails when that one stopped meanwhile.
func (s *GRPC) hand(l net.Listener, c *grpcConn) bool {
	s.mu.Lock()
	if s.listener != l {
		s.mu.Unlock()
		c.Close()
		return true
	}
	newest := s.serving[len(s.serving)-1]
	s.conns[c.RemoteAddr().String()] = c
	s.mu.Unlock()
	select {
	case newest.conns <- c:
		return true
	case <-newest.closed:
		return false
	}
}
