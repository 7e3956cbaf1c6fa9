package compare

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

// h2client is the least that a client of HTTP/2 needs who sends requests and then only reads. It is for
// one goroutine.
type h2client struct {
	net.Conn
	enc     *hpack.Encoder
	encoded bytes.Buffer
	dec     *hpack.Decoder
	status  string // of the head that was decoded last
	out     []byte
	buf     []byte
	have    int
	next    uint32
}

// h2Buffer is more than the longest frame.
const h2Buffer = 32 << 10

// newH2client begins a connection; what is to be sent goes with the first flush.
func newH2client(c net.Conn) *h2client {
	h := &h2client{Conn: c, buf: make([]byte, h2Buffer), next: 1}
	h.enc = hpack.NewEncoder(&h.encoded)
	h.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			h.status = f.Value
		}
	})
	h.out = append(h.out, http2.ClientPreface...)
	h.out = frame.AppendSettings(h.out, http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: frame.MaxWindow})
	h.out = frame.AppendNumber(h.out, http2.FrameWindowUpdate, 0, frame.MaxWindow-frame.InitialWindow)
	return h
}

// post appends a request; flush sends it.
func (h *h2client) post(w *Workload, authority, path string, body []byte) {
	h.encoded.Reset()
	scheme := "http"
	if w.TLS {
		scheme = "https"
	}
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme},
		{Name: ":authority", Value: authority}, {Name: ":path", Value: path},
	}
	if w.GRPC {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"})
	} else {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(body))})
	}
	for _, f := range fields {
		_ = h.enc.WriteField(f) // a bytes.Buffer does not fail
	}
	h.out = frame.AppendHeaders(h.out, h.next, h.encoded.Bytes(), false)
	h.out = frame.Append(h.out, http2.FrameData, http2.FlagDataEndStream, h.next, body)
	h.next += 2
}

func (h *h2client) flush() error {
	_, err := h.Write(h.out)
	h.out = h.out[:0]
	return err
}

// read reads once and calls take for each frame of a stream. A head must have the status 200.
func (h *h2client) read(take func(frame.Frame) error) error {
	n, err := h.Conn.Read(h.buf[h.have:])
	h.have += n
	rest := h.buf[:h.have]
	for {
		f, n, err := frame.Next(rest)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := h.frame(f, take); err != nil {
			return err
		}
		rest = rest[n:]
	}
	h.have = copy(h.buf, rest)
	if len(h.out) > 0 && err == nil {
		err = h.flush()
	}
	return err
}

func (h *h2client) frame(f frame.Frame, take func(frame.Frame) error) error {
	switch f.Type {
	case http2.FrameHeaders:
		content, err := f.Content()
		if err != nil {
			return err
		}
		if _, err := h.dec.Write(content); err != nil {
			return err
		}
		if err := h.dec.Close(); err != nil {
			return err
		}
		if h.status != "200" {
			return fmt.Errorf("status %q", h.status)
		}
		return take(f)
	case http2.FrameData, http2.FramePing:
		if f.Type == http2.FramePing && f.Flags&http2.FlagPingAck == 0 {
			h.out = frame.Append(h.out, http2.FramePing, http2.FlagPingAck, 0, f.Payload)
			return nil
		}
		return take(f)
	case http2.FrameSettings:
		if f.Flags&http2.FlagSettingsAck == 0 {
			h.out = frame.Append(h.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
		}
	case http2.FrameRSTStream, http2.FrameGoAway, http2.FrameContinuation:
		return fmt.Errorf("%v, which is not expected", f.Type)
	}
	return nil
}

var errDone = errors.New("done")

// askOverHTTP2 makes a request and reads the answer, and then all that the peer has to say before it rests.
func askOverHTTP2(c net.Conn, w *Workload, authority string) error {
	h := newH2client(c)
	h.post(w, authority, "/predict", []byte("idle"))
	if err := h.flush(); err != nil {
		return err
	}
	for {
		err := h.read(func(f frame.Frame) error {
			switch {
			case f.Type == http2.FramePing:
				return errDone
			case f.Ends():
				h.out = frame.Append(h.out, http2.FramePing, 0, 0, make([]byte, 8))
			}
			return nil
		})
		if err != nil {
			if errors.Is(err, errDone) {
				return nil
			}
			return err
		}
	}
}
