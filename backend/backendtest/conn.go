package backendtest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// errGone is a client that went away while its request was being answered.
var errGone = errors.New("the client went away")

// errStopped is the end of the server.
var errStopped = errors.New("the server was stopped")

// errFault ends a connection as a Behaviour told.
var errFault = errors.New("a fault that was asked for")

// conn is one accepted connection, served by one goroutine. Between requests, and while an
// answer is being made, a second one waits in Peek for the client's next byte or its end.
type conn struct {
	server  *Server
	nc      net.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	number  int
	stopped <-chan struct{}
	idle    atomic.Bool
	// next is the running Peek's answer, nil when none runs. While it runs nothing else
	// touches br.
	next chan error
}

// wire counts the bytes that pass.
type wire struct {
	net.Conn
	in, out *atomic.Int64
}

func (w wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.in.Add(int64(n))
	return n, err
}

func (w wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.out.Add(int64(n))
	return n, err
}

func newConn(s *Server, nc net.Conn, stopped <-chan struct{}, number int) *conn {
	w := wire{nc, &s.counts.in, &s.counts.out}
	c := &conn{server: s, nc: nc, br: bufio.NewReaderSize(w, 16<<10), bw: bufio.NewWriterSize(w, 32<<10),
		number: number, stopped: stopped}
	c.idle.Store(true)
	return c
}

func (c *conn) serve() {
	for nth := 1; c.awaitRequest() && c.one(nth); nth++ {
	}
	c.nc.Close()
	if c.next != nil {
		<-c.next
	}
}

// awaitRequest waits, idle, for the first byte of a request.
func (c *conn) awaitRequest() bool {
	c.idle.Store(true)
	var limit <-chan time.Time
	if d := c.server.behaviour.Load().IdleTimeout; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case err := <-c.peek():
		c.next = nil
		return err == nil && c.idle.CompareAndSwap(true, false)
	case <-limit:
		return false
	case <-c.stopped:
		return false
	}
}

// peek starts waiting for the client's next byte, unless that runs already.
func (c *conn) peek() <-chan error {
	if c.next == nil {
		next := make(chan error, 1)
		go func() {
			_, err := c.br.Peek(1)
			next <- err
		}()
		c.next = next
	}
	return c.next
}

// wait lets d pass, forever when d < 0, unless the client goes away or the server stops.
// watch is false while the body is not read to its end: then the client's leaving shows only
// when its bytes are read.
func (c *conn) wait(d time.Duration, watch bool) error {
	if d == 0 {
		return nil
	}
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	for {
		var next <-chan error
		if watch {
			next = c.peek()
		}
		select {
		case err := <-next:
			if err != nil {
				c.next = nil
				return errGone
			}
			watch = false // the next request is there already; it hides what comes after it
			c.next = nil
		case <-over:
			return nil
		case <-c.stopped:
			return errStopped
		}
	}
}

// one serves one request. It returns false when the connection ends.
func (c *conn) one(nth int) bool {
	r, err := readHead(c.br)
	if err != nil {
		c.refuse(err)
		return false
	}
	r.Conn, r.Nth, r.Remote = c.number, nth, c.nc.RemoteAddr().String()

	b := *c.server.behaviour.Load()
	probe := r.Path() == b.Health.path()
	if probe {
		b = b.Health.behaviour()
		c.server.counts.probes.Add(1)
	} else {
		if b.Respond != nil {
			b = b.Respond(r)
		}
		c.server.counts.requests.Add(1)
	}
	if b.Fault != FaultNone && b.FaultRate > 0 && !c.server.happens(b.FaultRate) {
		b.Fault = FaultNone
	}

	x := &exchange{conn: c, req: r, body: newBody(c.br, r), b: &b, probe: probe}
	err = x.run()
	if err == nil && !probe {
		c.server.counts.responses.Add(1)
	}
	if err != nil && !errors.Is(err, errFault) {
		c.refuse(err)
	}
	return err == nil && !b.CloseAfterResponse && !b.AnnounceClose && !b.UntilClose && !r.wantsClose()
}

// refuse ends what went wrong with a request: a malformed one gets 400, a client that left
// is counted.
func (c *conn) refuse(err error) {
	var m malformed
	switch {
	case errors.As(err, &m):
		c.server.complain(m)
		io.WriteString(c.bw, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		c.bw.Flush()
	case errors.Is(err, errStopped):
	default:
		select {
		case <-c.stopped:
		default:
			c.server.counts.canceled.Add(1)
		}
	}
}

// linger ends a connection whose client may still be sending: the response is out, and an
// immediate close would make the kernel send an RST that destroys it.
func (c *conn) linger() {
	c.bw.Flush()
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	io.Copy(io.Discard, c.br)
}

// expects says whether the client waits for a 100 before it sends its body.
func (r *Request) expects() bool {
	return r.Proto == "HTTP/1.1" && r.hasBody() && strings.EqualFold(r.Get("Expect"), "100-continue")
}
