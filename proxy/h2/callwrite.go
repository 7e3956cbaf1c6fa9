package h2

import (
	"bytes"
	"errors"
)

// Write takes text of the request: the head, which comes whole with the first call, and then the body as the head
// frames it; nothing may follow that. n < len(p) and nil: flow control or the bound of Pending stops it, and the
// stream's Writable tells when the rest may be tried. l is used for lists that are sent; secure: the scheme is https.
func (c *Call) Write(p []byte, l *List, secure bool) (n int, err error) {
	for n < len(p) {
		switch {
		case c.state == outDone:
			return n, errors.New("text behind the end of the request")
		case c.err != nil:
			return n, c.err
		case !c.stream.Open():
			return n, ErrOver
		}
		k, err := c.step(p[n:], l, secure)
		n += k
		if err != nil {
			return n, err
		}
		if k == 0 {
			return n, nil
		}
	}
	return n, nil
}

// Sent reports whether Write has taken all of the request.
func (c *Call) Sent() bool { return c.state == outDone }

// step takes what comes next; 0 where it cannot be sent now.
func (c *Call) step(p []byte, l *List, secure bool) (int, error) {
	if c.state == outHead {
		return c.writeHead(p, l, secure)
	}
	return c.body(p, c.stream, l)
}

func (c *Call) writeHead(p []byte, l *List, secure bool) (int, error) {
	end, err := headEnd(p)
	if err != nil {
		return 0, err
	}
	body, err := l.Request(p[:end], secure)
	if err != nil {
		return 0, err
	}
	c.head = bytes.HasPrefix(p, []byte("HEAD "))
	c.stream.WriteHeaders(l.Fields, body == NoBody || body == 0)
	c.begin(body)
	return end, nil
}
