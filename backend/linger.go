package backend

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// lingerTime is how long a refused request's body is still taken in.
const lingerTime = 2 * time.Second

// lingering is a listener whose connections may close gently: closing a socket with unread data
// resets it, and the reset can overtake the answer that says why (413). A lingerConn that was
// asked to closes its sending side first and reads on until the client has closed too.
type lingering struct {
	net.Listener
	close sync.Once
}

// Close may be called again, which does nothing.
func (l *lingering) Close() (err error) {
	l.close.Do(func() { err = l.Listener.Close() })
	return err
}

func (l *lingering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lingerConn{Conn: c}, nil
}

type lingerConn struct {
	net.Conn
	linger atomic.Bool
	closed atomic.Bool
}

func (c *lingerConn) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || !c.linger.Load() || c.closed.Swap(true) {
		return c.Conn.Close()
	}
	if half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// How it ends does not matter: the request was answered.
		_, _ = io.Copy(io.Discard, c.Conn)
	}
	return c.Conn.Close()
}

// refuse answers a request that could not be read. fasthttp closes the connection afterwards.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	f := &fault{kind: faultRequest}
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		f.status = fasthttp.StatusRequestEntityTooLarge
		f.message = "the body is larger than " + size(s.options.BodyLimit)
	case errors.As(err, &small):
		f.status = fasthttp.StatusRequestHeaderFieldsTooLarge
		f.message = "the request's head is larger than " + size(maxHead)
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.status = fasthttp.StatusRequestTimeout
		f.message = "the request did not arrive in " + readTimeout.String()
	case errors.Is(err, io.ErrUnexpectedEOF):
		f.status = fasthttp.StatusBadRequest
		f.message = "the request ends before its body does"
	default:
		f.status = fasthttp.StatusBadRequest
		f.message = "the request is not valid HTTP/1.1: " + err.Error()
	}
	s.unnamed.count(f)
	s.fail(ctx, f)
	if c, ok := ctx.Conn().(*lingerConn); ok {
		c.linger.Store(true)
	}
}
