package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/valyala/fasthttp"
	"weir/balancer"
	"weir/internal/telemetry"
)

// intake is what requests are read with: fasthttp's parser, the buffer before it, and the request under
// way. A connection that is idle for long has none.
type intake struct {
	br     *bufio.Reader
	own    *bufio.Reader // br, but while it has to hold more (ahead.go)
	home   *intakes
	msg    fasthttp.Request // its header; its body only where it is chunked
	req    request
	tried  []*balancer.Endpoint // by the request under way, where it is sent again
	key    []byte               // of its rate limit, for as long as meter knows it
	permit []byte               // key of its bound on requests under way
	meter  meter
	target []byte // that its endpoint sees, where the route rewrites it
	turn   turn
	entry  telemetry.AccessEntry
	answer response // to the attempt under way
	// timeLeft is what the head for the endpoint says of the request's time.
	timeLeft []byte
	// of the request under way, where its route has a cache
	caching caching
}

// intakes are those of a listener that nobody uses, and the buffers of others that need none.
type intakes struct {
	whole   sync.Pool // of *intake
	readers sync.Pool // of *bufio.Reader
}

// newIntakes makes intakes that read heads of up to headLimit bytes.
func newIntakes(headLimit int) *intakes {
	home := new(intakes)
	home.readers.New = func() any { return bufio.NewReaderSize(nil, headLimit) }
	home.whole.New = func() any {
		in := &intake{home: home}
		in.msg.Header.DisableNormalizing()
		in.req.lookup = in.req.condition
		return in
	}
	return home
}

// take returns an intake that reads from c.
func (home *intakes) take(c *conn) *intake {
	in := home.whole.Get().(*intake)
	in.open(c)
	return in
}

// open makes the intake read from c.
func (in *intake) open(c *conn) {
	if in.own == nil {
		in.own = in.home.readers.Get().(*bufio.Reader)
	}
	in.br = in.own
	in.br.Reset(c)
}

// part gives the buffer, which is most of the intake, to others. What was in it is lost; no request follows before the
// intake is opened again.
func (in *intake) part() {
	in.own.Reset(nil)
	in.home.readers.Put(in.own)
	in.br, in.own = nil, nil
}

// rest gives the intake back.
func (in *intake) rest() {
	if in.own != nil {
		in.br = in.own
		in.br.Reset(nil)
	}
	in.home.whole.Put(in)
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

// errBlank: what stands before a request is more, or other, than empty lines that may be ignored.
var errBlank = errors.New("empty lines instead of a request")

// maxBlank is how many bytes of empty lines may stand before a request.
const maxBlank = 8

// readHead reads the head of the next request. It returns errIdle where none has begun for so long that
// the buffers are worth more elsewhere. A head that cannot be parsed it refuses.
func (c *conn) readHead(in *intake) error {
	err := c.awaitHead(in)
	if err == nil {
		err = in.msg.Header.Read(in.br)
	} else if err != errBlank && err != errHTTP1 {
		return err
	}
	if err != nil {
		c.refuse(in, err)
	}
	return err
}

// awaitHead returns when a head has begun and its first bytes are in the buffer. Empty lines before it are
// no part of it (RFC 9112, 2.2): some clients send one behind a body. After them a connection is as idle
// as before, and no longer.
func (c *conn) awaitHead(in *intake) error {
	for {
		if in.br.Buffered() == 0 {
			in.narrow(c)
			c.beIdle()
			if _, err := in.br.Peek(1); err != nil {
				return err
			}
		}
		b, _ := in.br.Peek(in.br.Buffered())
		n := c.skipBlank(b)
		if n < 0 {
			return errBlank
		}
		_, _ = in.br.Discard(n)
		if n < len(b) {
			c.sawLine = bytes.IndexByte(b[n:], '\n') >= 0
			break
		}
	}
	c.blank = 0
	if !c.met {
		if err := c.protocol(in); err != nil {
			return err
		}
	}
	if c.phase.Load() != phaseHead { // pipelined: it came together with the request before
		c.mu.Lock()
		c.beginHead()
		c.mu.Unlock()
	}
	return nil
}

// skipBlank returns how many bytes of empty lines b begins with; -1 where that is not to be ignored.
func (c *conn) skipBlank(b []byte) (n int) {
	for n < len(b) && (b[n] == '\n' || b[n] == '\r' && !c.blankCR) {
		c.blankCR = b[n] == '\r'
		n++
	}
	c.blank += n
	if c.blank > maxBlank || c.blankCR && n < len(b) {
		return -1
	}
	return n
}

// Read gives the parser the client's bytes and keeps the connection's phase: the first byte after an
// idle time begins a head.
func (c *conn) Read(p []byte) (int, error) {
	phase := c.phase.Load()
	if phase == phaseIdle {
		return c.readFirst(p)
	}
	if phase == phaseUpload || phase == phaseDuplex {
		if c.req.up.failed = c.req.flush(); c.req.up.failed != success {
			return 0, errUploadEnded
		}
	}
	if phase != phaseHead {
		c.deadline.Store(c.listener.clock.after(c.patience()))
	}
	n, err := c.read(p)
	for phase == phaseUpload && err != nil && c.falseAlarm() {
		n, err = c.read(p)
	}
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
	case c.via != nil:
		err = c.firstVia(c.via)
	case c.fused:
		err = c.fd.Read(c.firstFn)
	case c.announced():
		err = c.fd.Control(c.nowFn)
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

// firstVia reads from a channel. A strand with a goroutine of its own waits there, as it does on a file.
func (c *conn) firstVia(v channel) error {
	if c.strand.lane() == goroutineLane {
		if err := v.attend(); err != nil {
			return err
		}
	}
	return c.firstOf(v)
}

// firstOf is firstStep for a channel, and does not wait.
func (c *conn) firstOf(v channel) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonStop {
		return os.ErrDeadlineExceeded
	}
	if c.n, err = v.receiveNow(c.rbuf); err == nil {
		c.beginHead()
	}
	return err
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
