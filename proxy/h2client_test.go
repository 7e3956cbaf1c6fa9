package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// h2c is an HTTP/2 server without TLS: net/http's, so that weir is tested against a peer that is not its own.
type h2c struct {
	addr     string
	accepted atomic.Int64 // connections
	requests atomic.Int64
}

func newH2C(t testing.TB, handler http.HandlerFunc, change ...func(*http.Server)) *h2c {
	t.Helper()
	e := new(h2c)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			e.requests.Add(1)
			if q.ProtoMajor != 2 {
				t.Errorf("a request came over %s", q.Proto)
			}
			handler(w, q)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				e.accepted.Add(1)
			}
		},
		Protocols: new(http.Protocols),
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	for _, f := range change {
		f(s)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	e.addr = ln.Addr().String()
	return e
}

// overH2 is a proxy whose pool speaks HTTP/2 with e.
func overH2(t testing.TB, e *h2c, s setup) *running {
	t.Helper()
	s.endpoints = []string{e.addr}
	s.pool = "protocol: http2\n" + s.pool
	if s.options == nil {
		s.options = oneLoop
	}
	return start(t, s)
}

func echo(w http.ResponseWriter, q *http.Request) {
	b, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	_, _ = w.Write(b)
}

func TestHTTP2Endpoint(t *testing.T) {
	var got http.Request
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		got = *q.Clone(q.Context())
		w.Header().Set("X-Answer", "yes")
		_, _ = io.WriteString(w, "ok")
	})
	c := overH2(t, e, setup{}).dial(t)
	c.send("GET /a%2Fb?x=1 HTTP/1.1\r\nHost: model.example.com\r\nX-Asked: Yes\r\nCookie: a=1; b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: gzip\r\n\r\n")
	m := c.answer("GET")
	if m.status() != 200 || string(m.body) != "ok" || m.get("X-Answer") != "yes" || m.get("X-Weir-Variant") != "blue" || m.get("Content-Length") != "2" {
		t.Errorf("answer %+v", m)
	}
	if got.Host != "model.example.com" || got.RequestURI != "/a%2Fb?x=1" || got.Header.Get("X-Asked") != "Yes" || got.Header.Get("X-Hop") != "" || got.Header.Get("Te") != "" || got.Header.Get("Cookie") != "a=1; b=2" {
		t.Errorf("the endpoint got %s %s %v", got.Host, got.RequestURI, got.Header)
	}
	for range 10 {
		c.get("/again")
	}
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d connections for 11 requests, one after the other", n)
	}
}

func TestHTTP2EndpointFramesBodies(t *testing.T) {
	e := newH2C(t, echo)
	r := overH2(t, e, setup{})
	for _, size := range []int{0, 1, 100, 16 << 10, 70 << 10, 1 << 20, 9 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		c := r.dial(t)
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size))
		go c.send(string(body))
		if m := c.answer("POST"); m.status() != 200 || !bytes.Equal(m.body, body) {
			t.Errorf("%d bytes: status %d, %d bytes came back", size, m.status(), len(m.body))
		}
		go func() {
			c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
			for rest := body; len(rest) > 0; {
				n := min(len(rest), 30_000)
				c.send(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
				rest = rest[n:]
			}
			c.send("0\r\n\r\n")
		}()
		if m := c.answer("POST"); m.status() != 200 || !bytes.Equal(m.body, body) {
			t.Errorf("%d bytes in chunks: status %d, %d bytes came back", size, m.status(), len(m.body))
		}
	}
}

func TestHTTP2EndpointTrailers(t *testing.T) {
	var sum atomic.Value
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		sum.Store(q.Trailer.Get("X-Sum"))
		w.Header().Set("Trailer", "X-Count")
		_, _ = io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Count", "4")
	})
	c := overH2(t, e, setup{}).dial(t)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
	m := c.answer("POST")
	if string(m.body) != "some" || !strings.Contains(strings.ToLower(fmt.Sprint(m)), "x-count") {
		t.Errorf("answer %+v, want the trailer X-Count", m)
	}
	if sum.Load() != "42" {
		t.Errorf("the endpoint got the trailer %q, want 42", sum.Load())
	}
}

func TestHTTP2EndpointBodiless(t *testing.T) {
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/hints":
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(103)
			_, _ = io.WriteString(w, "final")
		default:
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(200)
		}
	})
	c := overH2(t, e, setup{}).dial(t)
	for range 2 {
		if m := c.get("/204"); m.status() != 204 || len(m.body) > 0 {
			t.Errorf("%+v", m)
		}
		if m := c.get("/304"); m.status() != 304 || m.get("Etag") != `"x"` {
			t.Errorf("%+v", m)
		}
		c.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n")
		if m := c.answer("HEAD"); m.status() != 200 || m.get("Content-Length") != "1000" {
			t.Errorf("%+v", m)
		}
		c.send("GET /hints HTTP/1.1\r\nHost: h\r\n\r\n")
		m, interim, err := c.readResponse("GET")
		if err != nil || m.status() != 200 || string(m.body) != "final" || len(interim) != 1 || interim[0] != 103 {
			t.Errorf("%+v, %+v: %v", m, interim, err)
		}
	}
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestHTTP2BurstSharesADial: requests that find no connection do not dial one each.
func TestHTTP2BurstSharesADial(t *testing.T) {
	release := make(chan struct{})
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		<-release
		_, _ = io.WriteString(w, "ok")
	})
	const clients = 80
	r := overH2(t, e, setup{pool: "connections: {streams: 20, connect_timeout: 10s}"})
	var running sync.WaitGroup
	for range clients {
		c := r.dial(t)
		running.Go(func() {
			if m := c.get("/"); m.status() != 200 {
				t.Errorf("status %d: %s", m.status(), m.body)
			}
		})
	}
	eventually(t, "all requests at the endpoint", func() bool { return e.requests.Load() == clients })
	if n := e.accepted.Load(); n > 5 {
		t.Errorf("%d connections for %d requests at once, 20 on each", n, clients)
	}
	close(release)
	running.Wait()
}

func TestHTTP2StreamsArePassedOnAsTheyCome(t *testing.T) {
	next := make(chan string)
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range next {
			_, _ = io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	})
	c := overH2(t, e, setup{}).dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	for i := range 5 {
		event := fmt.Sprintf("data: %d\n\n", i)
		next <- event
		if i == 0 {
			if _, err := c.readHead(); err != nil {
				t.Fatal(err)
			}
		}
		want := fmt.Sprintf("%x\r\n%s\r\n", len(event), event)
		b := make([]byte, len(want))
		if _, err := io.ReadFull(c.br, b); err != nil || string(b) != want {
			t.Fatalf("%q (%v), want %q", b, err, want)
		}
	}
	close(next)
	if b, err := io.ReadAll(io.LimitReader(c.br, 5)); err != nil || string(b) != "0\r\n\r\n" {
		t.Fatalf("%q: %v", b, err)
	}
}

// TestHTTP2ClientGoneCancels: the endpoint's work ends with the client.
func TestHTTP2ClientGoneCancels(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		close(began)
		<-q.Context().Done()
		close(ended)
	})
	r := overH2(t, e, setup{})
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-began
	_ = c.Conn.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the endpoint still works")
	}
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
