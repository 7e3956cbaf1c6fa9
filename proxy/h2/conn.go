package h2

import (
	"cmp"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// Conn is one side of an HTTP/2 connection.
type Conn struct {
	events Events
	local  Settings // without zeros
	server bool

	// What came. There is a buffer while a frame other than DATA has come in part.
	preface  int  // bytes of the client's that are still to come
	greeted  bool // the peer's first SETTINGS have come
	acked    bool // it has acknowledged ours
	in       *buffer
	data     dataFrame
	block    fieldBlock
	dec      *hpack.Decoder
	last     uint32 // the highest stream that the peer has opened
	served   uint32 // and the highest that was taken
	skipped  [2]uint32
	recv     int64  // bytes that the peer may send
	consumed int64  // that its window is smaller by, and may be opened again
	unread   int64  // that it may send again although nobody has consumed them
	grown    int64  // bytes that windows of streams are larger by than at first
	units    uint64 // of what it sends that have ended (Amid)
	refused  uint64 // streams beyond those that were allowed
	budget   int

	// What goes.
	out        *buffer
	enc        *encoder
	next       uint32  // stream to open
	send       int64   // bytes that may be sent
	peerWindow int64   // that a new stream may send
	peerMax    uint32  // streams
	first, end *Stream // those that wait for room in Pending, or the connection's window
	notified   int     // streams that were told that they may write, and have not yet

	streams map[uint32]*Stream
	fresh   []*Stream // a client's that have no ID yet
	open    int
	most    int     // of them since there were none
	free    *Stream // released ones
	nfree   int
	closed  []closing // how some of the latest streams ended
	oldest  int

	err         *Error // why it is over
	draining    bool   // Shutdown
	peerAway    bool   // the peer said GOAWAY
	toldLast    bool   // the client knows the last stream that is served
	pingPending bool
}

// closing is how a stream ended, as far as later frames are judged by it.
type closing struct {
	id  uint32
	how ending
}

type ending uint8

const (
	resetHere ending = iota // or too long ago to be known
	endedByBoth
	resetByPeer
)

const (
	maxPending = 64 << 10       // bytes that DATA may fill
	maxUnread  = 4 * maxPending // at which a server refuses further streams of a peer that reads no answers
	quantum    = defaultMaxFrame
	maxClosed  = 32
	maxReason  = 200 // bytes of a GOAWAY's text
	maxFree    = 128
	fewStreams = 8 // what an idle connection keeps the memory of
)

// Payloads of this side's PINGs.
const (
	pingLiveness uint64 = 1
	pingShutdown uint64 = 2
)

// NewServer returns the server's side. Its SETTINGS are pending at once; the client's preface is expected.
func NewServer(s Settings, e Events) *Conn {
	c := newConn(s, e)
	c.server, c.preface = true, len(Preface)
	c.greet(settingMaxStreams, c.local.MaxStreams)
	return c
}

// NewClient returns the client's side. The preface and its SETTINGS are pending at once. Until the server's SETTINGS
// have come, 100 streams may be opened.
func NewClient(s Settings, e Events) *Conn {
	c := newConn(s, e)
	o := c.queue()
	o.b = append(o.b, Preface...)
	c.next = 1
	c.greet(settingEnablePush, 0)
	return c
}

func newConn(s Settings, e Events) *Conn {
	s.MaxStreams = cmp.Or(s.MaxStreams, defaultStreams)
	s.MaxHeader = cmp.Or(s.MaxHeader, defaultMaxHeader)
	s.Window = cmp.Or(s.Window, defaultWindow)
	s.ConnWindow = max(s.ConnWindow, defaultWindow)
	s.Grown = max(s.Grown, s.Window)
	return &Conn{
		events: e, local: s, budget: budgetMax,
		recv: int64(s.ConnWindow), send: defaultWindow,
		peerWindow: defaultWindow, peerMax: defaultStreams,
	}
}

// greet sends the settings, one of which depends on the role.
func (c *Conn) greet(id, value uint32) {
	c.sendSettings(id, value, settingWindow, uint32(c.local.Window), settingMaxHeader, uint32(c.local.MaxHeader))
	if more := c.local.ConnWindow - defaultWindow; more > 0 {
		c.sendWindowUpdate(0, more)
	}
}

// Pending is what is to be sent. It stays as it is until Sent, also while more comes behind it.
func (c *Conn) Pending() []byte {
	if c.out == nil {
		return nil
	}
	return c.out.b[c.out.from:]
}

// Sent says that the first n bytes of Pending were sent. It may tell Writable.
func (c *Conn) Sent(n int) {
	o := c.out
	if o == nil {
		return
	}
	o.from += n
	switch left := len(o.b) - o.from; {
	case left == 0:
		c.out = nil
		o.free()
	case o.from > left:
		o.b, o.from = o.b[:copy(o.b, o.b[o.from:])], 0
	}
	c.wake()
}

// Open begins a stream of a client's; nil where Room is 0. The stream gets its ID with its first WriteHeaders.
func (c *Conn) Open() *Stream {
	if c.Room() == 0 {
		return nil
	}
	return c.newStream(0)
}

// Room is how many streams a client could open now: what the server allows beside those that are open; 0 after a
// GOAWAY, Shutdown, Close or an error, and where the IDs are used up.
func (c *Conn) Room() int {
	if c.server || c.Draining() {
		return 0
	}
	ids := int64(maxStreamID-c.next)/2 + 1
	return int(max(min(int64(c.peerMax), ids)-int64(c.open), 0))
}

// Streams is how many streams are open.
func (c *Conn) Streams() int { return c.open }

// Shutdown ends the connection in an orderly way: running streams go on, no new ones begin. A server says GOAWAY
// twice, so that requests under way to it are not lost; a client just opens no more.
func (c *Conn) Shutdown() {
	if c.server && !c.draining && c.err == nil {
		c.sendGoAway(maxStreamID, NoError, "")
		c.sendPing(0, pingShutdown)
	}
	c.draining = true
}

// Draining reports whether no new streams will be opened: after Shutdown or Close, the peer's GOAWAY, or where IDs are
// used up.
func (c *Conn) Draining() bool {
	return c.draining || c.peerAway || c.err != nil || c.next > maxStreamID
}

// Drained reports whether the connection has nothing more to do and may be closed: it is Draining, has told the
// peer its last stream, and has no streams and nothing pending. It is over after an error of Receive and after Close
// as soon as nothing is pending.
func (c *Conn) Drained() bool {
	over := c.err != nil || c.Draining() && c.open == 0 && (c.toldLast || c.peerAway || !c.server)
	return over && c.unsent() == 0
}

// Close ends the connection at once, as after the end of its input: all streams are Closed with the code, and a GOAWAY
// with it is pending.
func (c *Conn) Close(code Code) {
	c.fail(code, "")
	c.closeStreams()
}

// Fail ends the connection for a fault of the peer's that its owner has found: a GOAWAY with the code and the reason is
// pending, and the streams wait for Close, which is due once that was sent.
func (c *Conn) Fail(code Code, reason string) { c.fail(code, reason) }

// Refused is how many streams were refused so far because the peer had as many open as it may, or reads no answers.
func (c *Conn) Refused() uint64 { return c.refused }

// fail makes an error of the connection of what was found. The streams are closed when Receive or Close ends.
func (c *Conn) fail(code Code, reason string) {
	if c.err == nil {
		c.err = &Error{Code: code, Reason: reason}
		reason = reason[:min(len(reason), maxReason)]
		c.sendGoAway(c.served, code, reason)
	}
}

// Err is why the connection is over, by a fault of the peer's, Close, or a flood; nil while it is not.
func (c *Conn) Err() *Error { return c.err }

// closeStreams closes all streams of a connection that is over.
func (c *Conn) closeStreams() {
	for _, s := range append(c.sorted(func(*Stream) bool { return true }), c.fresh...) {
		if s.open {
			c.drop(s, resetHere)
			c.events.Closed(s, c.err.Code, s.ID == 0)
		}
	}
	c.in.free()
	c.block.free()
	c.in = nil
}

// sorted are the streams that which holds for, in the order of their IDs: the events of each may end others.
func (c *Conn) sorted(which func(*Stream) bool) []*Stream {
	var all []*Stream
	for _, s := range c.streams {
		if which(s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *Stream) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Greeted reports whether the peer's SETTINGS have come: what Room says is then what it allows.
func (c *Conn) Greeted() bool { return c.greeted }

// Ping asks the peer for a sign of life, unless one is still awaited.
func (c *Conn) Ping() {
	if !c.pingPending && c.err == nil {
		c.pingPending = true
		c.sendPing(0, pingLiveness)
	}
}

// Pinged reports whether no sign of life is awaited: the last Ping was answered.
func (c *Conn) Pinged() bool { return !c.pingPending }
