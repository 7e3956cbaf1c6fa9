package h2

import "fmt"

// dataFrame is the DATA frame that is coming in, which is told of as it comes.
type dataFrame struct {
	under   bool // there is one
	id      uint32
	stream  *Stream // nil where nobody wants the data
	left    int     // of the data
	padding int     // behind it
	padded  bool    // the byte that says how much padding is still to come
	end     bool
}

// Receive takes bytes that came, all of p, and tells the events in them. After an error, which is an *Error, all
// streams are Closed and a GOAWAY is pending, after which the connection is to be closed.
func (c *Conn) Receive(p []byte) error {
	for len(p) > 0 && c.err == nil {
		switch {
		case c.preface > 0:
			p = c.receivePreface(p)
		case c.data.under:
			p = c.receiveData(p)
		default:
			p = c.receiveFrame(p)
		}
	}
	if c.err != nil {
		c.closeStreams()
		return c.err
	}
	c.wake()
	return nil
}

func (c *Conn) receivePreface(p []byte) []byte {
	n := min(c.preface, len(p))
	at := len(Preface) - c.preface
	if string(p[:n]) != Preface[at:at+n] {
		c.fail(ProtocolError, "the connection does not begin with the preface of HTTP/2")
	}
	c.preface -= n
	return p[n:]
}

// receiveFrame takes a frame, or as much of it as there is. Of DATA it takes the header.
func (c *Conn) receiveFrame(p []byte) []byte {
	if c.in != nil {
		return c.completeFrame(p)
	}
	if len(p) < frameHeaderLen {
		return c.keep(p, len(p))
	}
	h := parseFrameHeader(p)
	if !c.check(h) {
		return nil
	}
	if h.kind == frameData {
		c.beginData(h)
		return p[frameHeaderLen:]
	}
	all := frameHeaderLen + h.length
	if len(p) < all {
		return c.keep(p, len(p))
	}
	c.frame(h, p[frameHeaderLen:all])
	return p[all:]
}

// keep keeps the first n bytes until there are more.
func (c *Conn) keep(p []byte, n int) []byte {
	if c.in == nil {
		c.in = newBuffer()
	}
	c.in.b = append(c.in.b, p[:n]...)
	return p[n:]
}

// completeFrame goes on with a frame of which a part was kept.
func (c *Conn) completeFrame(p []byte) []byte {
	if missing := frameHeaderLen - len(c.in.b); missing > 0 {
		p = c.keep(p, min(missing, len(p)))
		if len(c.in.b) < frameHeaderLen {
			return p
		}
	}
	h := parseFrameHeader(c.in.b)
	if !c.check(h) {
		return nil
	}
	in := c.in
	if h.kind == frameData {
		c.in = nil
		in.free()
		c.beginData(h)
		return p
	}
	p = c.keep(p, min(frameHeaderLen+h.length-len(in.b), len(p)))
	if len(in.b) < frameHeaderLen+h.length {
		return p
	}
	c.in = nil
	c.frame(h, in.b[frameHeaderLen:])
	in.free()
	return p
}

// check refuses frames that may not come now, whatever is in them.
func (c *Conn) check(h frameHeader) bool {
	switch {
	case h.length > defaultMaxFrame:
		c.fail(FrameSizeError, fmt.Sprintf("a frame of %d bytes, at most %d were allowed", h.length, defaultMaxFrame))
	case !c.greeted && (h.kind != frameSettings || h.has(flagAck)):
		c.fail(ProtocolError, "the first frame is not SETTINGS")
	case c.block.id != 0 && (h.kind != frameContinuation || h.id != c.block.id):
		c.fail(ProtocolError, "a field block is not continued")
	case c.block.id == 0 && h.kind == frameContinuation:
		c.fail(ProtocolError, "CONTINUATION of nothing")
	}
	return c.err == nil
}

// Amid numbers what the peer has begun to send and has not ended: the preface with its SETTINGS, a frame, or a field block
// in all of its frames; what DATA carries is their stream's. 0: nothing. For who gives it no more than some time.
func (c *Conn) Amid() uint64 {
	if c.in == nil && c.block.id == 0 && c.greeted {
		return 0
	}
	return c.units + 1
}

// frame takes a whole frame.
func (c *Conn) frame(h frameHeader, p []byte) {
	c.handle(h, p)
	if c.block.id == 0 {
		c.units++
	}
}

func (c *Conn) handle(h frameHeader, p []byte) {
	onStream := h.kind == frameHeaders || h.kind == framePriority || h.kind == frameReset || h.kind == frameContinuation
	onConn := h.kind == frameSettings || h.kind == framePing || h.kind == frameGoAway
	if onStream && h.id == 0 || onConn && h.id != 0 {
		c.fail(ProtocolError, fmt.Sprintf("a frame of type %d on stream %d", h.kind, h.id))
		return
	}
	switch h.kind {
	case frameHeaders:
		c.receiveHeaders(h, p)
	case frameContinuation:
		c.spend(costFrame)
		c.receiveBlock(p, h.has(flagEndHeaders))
	case framePriority:
		c.receivePriority(h, p)
	case frameReset:
		c.receiveReset(h, p)
	case frameSettings:
		c.receiveSettings(h, p)
	case framePushPromise:
		c.fail(ProtocolError, "PUSH_PROMISE, which is not enabled")
	case framePing:
		c.receivePing(h, p)
	case frameGoAway:
		c.receiveGoAway(p)
	case frameWindowUpdate:
		c.receiveWindowUpdate(h, p)
	default:
		c.spend(costFrame)
	}
}

// idle reports whether neither side has ever opened the stream.
func (c *Conn) idle(id uint32) bool {
	if c.server {
		return id%2 == 0 || id > c.last
	}
	return id%2 == 0 || id >= c.next
}

// beginData takes the header of a DATA frame.
func (c *Conn) beginData(h frameHeader) {
	if h.id == 0 || c.idle(h.id) {
		c.fail(ProtocolError, fmt.Sprintf("DATA on stream %d, which nobody opened", h.id))
		return
	}
	if c.recv -= int64(h.length); c.recv < 0 {
		c.fail(FlowControlError, "more DATA than the connection's window has room for")
		return
	}
	c.data = dataFrame{under: true, id: h.id, left: h.length, padded: h.has(flagPadded), end: h.has(flagEndStream)}
	if c.data.padded && h.length == 0 {
		c.fail(FrameSizeError, "padded DATA without a length of its padding")
		return
	}
	c.data.stream = c.dataStream(h)
	if !c.data.padded {
		c.tellData(nil)
	}
}

// dataStream finds the stream of a DATA frame; nil where its data is not wanted.
func (c *Conn) dataStream(h frameHeader) *Stream {
	s := c.streams[h.id]
	switch {
	case s == nil:
		c.dataOnClosed(h.id)
	case s.remoteEnd:
		c.streamError(s, StreamClosed, "DATA behind END_STREAM")
	case !s.gotHead:
		c.streamError(s, ProtocolError, "DATA before a head")
	case s.bodyless && h.length > 0:
		c.streamError(s, ProtocolError, "DATA of an answer that has no body")
	case int64(h.length) > s.recv:
		c.streamError(s, FlowControlError, "more DATA than the stream's window has room for")
	default:
		s.recv -= int64(h.length)
		if h.length == 0 && !h.has(flagEndStream) {
			c.spend(costFrame)
		}
		return s
	}
	return nil
}

// dataOnClosed: what was under way when this side reset a stream is let pass.
func (c *Conn) dataOnClosed(id uint32) {
	switch c.howEnded(id) {
	case endedByBoth, resetByPeer:
		c.spend(costReset)
		c.sendReset(id, StreamClosed)
	default:
		c.spend(costFrame)
	}
}

// receiveData goes on with a DATA frame. Padding counts as consumed when it is seen.
func (c *Conn) receiveData(p []byte) []byte {
	d := &c.data
	if d.padded {
		d.padded, d.padding = false, int(p[0])
		d.left -= 1 + d.padding
		if d.left < 0 {
			c.fail(ProtocolError, "DATA with more padding than it is long")
			return nil
		}
		c.consumePadding(1 + d.padding)
		if d.left == 0 && !d.end && d.stream != nil {
			c.spend(costFrame)
		}
		c.tellData(nil)
		return p[1:]
	}
	if d.left > 0 {
		n := min(d.left, len(p))
		d.left -= n
		c.tellData(p[:n])
		return p[n:]
	}
	n := min(d.padding, len(p))
	d.padding -= n
	d.under = d.padding > 0
	return p[n:]
}

func (c *Conn) consumePadding(n int) {
	if s := c.data.stream; s != nil {
		s.unconsumed += int64(n)
		s.Consumed(n)
	} else {
		c.credit(int64(n))
	}
}

// tellData tells a piece of the data; an empty one only where it ends the stream.
func (c *Conn) tellData(p []byte) {
	d := &c.data
	if c.err != nil || len(p) == 0 && d.left > 0 {
		return
	}
	s, end := d.stream, d.end && d.left == 0
	d.under = d.left > 0 || d.padding > 0
	if s == nil {
		c.credit(int64(len(p)))
		return
	}
	if len(p) == 0 && !end {
		return
	}
	s.unconsumed += int64(len(p))
	c.lend(int64(len(p)))
	s.got += int64(len(p))
	if s.length >= 0 && (s.got > s.length || end && s.got < s.length) {
		c.streamError(s, ProtocolError, fmt.Sprintf("content-length is %d, but %d bytes came", s.length, s.got))
		return
	}
	if end {
		s.endRemote()
	}
	c.events.Data(s, p, end)
}
