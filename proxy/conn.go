package proxy

import (
	"errors"
	"net/netip"
	"os"
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
	peer     netip.Addr                // unmapped; the zero Addr is that of a Unix socket, and
	ip       []byte                    // unix: its text
	port     uint16                    // of peer
	aim      *netip.AddrPort           // what the client connected to, as a PROXY header says; nil: none has
	secure   bool                      // it came over TLS
	agreed   string                    // protocol, by ALPN
	identity *clientCert               // of the client; nil: it was not asked for
	opened   bool                      // what comes before its first request is done (open.go)
	met      bool                      // its first bytes have said what protocol it is
	mux      atomic.Pointer[clientMux] // where it is HTTP/2
	stream   *clientStream             // whose request it serves; nil where it is a connection
	told     bool                      // departed is called when the client has ended its side

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
	parked  bool    // the owner waits for its turn: an interrupt wakes its strand
	armed   bool    // ring may interrupt the wait for an answer
	indexed int     // position in the watch's shard

	// Owned by the strand.
	eof      bool // the client has ended its side
	broken   bool // reading from it failed
	cut      bool // an answer was broken off
	hard     bool // and only a reset can tell the client so
	stuck    bool // it does not read: an interrupt has ended a write to it
	finished bool // the connection ends after this request
	linger   bool // the client may still be sending: read on for a moment before closing
	sawLine  bool // the head's first line is complete
	bodyRead int64
	bodyRaw  int64    // the same with its framing
	req      *request // while requests are read

	idleUntil int64 // the deadline between two requests
	blank     int   // bytes of empty lines since the last request
	bell      *time.Timer
	blankCR   bool // and the last of them is a CR, whose LF has to follow
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
	phaseDuplex                // its body is on the way on a strand of its own (duplex.go)
	phaseAwait                 // the body was read whole: a client that goes away is gone
	phaseClosing               // lingering
	phaseDetached              // idle without buffers, or about to be: only its deadline counts
	phaseFree                  // of a stream: it has none
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
	reasonHedge          // there is news for who waits for an answer (hedge.go)
	reasonOver           // one side of a tunnel has broken off
	reasonAway           // weir is stopping, and an HTTP/2 client has to be told
	reasonUpload         // the body of a request has failed on a strand of its own
)

// localHost is the host of a client that names none: what it connected to.
func (c *conn) localHost() string {
	if a := c.local(); a.IsValid() {
		return a.String()
	}
	return "localhost"
}

// converse serves requests for as long as they come. It returns true when the connection is idle and
// has given back what requests are read with, and false when it has to end, or is one of HTTP/2.
func (c *conn) converse() (idle bool) {
	defer func() {
		if v := recover(); v != nil { // outside a request: in fasthttp, or in weir's own recovery
			c.listener.p.panicked(v)
			idle = false
		}
	}()
	in := c.listener.intakes.Load().take(c)
	c.req = &in.req
	for !c.finished {
		if err := c.readHead(in); err != nil {
			if idle = err == errIdle; err == errHTTP2 {
				b, _ := in.br.Peek(in.br.Buffered())
				c.speakHTTP2(b)
			}
			break
		}
		c.serveNext(in)
		if b, ok := c.descriptor.(breather); ok {
			b.breathe()
		}
	}
	c.req = nil
	in.rest()
	return idle
}

// serveNext serves the request whose head was read.
func (c *conn) serveNext(in *intake) {
	in.req.begin(c, in)
	in.req.serve()
	if in.req.chunkedBody {
		in.msg.Reset()
		in.msg.Header.DisableNormalizing()
	}
	if in.br == nil && !c.finished {
		in.open(c)
	}
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
	if phase == phaseAwait {
		c.heedDeparture()
	}
	switch c.reason {
	case reasonEarly, reasonPark:
		c.pardon()
	case reasonTimeout, reasonTotal:
		if phase == phaseHead { // what was late is over, or was only idle
			c.pardon()
		}
	}
}

// farewell is how long a client that has ended its side may still wait for its answer. Some end it behind their
// request, and are there; most have gone, and their answer is work for nobody.
const farewell = 25 * time.Millisecond

// departed is told that the client has ended its side; hard: by a reset.
func (c *conn) departed(hard bool) {
	switch {
	case c.phase.Load() != phaseAwait: // what begins it, asks
	case hard:
		c.goneAway()
	default:
		time.AfterFunc(farewell, c.goneAway)
	}
}

// heedDeparture begins phaseAwait where the client may have ended its side before.
func (c *conn) heedDeparture() {
	if c.told && c.peerGone() {
		time.AfterFunc(farewell, c.goneAway)
	}
}

// goneAway ends the request of a client that is not there any more, if there is one that awaits its answer.
func (c *conn) goneAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase.Load() != phaseAwait || !c.peerGone():
	case c.reason != reasonNone: // it may be forgiven
		time.AfterFunc(farewell, c.goneAway)
	default:
		c.halt(reasonGone)
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
	if c.reason == reasonTotal { // the request had just ended
		c.pardon()
		return true
	}
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
	if c.mux.Load() == nil && c.wakened() && c.prepare() && c.converse() && c.descriptor.(idler).await(c.task) {
		return
	}
	c.conclude()
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
	for c.wakened() && c.prepare() && c.converse() {
		_ = c.wait() // why it failed, wakened knows, or the read that comes next
	}
	c.conclude()
}

// conclude goes on with a connection of HTTP/2, and ends any other.
func (c *conn) conclude() {
	if m := c.mux.Load(); m != nil {
		m.read(c.strand)
	} else {
		c.hangUp()
	}
}

// hangUp ends the connection.
func (c *conn) hangUp() {
	// What a client does not read, the system would keep behind a FIN for as long as the client likes.
	hard := c.cut && c.hard || c.stuck
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
	c.noteWrite(err)
	return err
}

// noteWrite notes whether the client does not read: a write to it has ended in err, for good.
func (c *conn) noteWrite(err error) {
	if c.stuck = false; !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	switch c.interruptedBy() {
	case reasonTimeout, reasonTotal, reasonStop:
		c.stuck = true
	}
}

func (c *conn) wrote() { c.deadline.Store(c.listener.clock.after(c.patience())) }

// patience is how long may pass between two reads, or writes, of a message of the client's.
func (c *conn) patience() time.Duration {
	if c.phase.Load() == phaseDuplex {
		return c.req.route.cfg.Timeouts.Idle // each way, since one may wait for the other
	}
	return c.listener.settings.Load().Timeouts.Body
}

// heed has the watch's interrupts wake the strand out of park, or no more.
func (c *conn) heed(parked bool) {
	c.mu.Lock()
	c.parked = parked
	c.mu.Unlock()
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

// alarm lets ring interrupt the wait for an answer, and has it rung after d, which 0 does not.
func (c *conn) alarm(d time.Duration) {
	c.mu.Lock()
	c.armed = true
	c.mu.Unlock()
	switch {
	case d == 0:
	case c.bell == nil:
		c.bell = time.AfterFunc(d, c.ring)
	default:
		c.bell.Reset(d)
	}
}

// ring interrupts the wait for an answer, if it may.
func (c *conn) ring() {
	c.mu.Lock()
	if c.armed && c.reason == reasonNone && c.ep != nil {
		c.reason = reasonHedge
		c.ep.interrupt()
	}
	c.mu.Unlock()
}

// alarmOff undoes alarm, and reports whether it was rung.
func (c *conn) alarmOff() (rung bool) {
	if c.bell != nil {
		c.bell.Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	if rung = c.reason == reasonHedge; rung {
		c.pardon()
	}
	return rung
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
