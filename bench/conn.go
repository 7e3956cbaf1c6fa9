package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"time"
)

const (
	readBuffer = 16 << 10 // grows up to maxHead when a head is longer
	maxHead    = 64 << 10
)

// conn is the client's end of a connection: one request at a time, kept alive between them.
// It never sends a request twice: a retry would hide what the target did to the first.
type conn struct {
	net.Conn
	buf  []byte
	r, w int   // buf[r:w] has been read from the network and not yet consumed
	got  int64 // bytes read since the round trip began

	variant, kept []byte // what Response.Variant and Response.Body point into
}

// dialConn connects to a server of HTTP/1.1.
func dialConn(ctx context.Context, d *dialer, deadline time.Time) (*conn, error) {
	c, err := d.dial(ctx, deadline)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, buf: make([]byte, readBuffer)}, nil
}

// roundTrip implements [carrier].
func (c *conn) roundTrip(request []byte, noBody bool, r *Response) error {
	c.got, c.r, c.w = 0, 0, 0
	*r = Response{GRPC: NoGRPC}
	_, writeErr := c.Conn.Write(request)
	// A server may answer and close without reading a request it refuses, so a failed write
	// is no reason not to look for the answer.
	err := c.readAnswer(noBody, r)
	r.Bytes = c.got
	if writeErr != nil && err != nil && !errors.Is(err, errProtocol) {
		return writeErr
	}
	if err == nil && c.r != c.w {
		return fmt.Errorf("%w: %d bytes after the end of the answer", errProtocol, c.w-c.r)
	}
	return err
}

// reusable implements [carrier].
func (c *conn) reusable(r *Response) bool {
	f := r.framing
	return !f.close && (f.chunked || f.length >= 0 || bodyless(r.Status))
}

// stale implements [carrier]. Only after some time is a look worth its cost.
func (c *conn) stale(idle time.Duration) bool { return idle >= staleAfter && c.readable() }

func (c *conn) readAnswer(noBody bool, r *Response) error {
	for {
		head, err := c.readHead()
		if err != nil {
			return err
		}
		// The head may be overwritten while the body is read; what r keeps of it is copied.
		if err := r.parseHead(head); err != nil {
			return err
		}
		if r.Status == 101 {
			return fmt.Errorf("%w: 101 Switching Protocols, which nobody asked for", errProtocol)
		}
		if r.Status >= 200 {
			break
		}
	}
	c.variant = append(c.variant[:0], r.Variant...)
	r.Variant = c.variant
	if noBody || bodyless(r.Status) {
		r.framing.length = max(r.framing.length, 0)
		return nil
	}
	c.kept = c.kept[:0]
	var err error
	switch {
	case r.framing.chunked:
		err = c.readChunks(r)
	case r.framing.length >= 0:
		err = c.readBody(r, r.framing.length)
	default:
		r.framing.close = true
		if err = c.readBody(r, math.MaxInt64); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return err
}

// readHead consumes a head up to its empty line and returns it without that line.
func (c *conn) readHead() ([]byte, error) {
	searched := c.r
	for {
		if i := bytes.Index(c.buf[searched:c.w], []byte("\r\n\r\n")); i >= 0 {
			head := c.buf[c.r : searched+i]
			c.r = searched + i + 4
			return head, nil
		}
		searched = max(c.r, c.w-3)
		if c.w-c.r >= maxHead {
			return nil, fmt.Errorf("%w: a head of more than %d bytes", errProtocol, maxHead)
		}
		if c.w == len(c.buf) {
			searched -= c.r
			c.makeRoom()
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// makeRoom moves what is unread to the start of the buffer and doubles it when that is not enough.
func (c *conn) makeRoom() {
	buf := c.buf
	if c.w-c.r > len(buf)/2 {
		buf = make([]byte, 2*len(buf))
	}
	c.w = copy(buf, c.buf[c.r:c.w])
	c.r, c.buf = 0, buf
}

// fill reads once into the free part of the buffer, which must not be empty.
func (c *conn) fill() error {
	n, err := c.Conn.Read(c.buf[c.w:])
	c.w += n
	c.got += int64(n)
	if n > 0 {
		return nil
	}
	return err
}

// readBody consumes n bytes and appends the first of them to r.Body, up to MaxKept in all.
func (c *conn) readBody(r *Response, n int64) error {
	for {
		have := min(int64(c.w-c.r), n)
		c.keep(r, c.buf[c.r:c.r+int(have)])
		c.r += int(have)
		n -= have
		if n == 0 {
			return nil
		}
		c.r, c.w = 0, 0
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (c *conn) keep(r *Response, part []byte) {
	c.kept = append(c.kept, part[:min(len(part), MaxKept-len(c.kept))]...)
	r.Body = c.kept
}

func (c *conn) readChunks(r *Response) error {
	for {
		line, err := c.readLine()
		if err != nil {
			return err
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 62)
		if err != nil {
			return fmt.Errorf("%w: chunk size %.40q", errProtocol, line)
		}
		if size == 0 {
			return c.readTrailers()
		}
		if err := c.readBody(r, int64(size)); err != nil {
			return err
		}
		if line, err = c.readLine(); err != nil {
			return err
		}
		if len(line) != 0 {
			return fmt.Errorf("%w: a chunk is longer than its size %d", errProtocol, size)
		}
	}
}

func (c *conn) readTrailers() error {
	for {
		line, err := c.readLine()
		if err != nil || len(line) == 0 {
			return err
		}
	}
}

// readLine consumes a line and returns it without its CRLF.
func (c *conn) readLine() ([]byte, error) {
	for {
		if i := bytes.Index(c.buf[c.r:c.w], crlf); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 2
			return line, nil
		}
		if c.w-c.r >= maxHead {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", errProtocol, maxHead)
		}
		if c.w == len(c.buf) {
			c.makeRoom()
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}
