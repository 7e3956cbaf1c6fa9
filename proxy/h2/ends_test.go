package h2

import (
	"net"
	"strconv"
	"sync"
)

// pump is a Conn over a socket: the owner that tests need, with a lock and a goroutine for each direction. It
// stands for the two of the proxy.
type pump struct {
	mu   sync.Mutex
	c    *Conn
	net  net.Conn
	more *sync.Cond // something is pending, or it is over
	over bool
}

func startPump(nc net.Conn, make func(*pump) *Conn) *pump {
	p := &pump{net: nc}
	p.more = sync.NewCond(&p.mu)
	p.c = make(p)
	go p.write()
	return p
}

// do runs f as the owner.
func (p *pump) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.more.Broadcast()
}

// read runs until the input ends or is refused.
func (p *pump) read() {
	buf := make([]byte, 16<<10)
	for {
		n, err := p.net.Read(buf)
		p.do(func() {
			if e := p.c.Receive(buf[:n]); e != nil {
				err = e
			} else if err != nil {
				p.c.Close(NoError)
			}
			p.over = err != nil
		})
		if err != nil {
			return
		}
	}
}

// write sends what is pending, and closes the connection when it is over.
func (p *pump) write() {
	defer p.net.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		b := p.c.Pending()
		if len(b) == 0 {
			if p.over || p.c.Drained() {
				return
			}
			p.more.Wait()
			continue
		}
		p.mu.Unlock()
		_, err := p.net.Write(b)
		p.mu.Lock()
		if err != nil {
			p.c.Close(NoError)
			p.over = true
			return
		}
		p.c.Sent(len(b))
	}
}

// echo answers each request with its own body, as it comes, and with its trailers.
type echo struct{ bad int }

// echoed is what of a stream's body is on its way back.
type echoed struct {
	rest     []byte
	trailers []Field
	end      bool
}

func (e *echo) Headers(s *Stream, fields []Field, end bool) {
	x, _ := s.User.(*echoed)
	if x == nil {
		x = &echoed{}
		s.User = x
		if end {
			x.rest = append(x.rest, "hello"...) // h2spec wants to see DATA
		}
		e.head(s, fields, end)
	} else {
		if _, err := AppendTrailers(nil, fields); err != nil {
			s.Reset(ProtocolError)
		}
		x.trailers = append(x.trailers, fields...)
	}
	x.end = end
	e.Writable(s)
}

func (e *echo) head(s *Stream, fields []Field, end bool) {
	if s.TooLarge {
		s.WriteHeaders([]Field{{Name: ":status", Value: "431"}}, true)
		return
	}
	body := Chunked
	if end {
		body = NoBody
	}
	text, body, err := AppendRequest(nil, fields, body)
	if err != nil {
		e.bad++
		s.Reset(ProtocolError)
		return
	}
	answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Head: " + strconv.Itoa(len(text)) + "\r\n"
	if body >= 0 {
		answer += "Content-Length: " + strconv.Itoa(int(body)) + "\r\n"
	}
	var l List
	if _, err := l.Response([]byte(answer + "\r\n")); err != nil {
		panic(err)
	}
	s.WriteHeaders(l.Fields, false)
}

func (e *echo) Data(s *Stream, p []byte, end bool) {
	x := s.User.(*echoed)
	x.rest = append(x.rest, p...)
	x.end = end
	e.Writable(s)
}

func (e *echo) Writable(s *Stream) {
	x := s.User.(*echoed)
	if !s.Open() {
		return
	}
	n := s.WriteData(x.rest, x.end && x.trailers == nil)
	s.Consumed(n)
	x.rest = append(x.rest[:0], x.rest[n:]...)
	if len(x.rest) > 0 || !x.end {
		return
	}
	if x.trailers != nil {
		s.WriteHeaders(x.trailers, true)
	}
	if !s.Open() {
		s.Release()
	}
}

func (e *echo) Closed(s *Stream, code Code, unprocessed bool) { s.Release() }

// serveEcho serves every connection of l, until l is closed.
func serveEcho(l net.Listener, settings Settings) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		p := startPump(nc, func(*pump) *Conn { return NewServer(settings, &echo{}) })
		go p.read()
	}
}
