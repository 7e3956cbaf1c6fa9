package h2

// waiting is why a stream could not write all it wanted to.
type waiting uint8

const (
	notWaiting waiting = iota
	inLine             // for room in Pending, or the connection's window
	told               // that there is; it is going to write
	forWindow          // of its own
)

// WriteHeaders sends a head, an interim head or trailers. fields may be in memory that is used again. It is not
// subject to flow control; trailers come behind all DATA that was taken. Names are to be in lower case.
func (s *Stream) WriteHeaders(fields []Field, end bool) {
	c := s.conn
	if !s.open || s.localEnd || c.err != nil {
		return
	}
	if s.ID == 0 {
		c.name(s, fields)
	}
	if c.enc == nil {
		c.enc = newEncoder()
	}
	o := c.queue()
	at := len(o.b)
	o.b = appendFrameHeader(o.b, 0, frameHeaders, 0, s.ID)
	o.b = c.enc.list(o.b, fields)
	o.frames(at, s.ID, end)
	s.answered = s.answered || !isInterim(fields)
	if end {
		s.endLocal()
	}
}

func isInterim(fields []Field) bool {
	return len(fields) > 0 && fields[0].Name == ":status" && len(fields[0].Value) == 3 && fields[0].Value[0] == '1'
}

// name gives a client's stream its ID: IDs grow in the order in which heads are sent.
func (c *Conn) name(s *Stream, fields []Field) {
	c.forgetFresh(s)
	s.ID = c.next
	c.next += 2
	c.register(s)
	for i := range fields {
		if fields[i].Name == ":method" {
			s.headRequest = fields[i].Value == "HEAD"
		}
	}
}

// frames writes the header of the HEADERS frame at b[at:], and divides a block that is too long for one frame.
func (o *buffer) frames(at int, id uint32, end bool) {
	length := len(o.b) - at - frameHeaderLen
	flags := uint8(0)
	if end {
		flags = flagEndStream
	}
	if length <= defaultMaxFrame {
		appendFrameHeader(o.b[:at], length, frameHeaders, flags|flagEndHeaders, id)
		return
	}
	block := append([]byte(nil), o.b[at+frameHeaderLen:]...)
	o.b = o.b[:at]
	for kind := frameHeaders; len(block) > 0; kind = frameContinuation {
		n := min(len(block), defaultMaxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		o.b = append(appendFrameHeader(o.b, n, kind, flags, id), block[:n]...)
		block, flags = block[n:], 0
	}
}

// WriteData sends as much of p as flow control and the bound of Pending allow, and returns how much. end ends this
// side of the stream, but only where all of p was taken: else Writable tells when the rest may be tried.
//
// Whoever is told Writable is expected to call WriteData soon, or Reset or Release: others wait for their turn. While
// they do, a call takes 16 KiB at most.
func (s *Stream) WriteData(p []byte, end bool) (n int) {
	c := s.conn
	if !s.open || s.localEnd || s.ID == 0 || c.err != nil {
		return 0
	}
	wasTold := s.wait == told
	c.unqueue(s)
	room := min(int64(max(maxPending-c.unsent(), 0)), c.send, s.send)
	if c.first != nil || c.notified > 0 {
		room = min(room, quantum)
	}
	n = int(min(int64(len(p)), max(room, 0)))
	all := n == len(p)
	if n > 0 || all && end {
		s.frames(p[:n], end && all)
		if n >= smallData || all {
			c.earn(earnData + n/earnBytes)
		}
	}
	switch {
	case all:
		if end {
			s.endLocal()
		}
	case s.send <= 0:
		s.wait = forWindow
	default:
		c.enqueue(s, wasTold && n == 0)
	}
	return n
}

// frames sends DATA, in frames of the largest size that every peer takes.
func (s *Stream) frames(p []byte, end bool) {
	c := s.conn
	o := c.queue()
	c.send -= int64(len(p))
	s.send -= int64(len(p))
	for {
		n, flags := min(len(p), defaultMaxFrame), uint8(0)
		if end && n == len(p) {
			flags = flagEndStream
		}
		o.b = append(appendFrameHeader(o.b, n, frameData, flags, s.ID), p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return
		}
	}
}

// wake tells streams in line that they may write, as many as there is room for beside those that were told before
// and have not written yet. Where nothing is pending any more, the latter are not waited for any longer: they do not
// hold the others up, whatever their owners are doing.
func (c *Conn) wake() {
	before := 0
	if c.unsent() == 0 {
		before = c.notified
	}
	for c.first != nil && c.err == nil {
		room := min(int64(maxPending-c.unsent()), c.send)
		if room <= int64(max(c.notified-before, 0))*quantum {
			return
		}
		s := c.first
		c.unqueue(s)
		s.wait = told
		c.notified++
		c.events.Writable(s)
	}
}

// opened: the stream's window may have been opened.
func (s *Stream) opened() {
	if s.wait == forWindow && s.send > 0 {
		s.conn.enqueue(s, false)
	}
}

// enqueue puts a stream in line, in front where it had its turn for nothing.
func (c *Conn) enqueue(s *Stream, front bool) {
	s.wait = inLine
	switch {
	case c.first == nil:
		c.first, c.end = s, s
	case front:
		s.next, c.first.prev = c.first, s
		c.first = s
	default:
		s.prev, c.end.next = c.end, s
		c.end = s
	}
}

// unqueue takes a stream out of the line, or off those that were told.
func (c *Conn) unqueue(s *Stream) {
	switch s.wait {
	case told:
		c.notified--
	case inLine:
		if s.prev != nil {
			s.prev.next = s.next
		} else {
			c.first = s.next
		}
		if s.next != nil {
			s.next.prev = s.prev
		} else {
			c.end = s.prev
		}
		s.prev, s.next = nil, nil
	}
	s.wait = notWaiting
}
