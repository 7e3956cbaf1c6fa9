package proxy_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

const poisoned = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"

// TestEdgePoisonAfterBody: bytes after an answer never become the next answer.
func TestEdgePoisonAfterBody(t *testing.T) {
	for name, first := range map[string]string{
		"sized":   okResponse + poisoned,
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + poisoned,
		"garbage": okResponse + "\r\n",
		"empty":   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + poisoned,
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, serveBytes(first))
			r := start(t, setup{endpoints: []string{ep.addr}})
			for range 3 {
				c := r.dial(t)
				for range 3 {
					if m := c.get("/"); m.status() != 200 || strings.Contains(string(m.body), "POISON") {
						t.Errorf("answered with %q, body %q", m.start, m.body)
					}
				}
				c.Close()
			}
			if n, _, _ := ep.counts(); n != 9 {
				t.Errorf("%d connections for 9 requests: an overfull one was used again", n)
			}
		})
	}
}

// idleEndpoint answers the first request of each connection, does something to the then idle
// connection, and says so; later connections are served normally.
func idleEndpoint(t *testing.T, done chan<- bool, toIdle func(*served)) *endpoint {
	return newEndpoint(t, func(s *served) {
		if s.n > 1 {
			serveOK(s)
			return
		}
		if s.request() != nil {
			s.send(okResponse)
			toIdle(s)
			done <- true
			io.Copy(io.Discard, s.br) // whatever was done stays as it is until weir closes
		}
	})
}

// TestEdgeIdleConnection: whatever happened to a connection while it was idle, the next request, of
// any method, goes over a new one.
func TestEdgeIdleConnection(t *testing.T) {
	for name, toIdle := range map[string]func(*served){
		"FIN":       func(s *served) { s.Close() },
		"half":      func(s *served) { s.Conn.(*net.TCPConn).CloseWrite() },
		"RST":       func(s *served) { backendtest.Reset(s.Conn) },
		"poison":    func(s *served) { s.send(poisoned) },
		"408 + FIN": func(s *served) { s.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"); s.Close() },
		"one byte":  func(s *served) { s.send("\n") },
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			t.Run(name+" "+method, func(t *testing.T) {
				held, done := make(chan bool), make(chan bool)
				ep := idleEndpoint(t, done, func(s *served) {
					<-held // until weir has taken the first answer, which makes the connection idle
					toIdle(s)
				})
				r := start(t, setup{endpoints: []string{ep.addr}})
				c := r.dial(t)
				c.get("/first")
				eventually(t, "the end of the first request", func() bool { return sum(r.metrics(t), "weir_requests_total") == 1 })
				held <- true
				<-done
				c.send(method + " /second HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
				if m := c.answer(method); m.status() != 200 || string(m.body) != "ok" {
					t.Errorf("answered with %q, body %q", m.start, m.body)
				}
				if s, _ := r.Pool("blue"); s.Endpoints[0].Errors != 0 {
					t.Errorf("the endpoint was blamed: %+v", s.Endpoints[0])
				}
				if n := sum(r.metrics(t), "weir_attempts_total"); n != 2 {
					t.Errorf("%v attempts for 2 requests", n)
				}
			})
		}
	}
}

// TestEdgeCloseOnArrival: a kept-alive connection that ends just as the request arrives. Safe methods
// are sent once more on a new connection, others are not; the endpoint is not blamed.
func TestEdgeCloseOnArrival(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
	}{{"GET", 200}, {"HEAD", 200}, {"OPTIONS", 200}, {"POST", 502}, {"PUT", 502}, {"DELETE", 502}, {"PATCH", 502}} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(c.method+" "+how, func(t *testing.T) {
				ep := newEndpoint(t, func(s *served) {
					if s.n > 1 {
						serveOK(s)
						return
					}
					if s.request() == nil {
						return
					}
					s.send(okResponse)
					s.br.Peek(1) // the request has arrived
					if how == "RST" {
						backendtest.Reset(s.Conn)
					}
				})
				r := start(t, setup{endpoints: []string{ep.addr}})
				cl := r.dial(t)
				cl.get("/first")
				cl.send(c.method + " /second HTTP/1.1\r\nHost: h\r\n\r\n")
				m := cl.answer(c.method)
				if m.status() != c.status {
					t.Errorf("answered with %q, want %d", m.start, c.status)
				}
				if c.status == 502 {
					cl.refused(m, 502)
				}
				want := map[int]int{200: 2, 502: 1}[c.status]
				if n, _, _ := ep.counts(); n != want {
					t.Errorf("%d connections to the endpoint, want %d", n, want)
				}
				s, _ := r.Pool("blue")
				if e := s.Endpoints[0]; e.Errors != 0 || e.Inflight != 0 {
					t.Errorf("the endpoint was blamed: %+v", e)
				}
			})
		}
	}
}

// TestEdgeNoRetryStorm: a request on a new connection that ends without an answer is not sent
// again and again, and never twice when it is not safe.
func TestEdgeNoRetryStorm(t *testing.T) {
	for method, most := range map[string]int{"GET": 2, "POST": 1, "PUT": 1, "DELETE": 1} {
		ep := newEndpoint(t, func(s *served) { s.request() })
		r := start(t, setup{endpoints: []string{ep.addr}})
		c := r.dial(t)
		c.send(method + " / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok")
		c.refused(c.answer(method), 502)
		if got := len(ep.got()); got > most {
			t.Errorf("%s was sent %d times, want at most %d", method, got, most)
		}
	}
}

func TestEdgeNoEndpoint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := start(t, setup{endpoints: []string{l.Addr().String()}})
	c := r.dial(t)
	began := time.Now()
	m := c.get("/")
	c.refused(m, 502, 503)
	if m.get("X-Weir-Variant") != "blue" && m.status() == 502 {
		t.Errorf("X-Weir-Variant %q", m.get("X-Weir-Variant"))
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("refused after %v", took)
	}
}
