package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/valyala/fasthttp"
	"weir/internal/telemetry"
)

// intake is what requests are read with: fasthttp's parser, the buffer before it, and the request under
// way. A connection that is idle for long has none.
type intake struct {
	br    *bufio.Reader
	msg   fasthttp.Request // its header; its body only where it is chunked
	req   request
	entry telemetry.AccessEntry
}

func newIntake(headLimit int) *intake {
	in := &intake{br: bufio.NewReaderSize(nil, headLimit)}
	in.msg.Header.DisableNormalizing()
	in.req.lookup = func(name string) []byte { return lookup(in.req.raw, name) }
	return in
}

// errIdle says that there is nothing to read yet, and that the strand or the buffers are worth more elsewhere.
var errIdle = errors.New("nothing to read yet")

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

// readHead reads the head of the next request. It returns errIdle where none has begun for so long that
// the buffers are worth more elsewhere. A head that cannot be parsed it refuses.
func (c *conn) readHead(in *intake) error {
	if in.br.Buffered() > 0 { // pipelined: it came together with the request before
		c.mu.Lock()
		c.beginHead()
		c.mu.Unlock()
	} else {
		c.beIdle()
		if _, err := in.br.Peek(1); err != nil {
			return err
		}
	}
	b, _ := in.br.Peek(in.br.Buffered())
	c.sawLine = bytes.IndexByte(b, '\n') >= 0
	err := in.msg.Header.Read(in.br)
	if err != nil {
		c.refuse(in, err)
	}
	return err
}

// Read gives the parser the client's bytes and keeps the connection's phase: the first byte after an
// idle time begins a head.
func (c *conn) Read(p []byte) (int, error) {
	phase := c.phase.Load()
	if phase == phaseIdle {
		return c.readFirst(p)
	}
	if phase == phaseUpload {
		if c.req.up.failed = c.req.flush(); c.req.up.failed != success {
			return 0, errUploadEnded
		}
	}
	if phase != phaseHead {
		c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Body))
	}
	n, err := c.read(p)
	if err != nil {
		return 0, c.readFailed(err)
	}
	if phase == phaseHead {
		c.sawLine = c.sawLine || bytes.IndexByte(p[:n], '\n') >= 0
		return n, nil
	}
	c.bodyRaw += int64(n)
	if c.bodyRaw > maxFraming+framingFactor*c.bodyRead && c.req.chunkedBody {
		return 0, errBodyOverhead
	}
	return n, nil
}

// beIdle begins to wait for a request.
func (c *conn) beIdle() {
	c.parkAt.Store(c.listener.clock.after(parkAfter))
	c.deadline.Store(c.idleUntil)
	c.phase.Store(phaseIdle)
}

// readFirst reads the first bytes of a request, or errIdle. A strand of a loop leaves at once where
// there is nothing to read; a goroutine, which costs more to part with its buffers, after parkAfter.
func (c *conn) readFirst(p []byte) (n int, err error) {
	c.rbuf, c.n, c.err = p, 0, nil
	switch {
	case c.fused:
		err = c.descriptor.Read(c.firstFn)
	case c.announced():
		err = c.Control(c.nowFn)
	default:
		err = errIdle
	}
	if err == nil {
		err = c.err
	}
	switch err {
	case nil:
		return c.n, nil
	case errIdle:
		c.phase.Store(phaseDetached)
		return 0, errIdle
	}
	return 0, c.firstFailed(err)
}

// firstStep is readStep for the first bytes of a request. What ends idle connections does so under mu, and
// leaves one with something to read alone: since the bytes are taken and the idle time is ended under mu as
// well, it meets the request in one place or in the other.
func (c *conn) firstStep(fd uintptr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonStop {
		c.err = os.ErrDeadlineExceeded
		return true
	}
	if !c.readStep(fd) {
		return false
	}
	if c.err == nil {
		c.beginHead()
	}
	return true
}

// nowStep is firstStep for a strand that does not wait.
func (c *conn) nowStep(fd uintptr) {
	if !c.firstStep(fd) {
		c.drained()
		c.err = errIdle
	}
}

// beginHead is called with mu held. The deadline comes first: the watch must not take the old one for the
// head's.
func (c *conn) beginHead() {
	c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Header))
	c.change(phaseHead)
}

// readFailed notes why a read failed.
func (c *conn) readFailed(err error) error {
	if err == io.EOF {
		c.eof = true
	} else {
		c.broken = !errors.Is(err, os.ErrDeadlineExceeded)
	}
	return err
}

// firstFailed is readFailed between two requests, where an interrupt may only mean to give the
// buffers back, or have come at the same time as a request.
func (c *conn) firstFailed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return c.readFailed(err)
	case c.reason == reasonPark:
		c.pardon()
	case !c.overtaken():
		return c.readFailed(err)
	}
	c.phase.Store(phaseDetached)
	return errIdle
}
