package proxy_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// smuggled is a second request hidden in the body of the first; no endpoint may ever see it as one.
const smuggled = "GET /SMUG HTTP/1.1\r\nHost: h\r\n\r\n"

// framing sends one request of doubtful framing on a connection of its own. It must be refused with one of
// the statuses and the connection closed, or (with 200 among them) passed on as exactly one
// request, after which the connection either ends or is still in step.
func framing(t *testing.T, r *running, ep *endpoint, request string, statuses ...int) {
	t.Helper()
	before := len(ep.got())
	c := r.dial(t)
	c.send(request)
	method, _, _ := strings.Cut(request, " ")
	m := c.answer(method)
	if m.status() != 200 {
		c.refused(m, statuses...)
		c.closed()
	} else if !slices.Contains(statuses, 200) {
		t.Errorf("passed on, want one of %v", statuses)
	} else if m.get("Connection") != "close" {
		c.send("GET /after HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if m := c.answer("GET"); m.status() != 200 {
			t.Errorf("the next request on the connection: %q", m.start)
		}
		c.closed()
	}
	got := ep.got()[before:]
	if n := len(got); m.status() != 200 && n > 0 || n > 0 && got[0] != method+" /first" || n > 1 && got[1] != "GET /after" || n > 2 {
		t.Errorf("the endpoint got %q", got)
	}
}

func TestEdgeContentLengthAndTransferEncoding(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for name, fields := range map[string]string{
		"CL.TE":       "Content-Length: 41\r\nTransfer-Encoding: chunked\r\n",
		"TE.CL":       "Transfer-Encoding: chunked\r\nContent-Length: 41\r\n",
		"TE.CL short": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
		"CL.TE case":  "content-length: 41\r\ntRANSFER-eNCODING:chunKED\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			framing(t, r, ep, "POST /first HTTP/1.1\r\nHost: h\r\n"+fields+"\r\n0\r\n\r\n"+smuggled, 400)
		})
	}
}

// TestEdgeTransferEncodingSpellings hides a Transfer-Encoding from one of two parsers. The body
// is the whole rest by Content-Length and empty by chunks.
func TestEdgeTransferEncodingSpellings(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			for _, f := range m.fields {
				if strings.Contains(strings.ToLower(f.name), "encoding") {
					s.fault(fmt.Errorf("a trace of Transfer-Encoding: %q", f))
				}
			}
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	body := "0\r\n\r\n" + smuggled
	for _, spelling := range []string{
		"Transfer-Encoding : chunked",
		"Transfer-Encoding\t: chunked",
		"Transfer-Encoding: xchunked",
		"Transfer-Encoding: chunked, identity",
		"Transfer-Encoding: identity, chunked",
		"Transfer-Encoding: gzip, chunked",
		"Transfer-Encoding: chunked, chunked",
		"Transfer-Encoding: chunked chunked",
		"Transfer-Encoding: ,chunked",
		"Transfer-Encoding: chunked,",
		"Transfer-Encoding:\x0bchunked",
		"Transfer-Encoding: chunked\x0c",
		"\x0bTransfer-Encoding: chunked",
		"Transfer-Encoding: \"chunked\"",
		"Transfer-Encoding: 'chunked'",
		"Transfer-Encoding: chunked;p=1",
		"Transfer-Encoding: chunked\x00",
		"Transfer-Encoding: chun\x00ked",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: identity",
		"Transfer-Encoding: ",
		"Transfer-Encoding: chunked\nX: y",
		"X: y\nTransfer-Encoding: chunked",
		"X: y\rTransfer-Encoding: chunked",
		"X: y\r\rTransfer-Encoding: chunked",
		"Transfer-Encoding:\r\n chunked",
		"X: y\r\n Transfer-Encoding: chunked",
		"Transfer Encoding: chunked",
		"Transfer-Encoding chunked",
		"Transfer-Encoding: \xef\xbb\xbfchunked",
		"Tran\u017ffer-Encoding: chunked",
	} {
		t.Run(fmt.Sprintf("%q", spelling), func(t *testing.T) {
			statuses := []int{400, 501, 200}
			if strings.Contains(spelling, " :") || strings.Contains(spelling, "\t:") || !strings.Contains(spelling, ":") {
				statuses = []int{400} // RFC 9112, 5.1
			}
			framing(t, r, ep, fmt.Sprintf("POST /first HTTP/1.1\r\nHost: h\r\n%s\r\nContent-Length: %d\r\n\r\n%s", spelling, len(body), body), statuses...)
		})
	}
}

func TestEdgeTransferEncodingOnHTTP10(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, fields := range []string{"", "Connection: keep-alive\r\n", "Content-Length: 5\r\n"} {
		c := r.dial(t)
		c.send("POST /first HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + fields + "\r\n0\r\n\r\n" + smuggled)
		if m := c.answer("POST"); m.status() != 200 {
			c.refused(m, 400, 501)
		}
		c.closed() // RFC 9112, 6.1: whatever was answered
	}
	for _, line := range ep.got() {
		if line != "POST /first" {
			t.Errorf("the endpoint got %q", line)
		}
	}
}

func TestEdgeOddContentLength(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, c := range []struct {
		lengths string // one or more values, by |
		want    []int
	}{
		{"5|6", []int{400}},
		{"6|5", []int{400}},
		{"5, 6", []int{400}},
		{"+5", []int{400}},
		{"-5", []int{400}},
		{"0x5", []int{400}},
		{"5.0", []int{400}},
		{"5 5", []int{400}},
		{"5;", []int{400}},
		{"", []int{400}},
		{"5_0", []int{400}},
		{"\u0665", []int{400}},
		{"5\x00", []int{400}},
		{"9223372036854775808", []int{400, 413}},
		{"18446744073709551621", []int{400, 413}},
		{"99999999999999999999999999999999", []int{400, 413}},
		{"5|5", []int{400, 200}},
		{"5, 5", []int{400, 200}},
		{"5", []int{200}},
		{" 5\t", []int{200}},
	} {
		t.Run(fmt.Sprintf("%q", c.lengths), func(t *testing.T) {
			fields := ""
			for v := range strings.SplitSeq(c.lengths, "|") {
				fields += "Content-Length: " + v + "\r\n"
			}
			framing(t, r, ep, "POST /first HTTP/1.1\r\nHost: h\r\n"+fields+"\r\nhello", c.want...)
		})
	}
}

// TestEdgeBodyOfAnyMethod is CL.0: the body of a GET is a body, not the next request.
func TestEdgeBodyOfAnyMethod(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			head := method + " /first HTTP/1.1\r\nHost: h\r\n"
			sized := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(smuggled), smuggled)
			chunked := fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(smuggled), smuggled)
			for _, request := range []string{sized, chunked} {
				framing(t, r, ep, request, 200, 400, 501)
			}
		})
	}
}

// chunkedPost is a POST whose body is given as it goes over the wire.
func chunkedPost(target, body string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

// broken sends a request whose chunked body is broken: the client gets an error or the end of
// the connection, the endpoint never a whole request.
func broken(t *testing.T, r *running, ep *endpoint, request string, statuses ...int) {
	t.Helper()
	before := len(ep.got())
	c := r.dial(t)
	c.send(request)
	if m, _, err := c.readResponse("POST"); err == nil {
		c.refused(m, statuses...)
	} else if _, malformed := err.(malformedError); malformed {
		t.Error(err)
	}
	c.closed()
	ep.quiet(t)
	if got := ep.got()[before:]; len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

func TestEdgeChunkSize(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, body := range []string{
		"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
		"10000000000000005\r\nhello\r\n0\r\n\r\n",
		"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
		"8000000000000000\r\nhello\r\n0\r\n\r\n",
		"-5\r\nhello\r\n0\r\n\r\n",
		"+5\r\nhello\r\n0\r\n\r\n",
		"0x5\r\nhello\r\n0\r\n\r\n",
		"\r\nhello\r\n0\r\n\r\n",
		"5_0\r\nhello\r\n0\r\n\r\n",
		"g\r\nhello\r\n0\r\n\r\n",
		" 5\r\nhello\r\n0\r\n\r\n",
		"5 5\r\nhello\r\n0\r\n\r\n",
		"5\x00\r\nhello\r\n0\r\n\r\n",
		"3\r\nhello\r\n0\r\n\r\n", // data longer than its size
		"5\r\nhelloX0\r\n\r\n",    // no CRLF after the data
		"5\r\nhello0\r\n\r\n",
		"5\r\nhello\r0\r\n\r\n",
		"5\r\nhello\n0\r\n\r\n", // a lone LF ends no chunk
		"5\nhello\r\n0\r\n\r\n",
		"5\rhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n0\n\n",
		"5\r\nhello\r\n00x\r\n\r\n",
	} {
		t.Run(fmt.Sprintf("%.20q", body), func(t *testing.T) {
			broken(t, r, ep, chunkedPost("/first", body), 400, 413)
		})
	}
}

func TestEdgeChunkExtension(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, valid := range []string{"5;a\r\nhello\r\n0\r\n\r\n", "5;a=b;c=\"d;e\"\r\nhello\r\n0;x=y\r\n\r\n", "5 ;a\r\nhello\r\n0\r\n\r\n", "005\r\nhello\r\n000\r\n\r\n"} {
		c := r.dial(t)
		c.send(chunkedPost("/first", valid))
		if m := c.answer("POST"); m.status() == 200 {
			if body := ep.last(t).body; string(body) != "hello" {
				t.Errorf("%q arrived as %q", valid, body)
			}
		} else if !strings.Contains(valid, " ;") {
			t.Errorf("%q was answered with %q", valid, m.start)
		}
	}
	for _, bad := range []string{"5;a\nb\r\nhello\r\n0\r\n\r\n", "5;\nhello\r\n0\r\n\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0;\n\r\n"} {
		t.Run(fmt.Sprintf("%q", bad), func(t *testing.T) {
			broken(t, r, ep, chunkedPost("/first", bad), 400)
		})
	}
}

// TestEdgeEndlessChunkExtension sends 32 MiB where a chunk size should end. weir must give up long before.
func TestEdgeEndlessChunkExtension(t *testing.T) {
	endless(t, chunkedPost("/first", "5;"), "\r\nhello\r\n0\r\n\r\n", 400, 413)
}

// TestEdgeEndlessTrailer does the same in the trailer section.
func TestEdgeEndlessTrailer(t *testing.T) {
	endless(t, chunkedPost("/first", "5\r\nhello\r\n0\r\nX: "), "\r\n\r\n", 400, 413, 431)
}

// TestEdgeChunkExtensionsEndHere: also those of a body too large for a buffer do not reach the endpoint.
func TestEdgeChunkExtensionsEndHere(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	go c.send(chunkedPost("/first", strings.Repeat("08000;a=b;c=\"d;\"\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 20)+"00;e\r\n\r\n"))
	if m := c.answer("POST"); m.status() != 200 {
		t.Fatalf("answered with %q", m.start)
	}
	if m := ep.last(t); m.size != 20*0x8000 { // the endpoint's parser has refused extensions
		t.Errorf("%d bytes arrived, want %d", m.size, 20*0x8000)
	}
}

// endless sends a request with 32 MiB of "x" between prefix and suffix and checks that weir
// answers with an error, or cuts the connection, before it has taken all of it.
func endless(t *testing.T, prefix, suffix string, statuses ...int) {
	t.Helper()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	sent := make(chan int64, 1)
	c.send(prefix)
	go func() {
		n, err := io.Copy(c.Conn, io.LimitReader(repeated("x"), 32<<20))
		if err == nil {
			c.send(suffix)
		}
		sent <- n
	}()
	if m, _, err := c.readResponse("POST"); err == nil {
		c.refused(m, statuses...)
	}
	c.closed()
	c.Close()
	// What the buffers of two sockets hold is not what weir has read.
	if n := <-sent; n > 24<<20 {
		t.Errorf("weir took %d bytes", n)
	}
	ep.quiet(t)
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

// repeated is an endless stream of s.
func repeated(s string) io.Reader { return &repeater{s: strings.Repeat(s, 1+(64<<10)/len(s))} }

type repeater struct {
	s  string
	at int
}

func (r *repeater) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], r.s[r.at:])
		n += k
		r.at = (r.at + k) % len(r.s)
	}
	return n, nil
}

func TestEdgeRequestTrailers(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send(chunkedPost("/first", "5\r\nhello\r\n0\r\nContent-Length: 99\r\nHost: evil\r\nTransfer-Encoding: gzip\r\nX-Forwarded-For: 6.6.6.6\r\nX-Checksum: abc\r\n\r\n"))
	if m := c.answer("POST"); m.status() != 200 {
		c.refused(m, 400) // refusing forbidden trailer fields is as good
		c.closed()
		return
	}
	m := ep.last(t)
	if m.get("Host") != "h" || m.get("X-Checksum") != "" || m.get("X-Forwarded-For") != "127.0.0.1" || string(m.body) != "hello" {
		t.Errorf("the trailer changed the head: %v, body %q", m.fields, m.body)
	}
	for _, name := range []string{"Content-Length", "Host", "Transfer-Encoding", "X-Forwarded-For"} {
		if v := valuesOf(m.trailers, name); len(v) > 0 {
			t.Errorf("the trailer has %s: %q", name, v)
		}
	}
	if c.get("/after").status() != 200 {
		t.Error("the connection is out of step after a trailer")
	}
}

func TestEdgeRequestTrailerIsPassedOn(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send(chunkedPost("/first", "5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n"))
	if m := c.answer("POST"); m.status() != 200 {
		t.Fatalf("answered with %q", m.start)
	}
	if v := valuesOf(ep.last(t).trailers, "X-Checksum"); !slices.Equal(v, []string{"abc"}) {
		t.Errorf("X-Checksum in the trailer: %q, want abc", v)
	}
}

// TestEdgeRequestCutAnywhere ends the client's half of the connection after every byte of a
// request with a chunked, and one with a sized body: the endpoint sees the whole request or none.
func TestEdgeRequestCutAnywhere(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, request := range []string{
		chunkedPost("/cut", "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Checksum: abc\r\n\r\n"),
		"POST /cut HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world",
	} {
		for n := range len(request) {
			c := r.dial(t)
			c.send(request[:n])
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			if m, _, err := c.readResponse("POST"); err == nil {
				c.refused(m, 400, 408)
			}
			c.closed()
			c.Close()
			if t.Failed() {
				t.Fatalf("after %q", request[:n])
			}
		}
	}
	ep.quiet(t)
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %d requests that were never whole", len(got))
	}
	c := r.dial(t)
	c.SetDeadline(time.Now().Add(patience))
	if c.get("/after").status() != 200 {
		t.Error("weir does not serve any more")
	}
}
