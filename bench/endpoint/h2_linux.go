package endpoint

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

// h2Replenish is how much may come before the connection's window is opened again.
const h2Replenish = 1 << 28

// h2 is the state of a connection of HTTP/2.
type h2 struct {
	dec     *hpack.Decoder
	request request // whose fields are decoded
	grpc    bool
	bad     error
	block   []byte // of HEADERS that CONTINUATION follows; nil for none
	blockOf frame.Frame
	streams map[uint32]*stream
	window  int64 // bytes of DATA that may be sent
	initial int64 // the same of a new stream
	unseen  uint32

	enc     *hpack.Encoder
	encoded bytes.Buffer
	tables  int // how often the table of enc changed
	blocks  map[answerKind]*encodedBlock
}

// stream is a request whose end, or the end of whose answer, is still to come.
type stream struct {
	id      uint32
	grpc    bool
	request request
	window  int64
	rest    []byte // of the answer's DATA
	events  *events
	gone    bool
}

// answerKind is a kind of block: a length of the body, or one of those below.
type answerKind int

const (
	grpcHead     answerKind = -1
	grpcTrailers answerKind = -2
	eventsHead   answerKind = -3
)

// encodedBlock are the fields of a kind of answer. They need not be encoded again while no table changes.
type encodedBlock struct {
	b      []byte
	tables int
	stable bool
}

// detect looks which protocol a new connection speaks and returns what is left of data; more says that it
// is too little to know.
func (c *conn) detect(data []byte) (rest []byte, more bool) {
	if n := min(len(data), len(http2.ClientPreface)); string(data[:n]) != http2.ClientPreface[:n] {
		c.known = true
		return data, false
	} else if n < len(http2.ClientPreface) {
		return data, true
	}
	h := &h2{streams: map[uint32]*stream{}, window: frame.InitialWindow, initial: frame.InitialWindow, blocks: map[answerKind]*encodedBlock{}}
	h.enc = hpack.NewEncoder(&h.encoded)
	h.dec = hpack.NewDecoder(4096, h.field)
	c.known, c.h2 = true, h
	c.room()
	c.out = frame.AppendSettings(c.out, http2.Setting{ID: http2.SettingInitialWindowSize, Val: frame.MaxWindow},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 10_000})
	c.out = frame.AppendNumber(c.out, http2.FrameWindowUpdate, 0, frame.MaxWindow-frame.InitialWindow)
	return data[len(http2.ClientPreface):], false
}

// room makes out a place to append to.
func (c *conn) room() {
	if len(c.out) == 0 {
		c.out = c.buf[:0]
	}
}

// append appends to what is sent.
func (c *conn) append(s string) {
	c.room()
	c.out = append(c.out, s...)
}

// field takes what matters of one field.
func (h *h2) field(f hpack.HeaderField) {
	switch f.Name {
	case ":path":
		if err := h.request.target([]byte(f.Value)); err != nil {
			h.bad = err
		}
	case "content-type":
		h.grpc = strings.HasPrefix(f.Value, "application/grpc")
	}
}

// frames takes the frames that are complete and returns the rest.
func (l *loop) frames(c *conn, data []byte) (rest []byte, err error) {
	c.room()
	for {
		f, n, err := frame.Next(data)
		if err == nil && n > 0 {
			err = l.frame(c, f)
		}
		if err != nil {
			c.out = frame.Append(c.out, http2.FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(make([]byte, 4), uint32(http2.ErrCodeProtocol)))
			return nil, err
		}
		if n == 0 {
			c.buf = c.out[:0] // it may have grown
			return data, nil
		}
		data = data[n:]
	}
}

func (l *loop) frame(c *conn, f frame.Frame) error {
	h := c.h2
	if (f.Type == http2.FrameContinuation) != (h.block != nil) {
		return frame.ErrFrame
	}
	switch f.Type {
	case http2.FrameHeaders:
		content, err := f.Content()
		if err != nil {
			return err
		}
		if f.Flags&http2.FlagHeadersEndHeaders == 0 {
			h.blockOf, h.block = f, append(make([]byte, 0, 2*len(content)), content...)
			return nil
		}
		return l.headers(c, f, content)
	case http2.FrameContinuation:
		if h.block = append(h.block, f.Payload...); len(h.block) > maxHead {
			return errHead
		}
		if f.Flags&http2.FlagContinuationEndHeaders == 0 {
			return nil
		}
		block := h.block
		h.block = nil
		return l.headers(c, h.blockOf, block)
	case http2.FrameData:
		if h.unseen += uint32(len(f.Payload)); h.unseen >= h2Replenish {
			c.out = frame.AppendNumber(c.out, http2.FrameWindowUpdate, 0, h.unseen)
			h.unseen = 0
		}
		if s := h.streams[f.Stream]; s != nil && f.Ends() {
			l.answer(c, s)
		}
	case http2.FrameRSTStream:
		if s := h.streams[f.Stream]; s != nil {
			s.gone = true
			delete(h.streams, f.Stream)
		}
	case http2.FrameSettings:
		return h.settings(c, f)
	case http2.FramePing:
		if f.Flags&http2.FlagPingAck == 0 {
			c.out = frame.Append(c.out, http2.FramePing, http2.FlagPingAck, 0, f.Payload)
		}
	case http2.FrameWindowUpdate:
		return h.windowUpdate(c, f)
	}
	return nil
}

// headers takes the head of a request, or trailers.
func (l *loop) headers(c *conn, f frame.Frame, block []byte) error {
	h := c.h2
	h.request, h.grpc, h.bad = request{size: -1}, false, nil
	if _, err := h.dec.Write(block); err != nil {
		return err
	}
	if err := h.dec.Close(); err != nil {
		return err
	}
	if h.bad != nil {
		return h.bad
	}
	s := h.streams[f.Stream]
	if s == nil {
		s = &stream{id: f.Stream, grpc: h.grpc, request: h.request, window: h.initial}
		h.streams[s.id] = s
	}
	if f.Ends() {
		l.answer(c, s)
	}
	return nil
}

func (h *h2) settings(c *conn, f frame.Frame) error {
	if f.Flags&http2.FlagSettingsAck != 0 {
		return nil
	}
	c.out = frame.Append(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	return f.Settings(func(id http2.SettingID, value uint32) error {
		switch id {
		case http2.SettingHeaderTableSize:
			h.enc.SetMaxDynamicTableSize(min(value, 4096))
			h.tables++
		case http2.SettingInitialWindowSize:
			for _, s := range h.streams {
				s.window += int64(value) - h.initial
				h.send(c, s)
			}
			h.initial = int64(value)
		}
		return nil
	})
}

func (h *h2) windowUpdate(c *conn, f frame.Frame) error {
	n, err := f.Uint32()
	if err != nil {
		return err
	}
	n &= frame.MaxWindow
	if s := h.streams[f.Stream]; s != nil {
		s.window += int64(n)
		h.send(c, s)
	} else if f.Stream == 0 {
		h.window += int64(n)
		for _, s := range h.streams {
			h.send(c, s)
		}
	}
	return nil
}

// answer answers a request that is complete.
func (l *loop) answer(c *conn, s *stream) {
	h, r := c.h2, &s.request
	switch {
	case r.every > 0 && s.grpc:
		c.out = frame.AppendHeaders(c.out, s.id, h.fields(grpcHead), false)
		s.events = l.clock.begin(c, s, r)
		return
	case r.every > 0:
		c.out = frame.AppendHeaders(c.out, s.id, h.fields(eventsHead), false)
		s.events = l.clock.begin(c, s, r)
		return
	case s.grpc:
		c.out = frame.AppendHeaders(c.out, s.id, h.fields(grpcHead), false)
		s.rest = l.answers.message(r.size)
	default:
		s.rest = l.answers.body(r.size)
		c.out = frame.AppendHeaders(c.out, s.id, h.fields(answerKind(len(s.rest))), len(s.rest) == 0)
		if len(s.rest) == 0 {
			delete(h.streams, s.id)
			return
		}
	}
	h.send(c, s)
}

// send sends what the windows allow of an answer, and ends it.
func (h *h2) send(c *conn, s *stream) {
	if len(s.rest) == 0 {
		return
	}
	for len(s.rest) > 0 {
		n := min(int64(len(s.rest)), s.window, h.window, frame.MaxPayload)
		if n <= 0 {
			return
		}
		flags := http2.Flags(0)
		if int(n) == len(s.rest) && !s.grpc {
			flags = http2.FlagDataEndStream
		}
		c.out = frame.Append(c.out, http2.FrameData, flags, s.id, s.rest[:n])
		s.rest = s.rest[n:]
		s.window -= n
		h.window -= n
	}
	if s.grpc {
		c.out = frame.AppendHeaders(c.out, s.id, h.fields(grpcTrailers), true)
	}
	delete(h.streams, s.id)
}

// event sends one event; false when there is no window for it.
func (s *stream) event(c *conn, stamp, filler []byte) bool {
	prefix, suffix := []byte("data: "), []byte("\n\n")
	if s.grpc {
		prefix, suffix = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(stamp)+len(filler))), nil
	}
	n := len(prefix) + len(stamp) + len(filler) + len(suffix)
	if s.window < int64(n) || c.h2.window < int64(n) || n > frame.MaxPayload {
		return false
	}
	s.window -= int64(n)
	c.h2.window -= int64(n)
	c.room()
	c.out = frame.AppendHeader(c.out, n, http2.FrameData, 0, s.id)
	for _, part := range [][]byte{prefix, stamp, filler, suffix} {
		c.out = append(c.out, part...)
	}
	c.buf = c.out[:0]
	return true
}

// fields returns the block of a kind of answer.
func (h *h2) fields(kind answerKind) []byte {
	e := h.blocks[kind]
	if e == nil {
		e = &encodedBlock{}
		h.blocks[kind] = e
	}
	if e.stable && e.tables == h.tables {
		return e.b
	}
	h.encoded.Reset()
	write := func(name, value string) {
		_ = h.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // a bytes.Buffer does not fail
	}
	switch kind {
	case grpcHead:
		write(":status", "200")
		write("content-type", "application/grpc")
	case grpcTrailers:
		write("grpc-status", "0")
	case eventsHead:
		write(":status", "200")
		write("content-type", "text/event-stream")
		write("cache-control", "no-cache")
	default:
		write(":status", "200")
		write("content-type", "application/octet-stream")
		write("content-length", strconv.Itoa(int(kind)))
	}
	e.b = append(e.b[:0], h.encoded.Bytes()...)
	if e.stable = frame.Stable(e.b); !e.stable {
		h.tables++
	}
	e.tables = h.tables
	return e.b
}
