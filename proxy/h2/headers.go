package h2

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// fieldBlock is the field block that is coming in.
type fieldBlock struct {
	id       uint32 // its stream; 0 while there is none
	end      bool   // END_STREAM
	selfish  bool   // the stream depends on itself
	tooLarge bool
	bytes    int // compressed
	size     int // of the list
	fields   *fieldList
}

// fieldList is what a field block is decoded to. There is one only while there is a block.
type fieldList struct{ all []Field }

// maxFields is the largest list that is kept for others.
const maxFields = 256

// fieldLists are those that no Conn uses at present.
var fieldLists = sync.Pool{New: func() any { return &fieldList{make([]Field, 0, 32)} }}

// A field block may be so many times as large as a head is allowed to be before it ends the connection: within that,
// a client gets an answer.
const (
	maxBlock  = 4
	maxString = 2
)

func (c *Conn) receiveHeaders(h frameHeader, p []byte) {
	padding, selfish := 0, false
	if h.has(flagPadded) {
		if len(p) == 0 {
			c.fail(FrameSizeError, "padded HEADERS without a length of their padding")
			return
		}
		padding, p = int(p[0]), p[1:]
	}
	if h.has(flagPriority) {
		if len(p) < 5 {
			c.fail(FrameSizeError, "HEADERS too short for their priority")
			return
		}
		selfish = binary.BigEndian.Uint32(p)&maxStreamID == h.id
		p = p[5:]
	}
	if padding > len(p) {
		c.fail(ProtocolError, "HEADERS with more padding than they are long")
		return
	}
	c.block.begin(h.id, h.has(flagEndStream), selfish)
	c.receiveBlock(p[:len(p)-padding], h.has(flagEndHeaders))
}

func (b *fieldBlock) begin(id uint32, end, selfish bool) {
	*b = fieldBlock{id: id, end: end, selfish: selfish, fields: fieldLists.Get().(*fieldList)}
}

// free gives the list back.
func (b *fieldBlock) free() {
	if f := b.fields; f != nil && cap(f.all) <= maxFields {
		clear(f.all)
		f.all = f.all[:0]
		fieldLists.Put(f)
	}
	b.fields = nil
}

// receiveBlock decodes a part of a field block, also where nobody wants it: the table has to stay the peer's.
func (c *Conn) receiveBlock(p []byte, last bool) {
	b := &c.block
	if b.bytes += len(p); b.bytes > maxBlock*c.local.MaxHeader {
		c.fail(EnhanceYourCalm, fmt.Sprintf("a field block of more than %d bytes", maxBlock*c.local.MaxHeader))
	}
	if c.err != nil {
		return
	}
	if c.dec == nil {
		c.dec = hpack.NewDecoder(defaultTableSize, c.emit)
		c.dec.SetMaxStringLength(maxString * c.local.MaxHeader)
	}
	_, err := c.dec.Write(p)
	if err == nil && last {
		err = c.dec.Close()
	}
	switch {
	case err == hpack.ErrStringLength:
		c.fail(EnhanceYourCalm, fmt.Sprintf("a field of more than %d bytes", maxString*c.local.MaxHeader))
	case err != nil:
		c.fail(CompressionError, err.Error())
	case last:
		c.dec.SetEmitEnabled(true)
		c.headersComplete()
		b.free()
	}
}

// emit takes a field of the decoder's.
func (c *Conn) emit(f hpack.HeaderField) {
	b := &c.block
	if b.size += len(f.Name) + len(f.Value) + entryOverhead; b.size > c.local.MaxHeader {
		b.tooLarge = true
		c.dec.SetEmitEnabled(false)
		return
	}
	b.fields.all = append(b.fields.all, f)
}

func (c *Conn) headersComplete() {
	b := &c.block
	id := b.id
	b.id = 0
	s := c.streams[id]
	switch {
	case s == nil && c.server && id%2 == 1 && id > c.last:
		s = c.accept(id)
	case s == nil:
		c.headersOnClosed(id)
	}
	if s == nil || c.err != nil {
		return
	}
	switch {
	case b.selfish:
		c.streamError(s, ProtocolError, "a stream that depends on itself")
	case s.remoteEnd:
		c.streamError(s, StreamClosed, "HEADERS behind END_STREAM")
	case s.gotHead:
		c.trailers(s)
	default:
		c.head(s)
	}
}

// accept opens a stream of the client's; nil where it is refused.
func (c *Conn) accept(id uint32) *Stream {
	if id > c.last+2 {
		c.skipped = [2]uint32{c.last, id}
	}
	c.last = id
	if c.toldLast { // The client knows that it is not served.
		c.spend(costFrame)
		return nil
	}
	c.served = id
	if c.open >= int(c.local.MaxStreams) || c.unsent() > maxUnread {
		c.refused++
		c.sendReset(id, RefusedStream)
		c.spend(costRefused)
		return nil
	}
	return c.newStream(id)
}

// headersOnClosed judges HEADERS of a stream that is not open.
func (c *Conn) headersOnClosed(id uint32) {
	how := c.howEnded(id)
	switch {
	case c.idle(id):
		c.fail(ProtocolError, fmt.Sprintf("HEADERS on stream %d, which this side should have opened", id))
	case how == endedByBoth:
		c.fail(StreamClosed, fmt.Sprintf("HEADERS on stream %d, which is closed", id))
	case how == resetByPeer:
		c.spend(costReset)
		c.sendReset(id, StreamClosed)
	case c.skipped[0] < id && id < c.skipped[1]:
		c.fail(ProtocolError, fmt.Sprintf("HEADERS on stream %d behind those on a later one", id))
	default: // They were under way when this side reset the stream.
		c.spend(costFrame)
	}
}

// head takes a request's head, or an answer's, also an interim one.
func (c *Conn) head(s *Stream) {
	b := &c.block
	if b.tooLarge && !c.server {
		c.streamError(s, ProtocolError, fmt.Sprintf("a head of more than %d bytes", c.local.MaxHeader))
		return
	}
	s.TooLarge, s.length = b.tooLarge, -1
	for i := range b.fields.all {
		f := &b.fields.all[i]
		switch f.Name {
		case "content-length":
			if s.length = parseLength(f.Value); s.length < 0 {
				c.streamError(s, ProtocolError, fmt.Sprintf("content-length is no number: %q", f.Value))
				return
			}
		case ":status":
			if !c.server {
				s.status = statusOf(f.Value)
			}
		}
	}
	if !c.server && s.status < 200 {
		c.interim(s)
		return
	}
	s.gotHead = true
	s.bodyless = !c.server && (s.headRequest || s.status == 204 || s.status == 304)
	if s.bodyless {
		s.length = -1
	}
	if b.end && s.length > 0 {
		c.streamError(s, ProtocolError, fmt.Sprintf("content-length is %d, but no bytes come", s.length))
		return
	}
	if b.end {
		s.endRemote()
	}
	c.events.Headers(s, b.fields.all, b.end)
}

// interim takes an interim answer, or one without a status.
func (c *Conn) interim(s *Stream) {
	switch {
	case s.status == 0:
		c.streamError(s, ProtocolError, "an answer without a valid :status")
	case c.block.end:
		c.streamError(s, ProtocolError, "an interim answer that ends the stream")
	default:
		c.spend(costFrame)
		s.length, s.status = -1, 0
		c.events.Headers(s, c.block.fields.all, false)
	}
}

func (c *Conn) trailers(s *Stream) {
	b := &c.block
	switch {
	case !b.end:
		c.streamError(s, ProtocolError, "HEADERS behind a head that do not end the stream")
	case b.tooLarge:
		c.streamError(s, ProtocolError, fmt.Sprintf("trailers of more than %d bytes", c.local.MaxHeader))
	case s.length >= 0 && s.got < s.length:
		c.streamError(s, ProtocolError, fmt.Sprintf("content-length is %d, but %d bytes came", s.length, s.got))
	default:
		s.endRemote()
		c.events.Headers(s, b.fields.all, true)
	}
}
