package proxy_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestEdgePipelining(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			body := m.target() + string(m.body)
			head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			if m.method() == "HEAD" {
				body = ""
			}
			s.send(head + body)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	var requests, want []string
	for i := range 10 {
		switch i % 4 {
		case 0:
			requests = append(requests, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i))
			want = append(want, fmt.Sprintf("/%d", i))
		case 1:
			requests = append(requests, fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab", i))
			want = append(want, fmt.Sprintf("/%dab", i))
		case 2:
			requests = append(requests, fmt.Sprintf("HEAD /%d HTTP/1.1\r\nHost: h\r\n\r\n", i))
			want = append(want, "")
		case 3:
			requests = append(requests, chunkedPost(fmt.Sprintf("/%d", i), "2\r\ncd\r\n1\r\ne\r\n0\r\n\r\n"))
			want = append(want, fmt.Sprintf("/%dcde", i))
		}
	}
	c.send(strings.Join(requests, ""))
	for i := range requests {
		method, _, _ := strings.Cut(requests[i], " ")
		if m := c.answer(method); m.status() != 200 || string(m.body) != want[i] {
			t.Errorf("answer %d: %q with body %q, want %q", i, m.start, m.body, want[i])
		}
	}
	c.send("GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n")
	c.answer("GET")
	c.closed()
	if got := ep.got(); len(got) != 11 || got[10] != "GET /end" {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgePipelineEndsAtAnError: nothing after a malformed request is executed.
func TestEdgePipelineEndsAtAnError(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("GET /one HTTP/1.1\r\nHost: h\r\n\r\nGET /two HTTP/1.1\r\nHost : h\r\n\r\n" + smuggled)
	if m := c.answer("GET"); m.status() != 200 {
		t.Errorf("the first was answered with %q", m.start)
	}
	c.refused(c.answer("GET"), 400)
	c.closed()
	if got := ep.got(); len(got) != 1 || got[0] != "GET /one" {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeErrorsKeepTheConnection: an error that leaves the framing intact need not end it.
func TestEdgeErrorsKeepTheConnection(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "match: {path: /known, methods: [GET, HEAD, POST]}"})
	c := r.dial(t)
	for _, request := range []string{"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE /known HTTP/1.1\r\nHost: h\r\n\r\n"} {
		c.send(request)
		c.refused(c.answer("GET"), 404)
	}
	c.send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n")
	if m := c.answer("HEAD"); m.status() != 404 {
		t.Errorf("HEAD was answered with %q", m.start)
	}
	c.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n" + smuggled + "GET /known HTTP/1.1\r\nHost: h\r\n\r\n")
	c.refused(c.answer("POST"), 404)
	if m, _, err := c.readResponse("GET"); err == nil && m.status() != 200 {
		t.Errorf("after an error with a body: %q", m.start)
	}
	for _, line := range ep.got() {
		if line != "GET /known" {
			t.Errorf("the endpoint got %q", line)
		}
	}
}

// TestEdgeHTTP10Clients: no chunks, no interim answers, the connection ends unless asked to stay.
func TestEdgeHTTP10Clients(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
	sized := "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"
	for name, response := range map[string]string{
		"chunked": chunked, "sized": sized, "interim": "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized, "until close": "HTTP/1.0 200 OK\r\n\r\nhello world",
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				for s.request() != nil {
					s.send(response)
					if name == "until close" {
						return
					}
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}})
			for _, fields := range []string{"Host: h\r\n", "", "Host: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n"} {
				c := r.dial(t)
				c.send("GET /old HTTP/1.0\r\n" + fields + "\r\n")
				m, interim, err := c.readResponse("GET")
				if err != nil || string(m.body) != "hello world" || len(interim) > 0 || m.get("Transfer-Encoding") != "" || len(m.trailers) > 0 {
					t.Errorf("%q: %+v after %v, %v", fields, m, interim, err)
					continue
				}
				c.closed()
				if m := ep.last(t); !strings.HasSuffix(m.start, " HTTP/1.1") {
					t.Errorf("request line %q at the endpoint", m.start)
				}
			}
			c := r.dial(t)
			c.send("GET /keep HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
			if m := c.answer("GET"); strings.EqualFold(m.get("Connection"), "keep-alive") {
				if m := c.get("/again"); string(m.body) != "hello world" {
					t.Errorf("on the kept connection: %q", m.start)
				}
			} else {
				c.closed()
			}
		})
	}
}

func TestEdgeExpectContinue(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	for _, body := range []string{"Content-Length: 5\r\n\r\n|hello", "Transfer-Encoding: chunked\r\n\r\n|5\r\nhello\r\n0\r\n\r\n"} {
		head, body, _ := strings.Cut(body, "|")
		c.send("POST /first HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n" + head)
		m, err := c.readHead() // the body is held back until this arrives
		if err != nil || m.status() != 100 {
			t.Fatalf("%+v, %v instead of 100 Continue", m, err)
		}
		c.send(body)
		if m := c.answer("POST"); m.status() != 200 || string(ep.last(t).body) != "hello" {
			t.Errorf("answered with %q", m.start)
		}
	}
	// A client that does not wait gets its answer all the same.
	c.send("POST /first HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	if m := c.answer("POST"); m.status() != 200 {
		t.Errorf("answered with %q", m.start)
	}
	if m := c.get("/after"); m.status() != 200 {
		t.Errorf("the next request: %q", m.start)
	}
	c.send("POST /first HTTP/1.1\r\nHost: h\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello")
	if m := c.answer("POST"); m.status() != 200 {
		c.refused(m, 417)
	}
}

// TestEdgeClientGone: within 250 ms of a client's departure its attempt ends at the endpoint.
func TestEdgeClientGone(t *testing.T) {
	const head = "POST /first HTTP/1.1\r\nHost: h\r\n"
	for name, c := range map[string]struct {
		request, response string
		readHead          bool // the client goes after it saw the head
	}{
		"while the endpoint thinks":   {request: head + "Content-Length: 5\r\n\r\nhello"},
		"a GET":                       {request: "GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
		"while it uploads":            {request: head + "Content-Length: 3000000\r\n\r\n" + strings.Repeat("x", 1_000_000)},
		"between two chunks upwards":  {request: head + "Transfer-Encoding: chunked\r\n\r\n30000\r\n" + strings.Repeat("x", 0x30000) + "\r\n"},
		"while the endpoint answers":  {request: head + "Content-Length: 5\r\n\r\nhello", response: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", readHead: true},
		"between two events of a SSE": {request: "GET / HTTP/1.1\r\nHost: h\r\n\r\n", response: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: a\n\r\n", readHead: true},
	} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(name+", "+how, func(t *testing.T) {
				arrived, ended := make(chan bool, 1), make(chan time.Time, 1)
				ep := newEndpoint(t, func(s *served) {
					s.br.Peek(1)
					arrived <- true
					s.send(c.response)
					io.Copy(io.Discard, s.br)
					ended <- time.Now()
				})
				r := start(t, setup{endpoints: []string{ep.addr}})
				cl := r.dial(t)
				cl.send(c.request)
				<-arrived
				if c.readHead {
					if _, err := cl.readHead(); err != nil {
						t.Fatal(err)
					}
				}
				if how == "RST" {
					cl.Conn.(*net.TCPConn).SetLinger(0)
				}
				left := time.Now()
				cl.Close()
				if took := (<-ended).Sub(left); took > 750*time.Millisecond { // 250 ms, and a busy machine
					t.Errorf("the attempt went on for %v", took)
				}
				eventually(t, "the count of the request", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
				values := r.metrics(t)
				if n := sum(values, "weir_attempts_total", `outcome="canceled"`); n != 1 {
					t.Errorf("%v canceled attempts, want 1: %v", n, values)
				}
				if s, ok := r.Pool("blue"); !ok || s.Endpoints[0].Errors != 0 || s.Endpoints[0].Inflight != 0 {
					t.Errorf("the endpoint was blamed: %+v", s)
				}
			})
		}
	}
}

// TestEdgeKeepAliveReuse counts the connections to the endpoint.
func TestEdgeKeepAliveReuse(t *testing.T) {
	for _, c := range []struct {
		name, request, response string
		clients, conns          int
	}{
		{"one client", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", okResponse, 1, 1},
		{"many clients, one after the other", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", okResponse, 10, 1},
		{"clients that close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", okResponse, 20, 1},
		{"HTTP/1.0 clients", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", okResponse, 20, 1},
		{"chunked answers", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", 1, 1},
		{"204", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", 1, 1},
		{"304 with a length", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 1, 1},
		{"an endpoint that announces its close", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", 1, 20},
		{"an HTTP/1.0 endpoint", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 1, 20},
		{"500s", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nok", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ep := newEndpoint(t, serveBytes(c.response))
			r := start(t, setup{endpoints: []string{ep.addr}, options: oneLoop})
			for range c.clients {
				cl := r.dial(t)
				for range 20 / c.clients {
					cl.send(c.request)
					if m := cl.answer("GET"); m.status() == 502 {
						t.Fatalf("answered with %q: %s", m.start, m.body)
					}
				}
				cl.Close()
			}
			if n, _, _ := ep.counts(); n != c.conns {
				t.Errorf("%d connections to the endpoint for 20 requests, want %d", n, c.conns)
			}
		})
	}
}
