package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rig is a Conn whose peer is the frame layer of golang.org/x/net/http2, which knows nothing of this package.
type rig struct {
	*http2.Framer
	t       *testing.T
	c       *Conn
	log     []string
	streams map[uint32]*Stream
	on      func(*Stream, string) // called with each event but Data's
	consume bool                  // data at once

	in   bytes.Buffer // written by the Framer, not received yet
	out  bytes.Buffer // sent, not read by the Framer yet
	enc  *hpack.Encoder
	list bytes.Buffer
}

func newRig(t *testing.T, server bool, s Settings) *rig {
	r := &rig{t: t, streams: map[uint32]*Stream{}, consume: true}
	r.Framer = http2.NewFramer(&r.in, &r.out)
	r.AllowIllegalWrites = true
	r.AllowIllegalReads = false
	r.enc = hpack.NewEncoder(&r.list)
	if server {
		r.c = NewServer(s, r)
		r.in.WriteString(Preface)
	} else {
		r.c = NewClient(s, r)
		if got := string(r.c.Pending()[:len(Preface)]); got != Preface {
			t.Fatalf("a client begins with %q", got)
		}
		r.c.Sent(len(Preface))
	}
	return r
}

// greet exchanges SETTINGS.
func (r *rig) greet() *rig {
	r.t.Helper()
	r.must(r.WriteSettings(), r.WriteSettingsAck())
	r.receive()
	r.frames()
	return r
}

func (r *rig) must(errs ...error) {
	r.t.Helper()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

// receive gives the Conn what the Framer wrote.
func (r *rig) receive() error {
	err := r.c.Receive(r.in.Bytes())
	r.in.Reset()
	return err
}

// frames are what is pending, as the Framer reads it.
func (r *rig) frames() (all []string) {
	r.t.Helper()
	r.send()
	for {
		f, err := r.ReadFrame()
		if err == io.EOF {
			return all
		}
		if err != nil {
			r.t.Fatalf("the peer cannot read what was sent: %v", err)
		}
		all = append(all, frameText(f))
	}
}

func (r *rig) send() {
	for len(r.c.Pending()) > 0 {
		p := r.c.Pending()
		r.out.Write(p)
		r.c.Sent(len(p))
	}
}

func frameText(f http2.Frame) string {
	h := f.Header()
	text := fmt.Sprintf("%v %d", h.Type, h.StreamID)
	switch f := f.(type) {
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST %d %v", h.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, f.ErrCode)
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("%s %d", text, f.Increment)
	case *http2.DataFrame:
		text = fmt.Sprintf("%s %d", text, len(f.Data()))
	}
	if h.Flags&flagEndStream != 0 {
		text += " end"
	}
	return text
}

// block encodes fields given as "name: value".
func (r *rig) block(fields ...string) []byte {
	r.list.Reset()
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.must(r.enc.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	return bytes.Clone(r.list.Bytes())
}

var getFields = []string{":method: GET", ":scheme: http", ":authority: h", ":path: /"}

// head writes HEADERS, of a GET where nothing else is given.
func (r *rig) head(id uint32, end bool, fields ...string) {
	if len(fields) == 0 {
		fields = getFields
	}
	r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(fields...), EndStream: end, EndHeaders: true}))
}

func (r *rig) Headers(s *Stream, fields []Field, end bool) {
	r.streams[s.ID] = s
	text := fmt.Sprintf("headers %d", s.ID)
	for _, f := range fields {
		text += fmt.Sprintf(" %s=%s", f.Name, f.Value)
	}
	if end {
		text += " end"
	}
	r.add(s, text)
}

func (r *rig) Data(s *Stream, p []byte, end bool) {
	text := fmt.Sprintf("data %d ", s.ID)
	if n := len(r.log); n > 0 && strings.HasPrefix(r.log[n-1], text) {
		r.log[n-1] += string(p)
	} else {
		r.log = append(r.log, text+string(p))
	}
	if r.consume {
		s.Consumed(len(p))
	}
	if end {
		r.add(s, fmt.Sprintf("end %d", s.ID))
	}
}

func (r *rig) Closed(s *Stream, code Code, unprocessed bool) {
	text := fmt.Sprintf("closed %d %v", s.ID, code)
	if unprocessed {
		text += " unprocessed"
	}
	r.add(s, text)
}

func (r *rig) Writable(s *Stream) { r.add(s, fmt.Sprintf("writable %d", s.ID)) }

func (r *rig) add(s *Stream, text string) {
	r.log = append(r.log, text)
	if r.on != nil {
		r.on(s, text)
	}
}

// answer ends a stream of a server's with an empty answer.
func answer(s *Stream) { s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, true) }
