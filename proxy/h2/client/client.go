// Package client makes requests over HTTP/2 one after the other, for what is not on the path of a client's request and
// has a goroutine of its own: what is written and read is the text of HTTP/1.1, so that the caller needs nothing else.
package client

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"weir/proxy/h2"
)

// Conn is a connection whose peer speaks HTTP/2. A request is written, its head with the first Write, and its answer
// read to the end before the next one begins. Write returns early where the answer has ended first, as a connection of
// HTTP/1.1 does that the peer has closed. It is not safe for concurrent use, except for Close and the deadlines.
type Conn struct {
	net.Conn
	secure bool // the scheme of the requests is https

	h2   *h2.Conn
	call h2.Call
	list h2.List
	in   []byte
	// first is what came, as long as it may not be HTTP/2.
	first []byte
	err   error // why there are no more requests
}

// What the peer may send before it is read, and how large a head may be, in bytes.
const (
	window  = 256 << 10
	maxHead = 64 << 10
	atOnce  = 16 << 10
)

// New returns a connection over nc, which is new.
func New(nc net.Conn) *Conn {
	c := &Conn{Conn: nc, in: make([]byte, atOnce)}
	_, c.secure = nc.(*tls.Conn)
	c.h2 = h2.NewClient(h2.Settings{MaxHeader: maxHead, Window: window, ConnWindow: 2 * window}, events{c})
	return c
}

// Write sends text of a request. An error that wraps net.ErrClosed says that the peer takes no more requests on this
// connection, and has not acted upon this one.
func (c *Conn) Write(p []byte) (n int, err error) {
	if len(p) == 0 { // which begins nothing
		return 0, nil
	}
	if s := c.call.Stream(); s == nil || c.call.Sent() {
		if c.err == nil {
			c.begin()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	for {
		k, err := c.call.Write(p[n:], &c.list, c.secure)
		n += k
		if flushErr := c.flush(); err == nil {
			err = flushErr
		}
		switch {
		case err != nil || n == len(p):
			return n, told(err)
		case c.call.Whole():
			return n, h2.ErrOver
		}
		if err := c.receive(); err != nil {
			return n, err
		}
	}
}

// begin begins the next request.
func (c *Conn) begin() {
	c.call.End()
	s := c.h2.Open()
	if s == nil {
		c.err = fmt.Errorf("the endpoint takes no more requests on this connection: %w", net.ErrClosed)
		return
	}
	c.call.Begin(s)
}

// Read reads text of the answer, and io.EOF behind it.
func (c *Conn) Read(p []byte) (int, error) {
	if c.call.Stream() == nil {
		return 0, c.err
	}
	for {
		n, err := c.call.Read(p)
		if n > 0 || err != nil {
			if flushErr := c.flush(); err == nil && n == 0 {
				err = flushErr
			}
			return n, told(err)
		}
		if err := c.receive(); err != nil {
			return 0, err
		}
	}
}

// told is err as callers know it from a connection of HTTP/1.1.
func told(err error) error {
	if errors.Is(err, h2.ErrUnprocessed) {
		return fmt.Errorf("%w: %w", err, net.ErrClosed)
	}
	if e, ok := errors.AsType[*h2.CallError](err); ok && e.Fault == "" {
		return fmt.Errorf("%w: %w", err, io.ErrUnexpectedEOF)
	}
	return err
}

// receive waits for something to come, and takes it in.
func (c *Conn) receive() error {
	n, err := c.Conn.Read(c.in)
	if !c.h2.Greeted() {
		c.first = append(c.first, c.in[:min(n, maxFound-len(c.first))]...)
	}
	over := c.h2.Receive(c.in[:n])
	if flushErr := c.flush(); err == nil {
		err = flushErr
	}
	switch {
	case (over != nil || err == io.EOF) && !c.h2.Greeted() && len(c.first) > 0:
		c.err = errors.New("expected HTTP/2, found " + Found(c.first))
	case over != nil:
		c.err = over
	case err == io.EOF:
		c.err = io.ErrUnexpectedEOF
	default:
		return err
	}
	return c.err
}

// flush sends what is pending.
func (c *Conn) flush() error {
	for p := c.h2.Pending(); len(p) > 0; p = c.h2.Pending() {
		n, err := c.Conn.Write(p)
		c.h2.Sent(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// events are those of the connection; it has one call at a time.
type events struct{ c *Conn }

func (e events) Headers(_ *h2.Stream, fields []h2.Field, end bool) { e.c.call.Headers(fields, end) }
func (e events) Data(_ *h2.Stream, p []byte, end bool)             { e.c.call.Data(p, end) }
func (e events) Closed(_ *h2.Stream, code h2.Code, unprocessed bool) {
	e.c.call.Closed(code, unprocessed)
}
func (e events) Writable(*h2.Stream) {}

// maxFound is how much Found shows, in bytes.
const maxFound = 64

// Found describes, for people, what came first in the place of HTTP/2, and what would be right.
func Found(first []byte) string {
	line, _, _ := bytes.Cut(first[:min(len(first), maxFound)], []byte("\r\n"))
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/1.")):
		return fmt.Sprintf("%q: it speaks HTTP/1.1, write protocol: http1", line)
	case len(first) > 1 && first[0] == 0x15 && first[1] == 3:
		return "TLS: it does not speak HTTP/2 without TLS"
	}
	return fmt.Sprintf("%q", line)
}
