package proxy_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

func TestEdgeInterimResponses(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for name, c := range map[string]struct {
		response string
		statuses []int
	}{
		"100 first":       {"HTTP/1.1 100 Continue\r\n\r\n" + okResponse, []int{200}},
		"103 first":       {early + okResponse, []int{200}},
		"several":         {early + "HTTP/1.1 102 Processing\r\n\r\n" + early + okResponse, []int{200}},
		"20,000 of them":  {strings.Repeat(early, 20_000) + okResponse, []int{200, 502}},
		"unasked 101":     {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + okResponse, []int{502}},
		"103 after a 101": {"HTTP/1.1 101 Switching Protocols\r\n\r\n" + early + okResponse, []int{502}},
		"103 with length": {"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + okResponse, []int{200, 502}},
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				for s.request() != nil {
					s.send(c.response)
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			m := cl.get("/first")
			if !slices.Contains(c.statuses, m.status()) {
				t.Errorf("answered with %q", m.start)
			}
			if m.status() == 502 {
				cl.refused(m, 502)
				ep.noneOpen(t)
			} else if string(m.body) != "ok" || m.get("X-Weir-Variant") != "blue" {
				t.Errorf("body %q, variant %q", m.body, m.get("X-Weir-Variant"))
			}
			if m := cl.get("/after"); !slices.Contains(c.statuses, m.status()) {
				t.Errorf("the next request: %q", m.start)
			}
		})
	}
}

// TestEdgeInterimOnly: an endpoint that ends after a 103 has not answered.
func TestEdgeInterimOnly(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		if s.request() != nil {
			s.send("HTTP/1.1 103 Early Hints\r\n\r\n")
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
	c.refused(c.answer("POST"), 502)
}

// TestEdgeBodyWhereNoneBelongs: a body after HEAD, 204 or 304 is neither passed on nor taken for the
// next answer.
func TestEdgeBodyWhereNoneBelongs(t *testing.T) {
	const poison = "\r\nContent-Length: 6\r\n\r\nPOISON"
	for name, c := range map[string]struct {
		method, response string
		length           string // Content-Length at the client
	}{
		"HEAD":            {"HEAD", "HTTP/1.1 200 OK" + poison, "6"},
		"HEAD, chunked":   {"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n", ""},
		"HEAD, an answer": {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON", "6"},
		"204":             {"GET", "HTTP/1.1 204 No Content" + poison, ""},
		"204, no length":  {"GET", "HTTP/1.1 204 No Content\r\n\r\nPOISON", ""},
		"304":             {"GET", "HTTP/1.1 304 Not Modified" + poison, "6"},
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				for m := s.request(); m != nil; m = s.request() {
					if m.target() == "/after" {
						s.send(okResponse)
					} else {
						s.send(c.response)
					}
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			for range 3 {
				cl.send(c.method + " /first HTTP/1.1\r\nHost: h\r\n\r\n")
				m := cl.answer(c.method)
				if got := m.get("Content-Length"); m.status() >= 500 || got != c.length {
					t.Errorf("answered with %q, Content-Length %q, want %q", m.start, got, c.length)
				}
				if m := cl.get("/after"); string(m.body) != "ok" {
					t.Errorf("the next answer is %q with body %q", m.start, m.body)
				}
			}
			if n, _, _ := ep.counts(); n < 2 {
				t.Error("the poisoned connection was used again")
			}
		})
	}
}

// TestEdgeEarlyResponse: an answer that comes while the client still sends is delivered at once,
// the upload stops, and neither connection is used again.
func TestEdgeEarlyResponse(t *testing.T) {
	for _, response := range []string{
		"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge",
		"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlogin",
		"HTTP/1.1 429 Too Many\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlater\r\n0\r\n\r\n",
	} {
		for name, request := range map[string]string{
			"sized":   "POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n" + strings.Repeat("x", 300_000),
			"chunked": "POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 10),
		} {
			for _, how := range []string{"closing", "reading nothing", "reading all"} {
				t.Run(response[9:12]+" "+name+" "+how, func(t *testing.T) {
					answered := make(chan bool)
					ep := newEndpoint(t, func(s *served) {
						if s.head() == nil {
							return
						}
						s.send(response)
						switch how {
						case "closing":
							s.Conn.(interface{ CloseWrite() error }).CloseWrite()
							io.Copy(io.Discard, s.br)
						case "reading nothing":
							<-answered
							io.Copy(io.Discard, s.br)
						case "reading all":
							io.Copy(io.Discard, s.br)
						}
					})
					r := start(t, setup{endpoints: []string{ep.addr}})
					c := r.dial(t)
					go c.send(request)
					began := time.Now()
					m := c.answer("POST")
					if took := time.Since(began); !strings.HasPrefix(m.start, response[:12]) || took > time.Second {
						t.Errorf("answered with %q after %v", m.start, took)
					}
					close(answered)
					c.closed()
					ep.noneOpen(t)
				})
			}
		}
	}
}

func TestEdgeGarbageFromEndpoint(t *testing.T) {
	for _, c := range []struct {
		name, response string
		alsoFine       bool // 200 with the body "ok" will do as well
	}{
		{name: "no HTTP", response: "BANANA\r\n\r\n"},
		{name: "no line end", response: "BANANA"},
		{name: "TLS alert", response: "\x15\x03\x01\x00\x02\x02\x16"},
		{name: "HTTP/2 settings", response: "\x00\x00\x12\x04\x00\x00\x00\x00\x00"},
		{name: "status abc", response: "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "status 20", response: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "status 2000", response: "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "status 099", response: "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "status -20", response: "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "no status", response: "HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"},
		{name: "HTTP/2.0", response: "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "HTTP/9.9", response: "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "lower case", response: "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{name: "a leading empty line", response: "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "length x", response: "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok"},
		{name: "length -2", response: "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"},
		{name: "length +2", response: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
		{name: "length empty", response: "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok"},
		{name: "length 2^64", response: "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"},
		{name: "two lengths", response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"},
		{name: "a list of lengths", response: "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok"},
		{name: "equal lengths", response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "length and chunks", response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", alsoFine: true},
		{name: "unknown coding", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "gzip, chunked", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "chunked twice", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "space before colon", response: "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok", alsoFine: true}, // a proxy MUST remove it
		{name: "no colon", response: "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok"},
		{name: "NUL in a value", response: "HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "bare CR in a value", response: "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "a folded line", response: "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "bare LFs", response: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", alsoFine: true},
		{name: "a control in the reason", response: "HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok", alsoFine: true},
		{name: "an endless head", response: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 200_000)},
		{name: "an endless field", response: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("b", 2<<20)},
		{name: "an endless line", response: strings.Repeat("b", 2<<20)},
		{name: "nothing", response: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				if s.request() != nil {
					s.send(c.response)
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			cl.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
			m := cl.answer("POST")
			if m.status() == 200 && c.alsoFine {
				if string(m.body) != "ok" || m.get("Set-Cookie") != "" {
					t.Errorf("passed on as %+v", m)
				}
				return
			}
			cl.refused(m, 502)
			if !strings.Contains(string(m.body), `"bad_gateway"`) || m.get("X-Weir-Variant") != "blue" {
				t.Errorf("variant %q, body %s", m.get("X-Weir-Variant"), m.body)
			}
			ep.noneOpen(t)
			if n, _, _ := ep.counts(); n != 1 {
				t.Errorf("a POST was sent %d times", n)
			}
		})
	}
}

// TestEdgeGarbageInChunks: the head is gone already, so the client's connection ends unfinished.
func TestEdgeGarbageInChunks(t *testing.T) {
	for _, chunks := range []string{"FFFFFFFFFFFFFFFFF\r\n", "-2\r\nok\r\n0\r\n\r\n", "0x2\r\nok\r\n0\r\n\r\n", "\r\nok\r\n0\r\n\r\n", "2\r\nokX0\r\n\r\n", "1\r\nok\r\n0\r\n\r\n", "2;a\nb\r\nok\r\n0\r\n\r\n",
		"2\r\nok\r\n0\r\nX Y: z\r\n\r\n", "2\r\nok\r\n0\r\nX: z\x00\r\n\r\n", "2;" + strings.Repeat("x", 2<<20), "2\r\nok\r\n0\r\nX: " + strings.Repeat("x", 2<<20)} {
		t.Run(fmt.Sprintf("%.20q", chunks), func(t *testing.T) {
			ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks))
			r := start(t, setup{endpoints: []string{ep.addr}})
			neverWhole(t, r.dial(t))
			ep.noneOpen(t)
		})
	}
}

// neverWhole sends a GET and checks that its answer is an error or visibly cut.
func neverWhole(t *testing.T, c *client) {
	t.Helper()
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	m, _, err := c.readResponse("GET")
	if _, malformed := err.(malformedError); malformed {
		t.Error(err)
	} else if err == nil && m.status() == 200 {
		t.Errorf("a whole answer %q with body %.40q", m.start, m.body)
	} else if err == nil {
		c.refused(m, 502)
	} else if err := c.readEnd(); err != nil {
		t.Error(err)
	}
}

// TestEdgeResponseCutAnywhere ends the endpoint's connection after every byte of an answer, by FIN
// and by RST: the client never sees a whole one.
func TestEdgeResponseCutAnywhere(t *testing.T) {
	for _, response := range []string{
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Sum: abc\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
	} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(fmt.Sprintf("%q %s", response[17:30], how), func(t *testing.T) {
				cut := make(chan int, 1)
				ep := newEndpoint(t, func(s *served) {
					if s.request() == nil {
						return
					}
					select {
					case n := <-cut:
						s.send(response[:n])
						if cut <- n; how == "RST" { // for a second try
							backendtest.Reset(s.Conn)
						}
					case <-time.After(patience):
					}
				})
				r := start(t, setup{endpoints: []string{ep.addr}})
				for n := range len(response) {
					cut <- n
					c := r.dial(t)
					neverWhole(t, c)
					c.Close()
					<-cut
					if t.Failed() {
						t.Fatalf("after %q", response[:n])
					}
				}
			})
		}
	}
}

// TestEdgeUntilClose: an answer without framing ends with the endpoint's FIN, not with an RST.
func TestEdgeUntilClose(t *testing.T) {
	for _, how := range []string{"FIN", "RST"} {
		release := make(chan bool)
		ep := newEndpoint(t, func(s *served) {
			if s.request() == nil {
				return
			}
			s.send("HTTP/1.1 200 OK\r\n\r\nhello")
			if <-release; how == "RST" {
				backendtest.Reset(s.Conn)
			}
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c := r.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		m, err := c.readHead()
		if err != nil {
			t.Fatal(err)
		}
		close(release)
		err = c.readResponseBody(m, "GET", nil)
		if whole := err == nil && string(m.body) == "hello"; whole != (how == "FIN") {
			t.Errorf("%s: body %q, %v", how, m.body, err)
		}
	}
}

func TestEdgeResponseTrailers(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: abc\r\nContent-Length: 99\r\nSet-Cookie: evil\r\nX-Weir-Variant: evil\r\n\r\n"))
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	for range 2 {
		m := c.get("/")
		if v := valuesOf(m.trailers, "X-Sum"); !slices.Equal(v, []string{"abc"}) {
			t.Errorf("trailer X-Sum %q, want abc", v)
		}
		if m.get("X-Sum") != "" || m.get("Set-Cookie") != "" || m.get("Content-Length") != "" || m.get("X-Weir-Variant") != "blue" {
			t.Errorf("the trailer got into the head: %v", m.fields)
		}
		for _, name := range []string{"Content-Length", "X-Weir-Variant"} {
			if v := valuesOf(m.trailers, name); len(v) > 0 {
				t.Errorf("trailer %s: %q", name, v)
			}
		}
	}
}
