package proxy_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// TestEdgeCompressCut: an answer that the endpoint does not end never looks whole, and what came of it can be read.
func TestEdgeCompressCut(t *testing.T) {
	body := predictions(400_000)
	for _, encoding := range encodings {
		for framing, render := range framings {
			if framing == "to the end" {
				continue // its end is the end of the connection
			}
			answer := render(jsonHead, body)
			for _, at := range []int{strings.Index(answer, "\r\n\r\n") + 4, 301, 10_000, 30_001, 200_001, len(answer) - 1} {
				ep := newEndpoint(t, func(s *served) {
					if s.request() != nil {
						s.send(answer[:at])
						time.Sleep(20 * time.Millisecond)
						if at%2 == 0 {
							backendtest.Reset(s.Conn)
						}
					}
				})
				logs := &lockedBuffer{}
				r := compressed(t, setup{endpoints: []string{ep.addr}, log: logs})
				cl := r.dial(t)
				cl.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + encoding + "\r\n\r\n")
				m, err := cl.readHead()
				if err != nil {
					t.Fatalf("%s, %s, cut at %d: no head: %v", encoding, framing, at, err)
				}
				err = cl.readResponseBody(m, "GET", nil)
				if m.status() != 200 || m.get("Content-Encoding") != encoding || err != io.ErrUnexpectedEOF {
					t.Errorf("%s, %s, cut at %d: %q %v, the body ends with %v", encoding, framing, at, m.start, m.fields, err)
				}
				plain, err := decode(t, encoding, m.body)
				if err == nil && len(m.body) > 0 || !bytes.HasPrefix(body, plain) {
					t.Errorf("%s, %s, cut at %d: %d bytes, %v", encoding, framing, at, len(plain), err)
				}
				if at%2 == 1 && len(plain) < at-at/10-1000 {
					t.Errorf("%s, %s, cut at %d: only %d bytes came", encoding, framing, at, len(plain))
				}
				eventually(t, "the log", func() bool { return strings.Contains(logs.String(), `"error":"bad_gateway"`) })
			}
		}
	}
}

// TestEdgeCompressCutSmall: also of one that would have left in one write the client learns that it began.
func TestEdgeCompressCutSmall(t *testing.T) {
	answer := framings["sized"](jsonHead, predictions(2000))
	for _, stalls := range []bool{false, true} {
		ep := newEndpoint(t, func(s *served) {
			if s.request() != nil {
				s.send(answer[:1000])
				if stalls {
					s.head()
				}
			}
		})
		r := compressed(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {idle: 300ms}"})
		cl := r.dial(t)
		cl.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
		m, err := cl.readHead()
		if err != nil || m.status() != 200 {
			t.Fatalf("stalls %v: %v", stalls, err)
		}
		if err = cl.readResponseBody(m, "GET", nil); err != io.ErrUnexpectedEOF {
			t.Errorf("stalls %v: the body ends with %v", stalls, err)
		}
		ep.noneOpen(t)
	}
}

// TestEdgeCompressMalformed: chunks that are none end the answer.
func TestEdgeCompressMalformed(t *testing.T) {
	for _, body := range []string{"zz\r\n", "5\r\nhelloXX", "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", "fffffffffffffffff\r\n"} {
		for _, first := range []string{"", "64\r\n" + strings.Repeat("x", 100) + "\r\n"} {
			ep := newEndpoint(t, func(s *served) {
				if s.request() != nil {
					s.send(jsonHead + "Transfer-Encoding: chunked\r\n\r\n" + first)
					time.Sleep(10 * time.Millisecond)
					s.send(body)
					s.head()
				}
			})
			r := compressed(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			cl.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\n\r\n")
			m, err := cl.readHead()
			if err == nil {
				err = cl.readResponseBody(m, "GET", nil)
			}
			if err != io.ErrUnexpectedEOF {
				t.Errorf("%q behind %q: %v", body, first, err)
			}
			ep.noneOpen(t)
		}
	}
}
