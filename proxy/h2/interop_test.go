package h2

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// cleartext is HTTP/2 without TLS, and nothing else.
func cleartext() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}

// TestGoClient has the standard library's client talk to a server here: bodies of all sizes, many at a time.
func TestGoClient(t *testing.T) {
	l := listen(t)
	go serveEcho(l, Settings{})
	transport := &http.Transport{Protocols: cleartext()}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for _, size := range []int{0, 1, 100, 16384, 16385, 65535, 65536, 1 << 20, 5 << 20} {
		for range 3 {
			wg.Go(func() {
				body := random(size)
				// Without a length, and with trailers.
				req, err := http.NewRequest("POST", "http://"+l.Addr().String()+"/a?b", io.MultiReader(bytes.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Trailer = http.Header{"X-Sum": {"1"}}
				req.Header.Add("Cookie", "a=1; b=2")
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, body) {
					t.Errorf("%d bytes: %d, %d bytes back, %v", size, resp.StatusCode, len(got), err)
				}
				if resp.Trailer.Get("X-Sum") != "1" {
					t.Errorf("%d bytes: trailers %v", size, resp.Trailer)
				}
			})
		}
	}
	wg.Wait()
}

// caller is a client's owner: each stream sends a body and collects what comes.
type caller struct{ p *pump }

type call struct {
	rest     []byte
	head     []byte
	got      []byte
	trailers []byte
	err      string
	done     chan struct{}
}

func (c *caller) Headers(s *Stream, fields []Field, end bool) {
	x := s.User.(*call)
	var err error
	if x.head == nil {
		if x.head, _, err = AppendResponse(nil, fields, end, false); bytes.HasPrefix(x.head, []byte("HTTP/1.1 1")) {
			x.head = nil
		}
	} else {
		x.trailers, err = AppendTrailers(nil, fields)
	}
	if err != nil {
		s.Reset(ProtocolError)
		x.err = err.Error()
		end = true
	}
	c.end(s, x, end)
}

func (c *caller) end(s *Stream, x *call, end bool) {
	if end {
		s.Release()
		close(x.done)
	}
}

func (c *caller) Data(s *Stream, p []byte, end bool) {
	x := s.User.(*call)
	x.got = append(x.got, p...)
	s.Consumed(len(p))
	c.end(s, x, end)
}

func (c *caller) Closed(s *Stream, code Code, unprocessed bool) {
	x := s.User.(*call)
	x.err = "closed: " + code.String() + " " + s.Fault
	c.end(s, x, true)
}

func (c *caller) Writable(s *Stream) {
	x := s.User.(*call)
	x.rest = x.rest[s.WriteData(x.rest, true):]
}

// TestGoServer has a client here talk to the standard library's server.
func TestGoServer(t *testing.T) {
	l := listen(t)
	srv := &http.Server{Protocols: cleartext(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Path")
		w.WriteHeader(103)
		_, err := io.Copy(w, r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Path", r.Host+r.URL.Path)
	})}
	go srv.Serve(l)
	defer srv.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := startPump(nc, func(p *pump) *Conn { return NewClient(Settings{Window: 100_000}, &caller{p}) })
	go p.read()
	var wg sync.WaitGroup
	for _, size := range []int{0, 1, 100, 16384, 16385, 65535, 65536, 1 << 20, 5 << 20} {
		for range 3 {
			wg.Go(func() {
				body := random(size)
				x := &call{rest: body, done: make(chan struct{})}
				p.do(func() {
					var l List
					if _, err := l.Request([]byte("POST /a HTTP/1.1\r\nHost: Example.com\r\nContent-Type: x\r\n\r\n"), false); err != nil {
						t.Error(err)
					}
					s := p.c.Open()
					s.User = x
					s.WriteHeaders(l.Fields, false)
					x.rest = x.rest[s.WriteData(x.rest, true):]
				})
				<-x.done
				if x.err != "" || !bytes.HasPrefix(x.head, []byte("HTTP/1.1 200 OK\r\n")) || !bytes.Equal(x.got, body) {
					t.Errorf("%d bytes: %q, %d bytes back, %s", size, x.head, len(x.got), x.err)
				}
				if string(x.trailers) != "x-path: Example.com/a\r\n" {
					t.Errorf("%d bytes: trailers %q", size, x.trailers)
				}
			})
		}
	}
	wg.Wait()
	p.do(func() {
		if n := p.c.Streams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
		p.c.Close(NoError)
		p.over = true
	})
}
