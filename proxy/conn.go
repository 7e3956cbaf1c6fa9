package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/telemetry"
)

// conn is one client connection. It is the net.Conn that fasthttp reads requests from. fasthttp
// never writes to the client through it: every byte a client sees is written by weir itself, and
// what fasthttp believes to answer is discarded (Write). That keeps answers streaming, truncation
// visible and status codes ours.
type conn struct {
	socket
	listener *listener
	peer     netip.Addr // unmapped
	ip       []byte     // peer as text

	// What the watch reads. Written by the owner only.
	phase    atomic.Int32
	deadline atomic.Int64 // coarse clock at which the operation under way is late; 0: never
	total    atomic.Int64 // the same for the whole request
	parkAt   atomic.Int64 // and at which an idle connection gives its buffers back

	// mu orders the watch's interrupts against the owner letting go of the endpoint's connection
	// or of the reason.
	mu      sync.Mutex
	ep      *epConn // connection of the attempt under way
	reason  reason  // why the watch interrupted; reasonNone when it did not
	indexed int     // position in the watch's shard

	// Owned by the connection's goroutine.
	eof      bool // the client has ended its side
	broken   bool // reading from it failed
	cut      bool // an answer was broken off
	hard     bool // and only a reset can tell the client so
	parked   bool // fasthttp was told EOF, but the socket stays: it was only idle
	finished bool // the connection ends after this request
	linger   bool // the client may still be sending: read on for a moment before closing
	sawLine  bool // the head's first line is complete
	sawHead  bool // the whole head has come, as far as one read shows
	bodyRead int64
	bodyRaw  int64 // the same with its framing
	// bufferSize is how much fasthttp asks for when it holds nothing: len(p) of Read tells.
	bufferSize int
	idleWait   time.Duration // keep-alive or first-byte limit in force
	req        request
	entry      telemetry.AccessEntry
}

// Phases of a connection. Which timeouts hold, and what a readable or closed socket means, depends
// on them.
const (
	phaseIdle     int32 = iota // between requests
	phaseHead                  // a head has begun
	phaseBusy                  // a request is served; the client's side is not watched
	phaseUpload                // its body is on the way: the endpoint may answer early
	phaseAwait                 // the body was read whole: a client that goes away is gone
	phaseClosing               // lingering
	phaseDetached              // not to be interrupted: about to park or close
)

// reason says why the watch interrupted a connection.
type reason int8

const (
	reasonNone    reason = iota
	reasonTimeout        // the operation was late
	reasonTotal          // the request was late
	reasonGone           // the client went away
	reasonEarly          // the endpoint has something to say before the upload is over
	reasonPark           // idle for a while: give the buffers back
	reasonStop           // weir is stopping
)

// errBodyOverhead: chunk framing so much larger than its data that only an attacker sends it.
var errBodyOverhead = errors.New("chunk framing exceeds the data")

// errUploadEnded: sending on what was read failed; uploading.failed says how.
var errUploadEnded = errors.New("the endpoint does not take the rest of the body")

// Chunk extensions and trailers may not outgrow the data they frame: what a client sends beyond
// maxFraming + framingFactor × data is an attack on the CPU.
const (
	maxFraming    = 512 << 10
	framingFactor = 16
)

// Read gives fasthttp the client's bytes and keeps the connection's phase: the first byte after an
// idle time begins a head.
func (c *conn) Read(p []byte) (int, error) {
	phase := c.phase.Load()
	if phase == phaseIdle && len(p) < c.bufferSize {
		// fasthttp holds the beginning of a pipelined head: the connection is not idle.
		c.beginHead()
		phase = phaseHead
	}
	if phase == phaseUpload {
		if c.req.up.failed = c.req.flush(); c.req.up.failed != success {
			return 0, errUploadEnded
		}
	}
	switch {
	case phase == phaseIdle:
		c.parkAt.Store(c.listener.clock.after(parkAfter))
		c.deadline.Store(c.listener.clock.after(c.idleWait))
	case phase != phaseHead || c.sawHead:
		c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Body))
	}
	n, err := c.read(p)
	if err != nil {
		return 0, c.readFailed(phase, err)
	}
	switch phase {
	case phaseIdle:
		c.beginHead()
		fallthrough
	case phaseHead:
		c.sawLine = c.sawLine || bytes.IndexByte(p[:n], '\n') >= 0
		c.sawHead = c.sawHead || headLen(p[:n], 0) > 0
	default:
		c.bodyRaw += int64(n)
		if c.bodyRaw > maxFraming+framingFactor*c.bodyRead && c.req.chunkedBody {
			return 0, errBodyOverhead
		}
	}
	return n, nil
}

func (c *conn) beginHead() {
	c.sawLine, c.sawHead = false, false
	c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Header))
	c.enter(phaseHead)
}

// enter changes the phase where the watch may just be about to interrupt for the old one's sake: such
// an interrupt is undone.
func (c *conn) enter(phase int32) {
	c.mu.Lock()
	c.phase.Store(phase)
	if c.reason == reasonEarly || c.reason == reasonPark {
		c.reason = reasonNone
		c.resume()
		if c.ep != nil {
			c.ep.resume()
		}
	}
	c.mu.Unlock()
}

// readFailed turns the end of a read into what fasthttp should see: io.EOF for a connection that
// is only parked, the error itself otherwise.
func (c *conn) readFailed(phase int32, err error) error {
	if err == io.EOF {
		c.eof = true
		return io.EOF
	}
	c.broken = !errors.Is(err, os.ErrDeadlineExceeded)
	if phase != phaseIdle {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonPark {
		c.reason = reasonNone
		c.parked = true
		c.phase.Store(phaseDetached)
		c.resume()
		return io.EOF
	}
	return err
}

// Write discards: see conn.
func (c *conn) Write(p []byte) (int, error) { return len(p), nil }

// Close is ignored: the goroutine that serves the connection closes it.
func (c *conn) Close() error { return nil }

func (c *conn) LocalAddr() net.Addr                { return c.c.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr               { return c.c.RemoteAddr() }
func (c *conn) SetDeadline(t time.Time) error      { return nil }
func (c *conn) SetReadDeadline(t time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil }

// send writes b to the client; the deadline moves with every piece the client takes.
func (c *conn) send(b []byte) error {
	c.wrote()
	_, err := c.write(b)
	return err
}

func (c *conn) wrote() {
	c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Body))
}

// interruptedBy returns the reason of the watch's interrupt, if there was one.
func (c *conn) interruptedBy() reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// attach lets the watch interrupt the attempt over e.
func (c *conn) attach(e *epConn) {
	c.mu.Lock()
	c.ep = e
	if c.reason != reasonNone { // it came while e was dialed
		e.interrupt()
	}
	c.mu.Unlock()
}

// detach ends that; it reports whether the endpoint's connection was left alone, so that it may be
// used again.
func (c *conn) detach() (untouched bool) {
	c.mu.Lock()
	c.ep = nil
	untouched = c.reason == reasonNone
	c.mu.Unlock()
	return untouched
}

// forgive undoes an interrupt that was meant for the endpoint's side only (an early answer, a late
// attempt), so that the client can still be answered.
func (c *conn) forgive() {
	c.mu.Lock()
	c.reason = reasonNone
	c.deadline.Store(0)
	c.resume()
	c.mu.Unlock()
}

// lingerClose ends the connection under a client that may still be sending: closing at once would
// reset it, and the reset would take our answer with it before the client has read it.
func (c *conn) lingerClose() {
	_ = c.c.CloseWrite()
	c.forgive()
	c.deadline.Store(c.listener.clock.after(lingerTime))
	c.phase.Store(phaseClosing)
	var scrap [4 << 10]byte
	for {
		if _, err := c.read(scrap[:]); err != nil {
			break
		}
	}
}

const lingerTime = 2 * time.Second
