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
		c.beginHead()
	} else if _, err := in.br.Peek(1); err != nil {
		return err
	}
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

// readFirst reads the first bytes of a request, or errIdle. A strand of a loop leaves at once where
// there is nothing to read; a goroutine, which costs more to part with its buffers, after parkAfter.
func (c *conn) readFirst(p []byte) (n int, err error) {
	c.parkAt.Store(c.listener.clock.after(parkAfter))
	c.deadline.Store(c.listener.clock.after(c.idleWait))
	if c.fused {
		n, err = c.read(p)
	} else if n, err = c.readNow(p); err == errIdle {
		c.phase.Store(phaseDetached)
		return 0, errIdle
	}
	if err != nil {
		return 0, c.firstFailed(err)
	}
	c.beginHead()
	c.sawLine = bytes.IndexByte(p[:n], '\n') >= 0
	return n, nil
}

func (c *conn) beginHead() {
	c.sawLine = false
	c.deadline.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Header))
	c.enter(phaseHead)
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
// buffers back.
func (c *conn) firstFailed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != reasonPark || !errors.Is(err, os.ErrDeadlineExceeded) {
		return c.readFailed(err)
	}
	c.reason = reasonNone
	c.phase.Store(phaseDetached)
	c.resume()
	return errIdle
}
