package h2

import (
	"encoding/binary"
	"runtime"
	"testing"
)

// unary is one request and its answer between two Conns in memory, the owners of which are as simple as can be. Heads
// are like those of a proxied inference request: most fields repeat, some change every time.
type unary struct {
	client, server *Conn
	ask, reply     []Field
	body           []byte
	id             []byte
	same           bool
	n              int
	got            int
}

type unaryServer struct{ u *unary }

func (o unaryServer) Headers(s *Stream, fields []Field, end bool) {}

func (o unaryServer) Data(s *Stream, p []byte, end bool) {
	s.Consumed(len(p))
	if end {
		s.WriteHeaders(o.u.reply, false)
		s.WriteData(o.u.body, true)
		s.Release()
	}
}

func (o unaryServer) Closed(*Stream, Code, bool) {}
func (o unaryServer) Writable(*Stream)           {}

type unaryClient struct{ u *unary }

func (o unaryClient) Headers(s *Stream, fields []Field, end bool) {}

func (o unaryClient) Data(s *Stream, p []byte, end bool) {
	s.Consumed(len(p))
	o.u.got += len(p)
	if end {
		s.Release()
	}
}

func (o unaryClient) Closed(*Stream, Code, bool) {}
func (o unaryClient) Writable(*Stream)           {}

func newUnary() *unary {
	u := &unary{body: make([]byte, 1000)}
	u.ask = list(":method: POST", ":scheme: http", ":authority: model.example:8080", ":path: /v2/models/resnet/infer", "content-type: application/json",
		"accept: */*", "user-agent: client/1.2.3", "x-forwarded-for: 10.0.0.1", "x-request-id: ", "content-length: 1000")
	u.reply = list(":status: 200", "content-type: application/json", "server: weir", "x-request-id: ", "content-length: 1000")
	u.id = []byte("00000000000000000000000000000000")
	u.client = NewClient(Settings{}, unaryClient{u})
	u.server = NewServer(Settings{}, unaryServer{u})
	return u
}

func (u *unary) carry() error {
	for len(u.client.Pending())+len(u.server.Pending()) > 0 {
		p := u.client.Pending()
		if err := u.server.Receive(p); err != nil {
			return err
		}
		u.client.Sent(len(p))
		p = u.server.Pending()
		if err := u.client.Receive(p); err != nil {
			return err
		}
		u.server.Sent(len(p))
	}
	return nil
}

func (u *unary) exchange() error {
	u.n++
	if !u.same { // as an owner does whose text is used again
		binary.BigEndian.PutUint64(u.id, uint64(u.n)*0x9e3779b97f4a7c15|0x4040404040404040)
	}
	u.ask[8].Value, u.reply[3].Value = unsafeString(u.id), unsafeString(u.id)
	s := u.client.Open()
	s.WriteHeaders(u.ask, false)
	s.WriteData(u.body, true)
	return u.carry()
}

// TestIdleMemory: what a connection holds that has served requests and has none at present. The two sides' tables of
// fields, which the protocol makes them keep, are most of it.
func TestIdleMemory(t *testing.T) {
	const conns = 500
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what was in pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	measure := func(requests, streams int) int64 {
		before := heap()
		servers := make([]*Conn, conns)
		clients := make([]*unary, conns)
		for i := range servers {
			u := newUnary()
			u.body = u.body[:1]
			u.ask[9].Value, u.reply[4].Value = "1", "1"
			for range requests {
				for range streams - 1 {
					s := u.client.Open()
					s.WriteHeaders(u.ask, false)
					s.WriteData(u.body, true)
				}
				if err := u.exchange(); err != nil {
					t.Fatal(err)
				}
			}
			u.carry()
			servers[i], clients[i] = u.server, u
		}
		both := heap()
		runtime.KeepAlive(clients)
		for i := range servers {
			servers[i].events = nil // and so the client's side
			clients[i] = nil
		}
		one := heap()
		runtime.KeepAlive(servers)
		t.Logf("%d times %d requests: %d bytes for a server's side, %d for a client's and the test", requests, streams, int64(one-before)/conns, int64(both-one)/conns)
		return int64(one-before) / conns
	}
	for _, c := range []struct{ requests, streams, most int }{{0, 0, 1000}, {10, 1, 6000}, {3, 50, 6000}} {
		if got := measure(c.requests, c.streams); got > int64(c.most) {
			t.Errorf("%d times %d requests: %d bytes for an idle server's side, want %d at most", c.requests, c.streams, got, c.most)
		}
	}
}

func BenchmarkUnary(b *testing.B) {
	u := newUnary()
	b.ReportAllocs()
	for b.Loop() {
		if err := u.exchange(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkText is what the proxy adds to each exchange: heads to text and back.
func BenchmarkText(b *testing.B) {
	u := newUnary()
	var l List
	var text []byte
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: weir\r\nX-Request-Id: 0123456789abcdef\r\nContent-Length: 1000\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if text, _, err = AppendRequest(text[:0], u.ask, 1000); err != nil {
			b.Fatal(err)
		}
		if _, err = l.Response(answer); err != nil {
			b.Fatal(err)
		}
	}
}
