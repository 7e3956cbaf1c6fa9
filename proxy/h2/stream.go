package h2

// Stream is one request and its answer. It is open until both sides have ended it, one has reset it, or the
// connection is over; then writing to it does nothing. The owner has it until Release.
type Stream struct {
	ID       uint32 // 0 before the first WriteHeaders of a client's
	User     any    // the owner's
	TooLarge bool   // what Headers tells is larger than Settings.MaxHeader: a server may answer (431)
	Fault    string // what was wrong, where Closed tells of a fault that this side found

	conn       *Conn
	prev, next *Stream // in the line of those that wait to write; next also among the free ones

	open      bool
	localEnd  bool
	remoteEnd bool
	released  bool
	wait      waiting

	gotHead     bool // the head, not an interim one
	answered    bool // this side has sent a head
	headRequest bool // a client's
	bodyless    bool // its answer
	status      int  // of an answer; 0: none yet

	length     int64 // content-length of what comes; -1 without
	got        int64
	unconsumed int64 // bytes that were told and not consumed
	consumed   int64 // that the peer's window is smaller by, and may be opened again
	window     int64 // as large as it is when all is consumed
	recv       int64 // that the peer may send
	send       int64 // that may be sent; negative after a SETTINGS
}

// newStream opens a stream; one without an ID is a client's that gets its own when it is first written to.
func (c *Conn) newStream(id uint32) *Stream {
	s := c.free
	if s == nil {
		s = &Stream{}
	} else {
		c.free = s.next
		c.nfree--
	}
	*s = Stream{ID: id, conn: c, open: true, length: -1, recv: c.firstWindow(), window: int64(c.local.Window), send: c.peerWindow}
	c.open++
	c.most = max(c.most, c.open)
	if id == 0 {
		c.fresh = append(c.fresh, s)
	} else {
		c.register(s)
	}
	return s
}

func (c *Conn) register(s *Stream) {
	if c.streams == nil {
		c.streams = map[uint32]*Stream{}
	}
	c.streams[s.ID] = s
}

// drop takes a stream out that is over.
func (c *Conn) drop(s *Stream, how ending) {
	c.unqueue(s)
	s.open = false
	c.open--
	c.grown -= s.window - int64(c.local.Window)
	if s.ID == 0 {
		c.forgetFresh(s)
	} else {
		delete(c.streams, s.ID)
		c.note(s.ID, how)
	}
	if c.data.stream == s {
		c.data.stream = nil
	}
	if how == endedByBoth {
		c.earn(earnStream)
	} else {
		c.repay(s.unconsumed)
		s.unconsumed = 0
	}
}

// rest gives back what an idle connection does not need. Not at once: many streams may end in one turn, and as many
// begin in the next.
func (c *Conn) rest() {
	if c.most > fewStreams {
		c.streams, c.fresh = nil, nil
		c.most = 0
	}
	for c.nfree > fewStreams/4 {
		c.free = c.free.next
		c.nfree--
	}
}

func (c *Conn) forgetFresh(s *Stream) {
	for i, f := range c.fresh {
		if f == s {
			c.fresh = append(c.fresh[:i], c.fresh[i+1:]...)
			return
		}
	}
}

// note keeps how a stream ended, for frames that come later. Of those that this side reset it need not be known.
func (c *Conn) note(id uint32, how ending) {
	if how == resetHere {
		return
	}
	if len(c.closed) < maxClosed {
		c.closed = append(c.closed, closing{id, how})
		return
	}
	c.closed[c.oldest] = closing{id, how}
	c.oldest = (c.oldest + 1) % maxClosed
}

// howEnded is resetHere also where it is not known any more.
func (c *Conn) howEnded(id uint32) ending {
	for _, e := range c.closed {
		if e.id == id {
			return e.how
		}
	}
	return resetHere
}

// streamError resets a stream for a fault of the peer's.
func (c *Conn) streamError(s *Stream, code Code, fault string) {
	s.Fault = fault
	c.sendReset(s.ID, code)
	c.drop(s, resetHere)
	c.spend(costReset)
	c.events.Closed(s, code, false)
}

func (s *Stream) endRemote() {
	s.remoteEnd = true
	s.endBoth()
}

func (s *Stream) endLocal() {
	s.localEnd = true
	s.endBoth()
}

func (s *Stream) endBoth() {
	if s.localEnd && s.remoteEnd {
		s.conn.drop(s, endedByBoth)
	}
}

// Open reports whether the stream can still come to something: it is neither ended by both sides nor reset.
func (s *Stream) Open() bool { return s.open }

// Conn is the stream's connection.
func (s *Stream) Conn() *Conn { return s.conn }

// Reset ends the stream with RST_STREAM, where it is still open. Closed is not told.
func (s *Stream) Reset(code Code) {
	if !s.open {
		return
	}
	if s.ID != 0 && s.conn.err == nil {
		s.conn.sendReset(s.ID, code)
	}
	s.conn.drop(s, resetHere)
	if s.conn.server && code == ProtocolError {
		s.conn.spend(costReset)
	}
}

// Release says that the owner has done with s and forgets it: the memory is used for another stream. It is due for
// every stream, after its end or before: an open one is reset with CANCEL.
func (s *Stream) Release() {
	if s.released {
		return
	}
	s.Reset(Cancel)
	c := s.conn
	c.repay(s.unconsumed)
	s.unconsumed, s.released, s.User = 0, true, nil
	if c.nfree < maxFree {
		s.next, c.free = c.free, s
		c.nfree++
	}
}

// Consumed opens the windows for n bytes that Data told of. The connection's window stays smaller until all that
// came is consumed, also after the end of the stream, or the stream is reset or released.
func (s *Stream) Consumed(n int) {
	k := min(int64(n), s.unconsumed)
	s.unconsumed -= k
	s.conn.repay(k)
	if !s.open || s.remoteEnd || s.conn.err != nil || k == 0 {
		return
	}
	if s.consumed += k; s.consumed >= s.window/2 {
		more := s.consumed + s.grow()
		s.conn.sendWindowUpdate(s.ID, int32(more))
		s.recv += more
		s.consumed = 0
	}
}

// grow makes the window of a stream whose owner reads larger, if there is room, and returns by how much.
func (s *Stream) grow() int64 {
	l := &s.conn.local
	more := int64(l.Grown) - s.window
	if s.conn.grown+more > l.Unread-int64(l.MaxStreams)*int64(l.Window) {
		return 0
	}
	s.conn.grown += more
	s.window += more
	return more
}

// lend opens the connection's window for n bytes that have come and wait for their owner, within Settings.Unread.
func (c *Conn) lend(n int64) {
	n = min(n, c.local.Unread-c.unread)
	c.unread += n
	c.credit(n)
}

// repay opens it for n bytes that wait no more, unless that was done for them, or for as many others, when they came.
func (c *Conn) repay(n int64) {
	lent := min(n, c.unread)
	c.unread -= lent
	c.credit(n - lent)
}

// credit opens the connection's window again, half of it at a time.
func (c *Conn) credit(n int64) {
	if c.consumed += n; c.consumed >= int64(c.local.ConnWindow)/2 && c.err == nil {
		c.sendWindowUpdate(0, int32(c.consumed))
		c.recv += c.consumed
		c.consumed = 0
	}
}
