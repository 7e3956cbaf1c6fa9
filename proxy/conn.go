package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one client connection, on either engine: it reads requests, one after the other, and has
// each served.
type conn struct {
	socket
	strand   strand       // while requests are read
	task     func(strand) // turn, bound once
	listener *listener
	shard    *watchShard
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

	// Owned by the strand.
	eof      bool // the client has ended its side
	broken   bool // reading from it failed
	cut      bool // an answer was broken off
	hard     bool // and only a reset can tell the client so
	finished bool // the connection ends after this request
	linger   bool // the client may still be sending: read on for a moment before closing
	sawLine  bool // the head's first line is complete
	bodyRead int64
	bodyRaw  int64    // the same with its framing
	req      *request // while requests are read

	idleUntil int64 // the deadline between two requests
	blank     int   // bytes of empty lines since the last request
	blankCR   bool  // and the last of them is a CR, whose LF has to follow
	firstFn   func(fd uintptr) bool
	nowFn     func(fd uintptr)
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
	phaseDetached              // idle without buffers, or about to be: only its deadline counts
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
	reasonQuit           // weir is stopping, and the connection is idle
	reasonStop           // weir cuts off what runs
)

// converse serves requests for as long as they come. It returns true when the connection is idle and
// has given back what requests are read with, and false when it has to end.
func (c *conn) converse() (idle bool) {
	defer func() {
		if v := recover(); v != nil { // outside a request: in fasthttp, or in weir's own recovery
			c.listener.p.panicked(v)
			idle = false
		}
	}()
	pool := c.listener.intakes.Load()
	in := pool.Get().(*intake)
	in.br.Reset(c)
	c.req = &in.req
	for !c.finished {
		if err := c.readHead(in); err != nil {
			idle = err == errIdle
			break
		}
		in.req.begin(c, in)
		in.req.serve()
		if in.req.chunkedBody {
			in.msg.Reset()
			in.msg.Header.DisableNormalizing()
		}
		if !c.fused {
			c.descriptor.(breather).breathe()
		}
	}
	c.req = nil
	in.br.Reset(nil)
	pool.Put(in)
	return idle
}

// enter changes the phase where the watch may just be about to interrupt for the old one's sake: such
// an interrupt is undone.
func (c *conn) enter(phase int32) {
	c.mu.Lock()
	c.change(phase)
	c.mu.Unlock()
}

// change is enter with mu held.
func (c *conn) change(phase int32) {
	c.phase.Store(phase)
	switch c.reason {
	case reasonEarly, reasonPark:
		c.pardon()
	case reasonTimeout, reasonTotal:
		if phase == phaseHead { // what was late is over, or was only idle
			c.pardon()
		}
	}
}

// pardon undoes an interrupt. Called with mu held.
func (c *conn) pardon() {
	c.reason = reasonNone
	c.resume()
	if c.ep != nil {
		c.ep.resume()
	}
}

// overtaken undoes the end of an idle connection's time where a request has come before it. Called with
// mu held.
func (c *conn) overtaken() bool {
	if c.reason != reasonTimeout && c.reason != reasonQuit || !c.readable() {
		return false
	}
	c.pardon()
	return true
}

// turn serves what an idle connection of a loop has to be served; the loop calls it when there is news.
func (c *conn) turn(s strand) {
	c.strand = s
	s.own(c.descriptor)
	if c.wakened() && c.converse() && c.descriptor.(idler).await(c.task) {
		return
	}
	c.hangUp()
}

// breather is a descriptor whose strand shares a processor with others, and lets them go on in between.
type breather interface{ breathe() }

// idler is a descriptor that can wait without a strand: task is started when there is news of it. await
// returns false where nothing can be waited for any more.
type idler interface{ await(task func(strand)) bool }

// wakened ends the time without buffers; false when something else than a first byte has ended it.
func (c *conn) wakened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(phaseIdle)
	return c.reason == reasonNone || c.overtaken()
}

// run is the life of a connection with a goroutine of its own.
func (c *conn) run() {
	c.strand = newGoroutineStrand()
	for c.wakened() && c.converse() {
		_ = c.wait() // why it failed, wakened knows, or the read that comes next
	}
	c.hangUp()
}

// handOver is socket's, under the eyes of the watch.
func (c *conn) handOver() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.socket.handOver(); err != nil {
		return err
	}
	c.strand = newGoroutineStrand()
	if c.reason != reasonNone {
		c.interrupt()
	}
	return nil
}

// hangUp ends the connection.
func (c *conn) hangUp() {
	hard := c.cut && c.hard
	if !hard && !c.broken && !c.eof && (c.linger || c.readable()) {
		c.lingerClose()
	}
	c.shard.remove(c) // the watch must not meet a descriptor that is closed
	if hard {
		c.reset()
	} else {
		c.close()
	}
	c.listener.gone()
}

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
	c.deadline.Store(0)
	c.pardon()
	c.mu.Unlock()
}

// overcome undoes the interrupt of an attempt that was late; what ended the whole request stands.
func (c *conn) overcome() {
	c.mu.Lock()
	c.deadline.Store(0)
	if c.reason == reasonTimeout {
		c.pardon()
	}
	c.mu.Unlock()
}

// lingerClose ends the connection under a client that may still be sending: closing at once would
// reset it, and the reset would take our answer with it before the client has read it.
func (c *conn) lingerClose() {
	c.closeWrite()
	c.forgive()
	c.deadline.Store(c.listener.clock.after(lingerTime))
	c.phase.Store(phaseClosing)
	if d, ok := c.descriptor.(deadliner); ok {
		d.readBefore(time.Now().Add(lingerTime))
	}
	var scrap [4 << 10]byte
	for {
		if _, err := c.read(scrap[:]); err != nil {
			break
		}
	}
}

const lingerTime = 2 * time.Second

// deadliner is a descriptor that can end its reads by itself. Where weir breaks off what runs, the watch
// has ended before the last connection has; a loop then interrupts its own.
type deadliner interface{ readBefore(t time.Time) }
