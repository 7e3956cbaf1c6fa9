package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

const (
	h2ReadBuffer = 64 << 10 // more than the longest frame
	// h2Replenish is how much may come before the connection's window is opened again.
	h2Replenish = 1 << 28
	// h2WriteTimeout is how long a peer may take nothing of what is written.
	h2WriteTimeout = 10 * time.Second
	maxStreamID    = 1<<31 - 1
)

// h2conn is the client's end of a connection of HTTP/2. One goroutine reads; whoever has a request writes,
// for all that have one at the time.
type h2conn struct {
	net.Conn

	mu      sync.Mutex // guards the rest but dec and what is only the reader's
	out     []byte     // frames to be written
	spare   []byte     // exchanged with out by who writes
	writing bool
	fields  *fieldEncoder
	streams map[uint32]*stream
	nextID  uint32
	window  int64 // bytes of DATA that may be sent
	initial int64 // the same of a new stream
	most    uint32
	leaving bool  // no more streams may be opened
	err     error // why the connection has ended

	// The reader's own.
	buf      []byte
	have     int
	dec      *hpack.Decoder
	decoding *stream // whose fields are decoded; nil when it is gone
	block    []byte  // of HEADERS that CONTINUATION follows
	blockOf  frame.Frame
	unseen   uint32 // bytes of DATA since the window was opened
	greeted  bool   // SETTINGS came
}

// dialH2 opens a connection and waits for the server's SETTINGS, which must allow so many streams.
func dialH2(ctx context.Context, d *dialer, deadline time.Time, streams int) (*h2conn, error) {
	nc, err := d.dial(ctx, deadline)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if d.tls != nil {
		scheme = "https"
	}
	c := &h2conn{
		Conn: nc, fields: newFieldEncoder(scheme), streams: map[uint32]*stream{}, window: frame.InitialWindow,
		initial: frame.InitialWindow, most: maxStreamID, nextID: 1, buf: make([]byte, h2ReadBuffer),
	}
	c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if c.decoding != nil {
			c.decoding.field(f)
		}
	})
	c.dec.SetMaxStringLength(maxHead)
	c.out = append(c.out, http2.ClientPreface...)
	c.out = frame.AppendSettings(c.out, http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: frame.MaxWindow})
	c.out = frame.AppendNumber(c.out, http2.FrameWindowUpdate, 0, frame.MaxWindow-frame.InitialWindow)
	if err := c.greet(deadline, streams); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("HTTP/2: %w", err)
	}
	go c.read()
	return c, nil
}

// greet writes the preface and reads up to the server's SETTINGS.
func (c *h2conn) greet(deadline time.Time, streams int) error {
	_ = c.SetDeadline(deadline)
	if _, err := c.Write(c.out); err != nil {
		return err
	}
	c.out = c.out[:0]
	for !c.greeted {
		if err := c.fill(); err != nil {
			return err
		}
	}
	if int64(c.most) < int64(streams) {
		return fmt.Errorf("the server allows %d streams on a connection, and %d are asked for", c.most, streams)
	}
	return c.SetDeadline(time.Time{})
}

// over reports whether no more requests may be sent.
func (c *h2conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving || c.err != nil
}

// shut ends the connection.
func (c *h2conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(net.ErrClosed)
}

// fail ends the connection and all its streams. c.mu is held.
func (c *h2conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	_ = c.Conn.Close()
	for _, s := range c.streams {
		c.end(s, err)
	}
}

// end tells a worker what became of its request. c.mu is held.
func (c *h2conn) end(s *stream, err error) {
	delete(c.streams, s.id)
	s.done <- err
	if c.leaving && len(c.streams) == 0 && c.err == nil {
		c.err = errNotSent
		_ = c.Conn.Close()
	}
}

// flush writes what is to be written, unless another does it already. c.mu is held, and is not afterwards.
func (c *h2conn) flush() {
	if c.writing || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	// Whoever else is ready to run may have a request, too, and it goes with this write.
	runtime.Gosched()
	_ = c.SetWriteDeadline(time.Now().Add(h2WriteTimeout))
	c.mu.Lock()
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		_, err := c.Conn.Write(b)
		c.mu.Lock()
		c.spare = b
		if err != nil {
			c.fail(err)
		}
	}
	c.writing = false
	c.mu.Unlock()
}

// read reads until the connection ends.
func (c *h2conn) read() {
	for {
		c.mu.Lock()
		due := len(c.out) > 0 && !c.writing
		c.mu.Unlock()
		if due {
			// Not here: a peer that writes before it reads must find a reader.
			go func() { c.mu.Lock(); c.flush() }()
		}
		if err := c.fill(); err != nil {
			c.mu.Lock()
			c.fail(err)
			c.mu.Unlock()
			return
		}
	}
}

// fill reads once and takes the frames that are complete.
func (c *h2conn) fill() error {
	n, readErr := c.Conn.Read(c.buf[c.have:])
	c.have += n
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.buf[:c.have]
	for {
		f, n, err := frame.Next(rest)
		if err == nil && n > 0 {
			err = c.take(f)
		}
		if err != nil {
			if errors.Is(err, frame.ErrFrame) {
				err = fmt.Errorf("%w: %w", errProtocol, err)
			}
			return err
		}
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	c.have = copy(c.buf, rest)
	return readErr
}
