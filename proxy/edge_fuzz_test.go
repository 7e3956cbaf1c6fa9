package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// FuzzEdgeRequest sends anything to weir. Whatever it makes of it, the endpoint sees well-formed
// requests only (its parser fails the test otherwise), each one by a head that net/http reads
// the same way, and weir goes on.
func FuzzEdgeRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\n\nGET /b HTTP/1.0\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		chunkedPost("/", "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"),
		"GET http://h:80/ HTTP/1.1\r\nHost: x\r\nConnection: close, x-a\r\nX-A: b\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nTE: trailers\r\nUpgrade: h2c\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nX-A: b\rc\x00\r\nContent-Length : 3\r\n\r\nabc",
	} {
		f.Add([]byte(s))
	}
	ep := newEndpoint(f, func(s *served) { // one request a connection, so that attempts can be counted
		if m := s.request(); m != nil {
			s.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n" + "ok"[bodyless(m):])
		}
	})
	r := start(f, setup{endpoints: []string{ep.addr}})
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := r.dial(t)
		c.send(string(sent))
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		received, err := io.ReadAll(c.br)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			t.Errorf("after %q and the end of the connection weir keeps its side open", sent)
		}
		c.Close()
		if len(received) > 0 && !bytes.HasPrefix(received, []byte("HTTP/1.1 ")) {
			t.Errorf("%q was answered with %q", sent, received)
		}
		settle(t, r, ep)
		if got := len(ep.got()); got > readable(sent) {
			t.Errorf("%q became %d requests at the endpoint, net/http sees %d in it", sent, got, readable(sent))
		}
		after := r.dial(t)
		if m := after.get("/after"); m.status() != 200 {
			t.Errorf("after %q: %q", sent, m.start)
		}
		after.Close()
		settle(t, r, ep)
		ep.forget(t)
	})
}

// settle waits until the endpoint has seen all of every attempt that weir has made.
func settle(t *testing.T, r *running, ep *endpoint) {
	eventually(t, "the end of all attempts", func() bool {
		s, _ := r.Pool("blue")
		accepted, open, _ := ep.counts()
		e := s.Endpoints[0]
		return open == 0 && e.Inflight == 0 && e.Requests == uint64(accepted)
	})
}

// readable counts the requests that net/http finds in b. It is at most as strict as weir.
func readable(b []byte) (n int) {
	br := bufio.NewReader(bytes.NewReader(bytes.TrimLeft(b, "\r\n")))
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return n
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return n
		}
		n++
	}
}

// forget empties the endpoint's memory, so that a long run stays small, and reports its faults now.
func (ep *endpoint) forget(t *testing.T) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for _, err := range ep.faults {
		t.Errorf("weir sent to the endpoint: %v", err)
	}
	ep.requests, ep.faults = nil, nil
}

// FuzzEdgeResponse has the endpoint answer with anything and close. The client sees a well-formed
// answer or a cut one; a whole one only where net/http reads the same body in what the endpoint sent.
func FuzzEdgeResponse(f *testing.F) {
	for _, s := range []string{
		okResponse,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nhello",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 304 Not Modified\nContent-Length: 5\nConnection: close, x\n\n",
		"HTTP/1.1 500 \r\nContent-Length: 10\r\nX-Weir-Variant: a\r\nX-A : b\r\n\r\nhello",
		"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	var response atomic.Pointer[[]byte]
	ep := newEndpoint(f, func(s *served) {
		if s.request() != nil {
			s.send(string(*response.Load()))
		}
	})
	r := start(f, setup{endpoints: []string{ep.addr}})
	f.Fuzz(func(t *testing.T, sent []byte) {
		response.Store(&sent)
		c := r.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		m, _, err := c.readResponse("POST")
		if _, malformed := err.(malformedError); malformed {
			t.Errorf("%q reached the client malformed: %v", sent, err)
		}
		if err == nil && !strings.Contains(string(m.body), `"code":"bad_gateway"`) {
			body, err := finalBody(printable(sent))
			if err != nil || !bytes.Equal(body, printable(m.body)) {
				t.Errorf("%q became a whole answer with body %q; net/http reads %q, %v", sent, m.body, body, err)
			}
		}
		c.closed()
		c.Close()
		ep.forget(t)
	})
}

// printable replaces control characters, but for those that weir does not tolerate in a head either:
// net/http refuses all of them there.
func printable(b []byte) []byte {
	b = bytes.Clone(b)
	for i, c := range b {
		if c < ' ' && bytes.IndexByte([]byte("\t\r\n\x00"), c) < 0 || c == 0x7f {
			b[i] = '?'
		}
	}
	return b
}

// finalBody reads the first answer in b that is not an interim one with net/http.
func finalBody(b []byte) ([]byte, error) {
	br := bufio.NewReader(bytes.NewReader(b))
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: "POST"})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 {
			return io.ReadAll(resp.Body)
		}
	}
}
