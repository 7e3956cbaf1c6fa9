package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// The ways in which an endpoint sends an event stream: its head, a piece of it, and its end.
var eventFramings = map[string]struct {
	head  string
	piece func(s string) string
	end   string
	last  bool // the connection
}{
	"chunked":          {eventsHead + "Transfer-Encoding: chunked\r\n\r\n", func(s string) string { return fmt.Sprintf("%x;ext\r\n%s\r\n", len(s), s) }, "0\r\n\r\n", false},
	"to the end":       {eventsHead + "\r\n", func(s string) string { return s }, "", true},
	"HTTP/1.0":         {"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", func(s string) string { return s }, "", true},
	"a Content-Length": {eventsHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", 5*len(event(1))), func(s string) string { return s }, "", false},
}

const eventsHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"

func event(i int) string { return fmt.Sprintf("id: %d\ndata: token %d\n\n", i, i) }

// TestEdgeEventsArrive: an event leaves weir before its endpoint sends the next, and the head before the first. Each is
// sent when the one before has been read.
func TestEdgeEventsArrive(t *testing.T) {
	for name, f := range eventFramings {
		for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
			t.Run(name+" to "+version, func(t *testing.T) {
				next := make(chan bool)
				ep := newEndpoint(t, func(s *served) {
					for s.request() != nil {
						s.send(f.head)
						for i := range 5 {
							<-next
							s.send(f.piece(event(i)))
						}
						if s.send(f.end); f.last {
							return
						}
					}
				})
				r := start(t, setup{endpoints: []string{ep.addr}})
				c := r.dial(t)
				c.send("GET / " + version + "\r\nHost: h\r\n\r\n")
				res, err := http.ReadResponse(c.br, nil)
				if err != nil || res.StatusCode != 200 {
					t.Fatal(res, err)
				}
				i := 0
				next <- true
				for e, err := range sse.Read(res.Body, nil) {
					if err != nil || e.Data != fmt.Sprintf("token %d", i) || e.LastEventID != fmt.Sprint(i) {
						t.Fatalf("event %d: %+v, %v", i, e, err)
					}
					if n := sum(r.metrics(t), "weir_streams", `route="all"`); i < 4 && n != 1 {
						t.Errorf("%v streams under way, want 1", n)
					}
					if i++; i < 5 {
						next <- true
					}
				}
				if i != 5 {
					t.Errorf("%d events, want 5", i)
				}
				eventually(t, "the end of the stream", func() bool { return sum(r.metrics(t), "weir_streams", `route="all"`) == 0 })
				m := r.metrics(t)
				first, gaps := sum(m, "weir_time_to_first_byte_seconds", `variant="blue"`), sum(m, "weir_stream_gap_seconds", `variant="blue"`)
				if first != 1 || gaps != 4 {
					t.Errorf("%v first bytes and %v gaps counted, want 1 and 4", first, gaps)
				}
				route, _ := r.Route("all")
				if v := route.Variants[0]; v.FirstByteP50 == nil || v.FirstByteP99 == nil || v.Streams != 0 {
					t.Errorf("the status: %+v", v)
				}
			})
		}
	}
}

// TestEdgeChunksArrive: so do the chunks of any other answer, of which the time to the first byte is known, too.
func TestEdgeChunksArrive(t *testing.T) {
	next := make(chan bool)
	ep := newEndpoint(t, func(s *served) {
		for s.request() != nil {
			s.send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 3 {
				<-next
				s.send("3\r\n{}\n\r\n")
			}
			s.send("0\r\n\r\n")
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	res, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		next <- true
		var b [3]byte
		if _, err := io.ReadFull(res.Body, b[:]); err != nil || string(b[:]) != "{}\n" {
			t.Fatalf("line %d: %q, %v", i, b, err)
		}
	}
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("behind the last: %q, %v", rest, err)
	}
	m := r.metrics(t)
	if first, gaps := sum(m, "weir_time_to_first_byte_seconds", `variant="blue"`), sum(m, "weir_stream_gap_seconds"); first != 1 || gaps != 0 {
		t.Errorf("%v first bytes and %v gaps counted, want 1 and none", first, gaps)
	}
}

// TestEdgeOrdinaryAnswersHaveNoFirstByte: what has a Content-Length costs no more than before.
func TestEdgeOrdinaryAnswersHaveNoFirstByte(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	r.dial(t).get("/")
	if n := sum(r.metrics(t), "weir_time_to_first_byte_seconds"); n != 0 {
		t.Errorf("%v first bytes counted, want none", n)
	}
}

// eventsOf are the events of a stream as the standard has them, by a parser that is not weir's. What is unfinished when
// the stream breaks off, is none.
func eventsOf(stream string) (events []sse.Event) {
	for e, err := range sse.Read(io.MultiReader(strings.NewReader(stream), failing{}), nil) {
		if err == nil {
			events = append(events, e)
		}
	}
	return events
}

// allEvents is a stream with everything that may stand in one.
const allEvents = ": hello\n\ndata: ä\nid: 1\n\n:c\nevent: x\r\ndata: y\r\ndata: z\r\n\r\n: ping\r\n\nretry: 5\ndata\n\ndata: [DONE]\n\n"

// boundaries are the lengths of what may be sent of allEvents so that no event has begun and is not whole.
func boundaries() map[int]bool {
	at := map[int]bool{0: true}
	for i := range len(": hello\n\n") {
		at[i+1] = true
	}
	mark := func(after string) {
		n := strings.Index(allEvents, after) + len(after)
		at[n] = true
	}
	mark("id: 1\n\n")
	for _, s := range []string{":", ":c", ":c\n"} {
		mark("id: 1\n\n" + s)
	}
	for _, s := range []string{"\r", "\r\n", "\r\n:", "\r\n: ", "\r\n: p", "\r\n: pi", "\r\n: pin", "\r\n: ping", "\r\n: ping\r", "\r\n: ping\r\n", "\r\n: ping\r\n\n"} {
		mark("data: z\r\n" + s)
	}
	mark("data\n\n")
	mark("[DONE]\n\n")
	return at
}

// TestEdgeBrokenEvents breaks a stream off behind each of its bytes: the client gets the events that are whole, and
// one that says what has happened unless it would be taken for the rest of another; and the answer never ends as if it
// were whole.
func TestEdgeBrokenEvents(t *testing.T) {
	at := boundaries()
	for _, framing := range []string{"chunked", "to the end"} {
		f := eventFramings[framing]
		cut := make(chan int, 1)
		ep := newEndpoint(t, func(s *served) {
			if s.request() == nil {
				return
			}
			n := <-cut
			s.send(f.head)
			if n > 0 {
				s.send(f.piece(allEvents[:(n+1)/2]))
			}
			if n > 1 {
				s.send(f.piece(allEvents[(n+1)/2 : n]))
			}
			s.Conn.(*net.TCPConn).SetLinger(0)
		})
		r := start(t, setup{endpoints: []string{ep.addr}, pool: "outlier: off"})
		for n := range len(allEvents) + 1 {
			cut <- n
			c := r.dial(t)
			c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			res, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", framing, n, err)
			}
			raw, err := io.ReadAll(res.Body)
			got, sent := eventsOf(string(raw)), string(raw)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d bytes: the answer ended with %v", framing, n, err)
			}
			if !strings.HasPrefix(allEvents, sent) { // a reset may take what the client has not been sent yet
				sent, _, _ = strings.Cut(sent, "event: error")
				if m := len(strings.TrimSuffix(sent, "\n")); !at[len(sent)] && !at[m] {
					t.Fatalf("%s, %d bytes: an error behind %q", framing, n, sent)
				}
				last := got[len(got)-1]
				got = got[:len(got)-1]
				var said struct{ Error, Code, RequestID string }
				if err := json.Unmarshal([]byte(strings.Replace(last.Data, "request_id", "RequestID", 1)), &said); err != nil || last.Type != "error" ||
					said.Code != "bad_gateway" || said.Error == "" || said.RequestID != res.Header.Get("X-Request-ID") {
					t.Errorf("%s, %d bytes: the last event is %+v (%v)", framing, n, last, err)
				}
			} else if at[len(sent)] {
				t.Errorf("%s: no error behind %q", framing, sent)
			}
			whole := eventsOf(sent)
			if fmt.Sprint(got) != fmt.Sprint(whole) {
				t.Errorf("%s, %d bytes: events %+v, want %+v", framing, n, got, whole)
			}
		}
		if n := sum(r.metrics(t), "weir_attempts_total", `outcome="reset"`); n != float64(len(allEvents)+1) {
			t.Errorf("%s: %v attempts were reset, want %d", framing, n, len(allEvents)+1)
		}
	}
}

// failing is what comes behind the part of a stream that arrived.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestEdgeBrokenEventsElsewhere: where nothing may be said behind what was sent, the answer is only cut; and a request
// whose answer has begun is not sent to another endpoint.
func TestEdgeBrokenEventsElsewhere(t *testing.T) {
	for _, c := range []struct {
		name, request, response string
		more                    string // once that has arrived
		route, code             string
		stay                    bool // the endpoint says nothing more
	}{
		{name: "an idle endpoint", response: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n", route: "timeouts: {idle: 100ms}", code: "timeout", stay: true},
		{name: "in the middle of a chunk", response: eventsHead + "Transfer-Encoding: chunked\r\n\r\n99\r\ndata: a\n\n", code: "bad_gateway"},
		{name: "a malformed chunk", response: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n", more: "X\r\n", code: "bad_gateway"},
		{name: "turned off", response: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n", route: "stream: {error_event: false}"},
		{name: "a Content-Length", response: eventsHead + "Content-Length: 20\r\n\r\ndata: a\n\n"},
		{name: "an HTTP/1.0 client", request: "GET / HTTP/1.0\r\nHost: h\r\n\r\n", response: eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n"},
		{name: "no event stream", response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(chan bool, 2)
			script := func(s *served) {
				if s.request() == nil {
					return
				}
				s.send(c.response)
				<-seen
				if s.send(c.more); c.stay {
					io.Copy(io.Discard, s.br)
				}
			}
			a, b := newEndpoint(t, script), newEndpoint(t, script)
			r := start(t, setup{endpoints: []string{a.addr, b.addr}, route: c.route + "\nretry: {attempts: 5, on: [connect, reset, timeout, protocol]}"})
			cl := r.dial(t)
			if c.request == "" {
				c.request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
			}
			cl.send(c.request)
			res, err := http.ReadResponse(cl.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			begin := make([]byte, len("data: a\n\n"))
			if _, err := io.ReadFull(res.Body, begin); err != nil {
				t.Fatal(err)
			}
			close(seen)
			body, err := io.ReadAll(res.Body)
			body = append(begin, body...)
			if err == nil {
				t.Errorf("the answer ended as if it were whole: %q", body)
			}
			text, said, _ := strings.Cut(string(body), "event: error\n")
			if text != "data: a\n\n" || c.code == "" && said != "" || c.code != "" && !strings.Contains(said, `"code":"`+c.code+`"`) {
				t.Errorf("the client got %q", body)
			}
			cl.closed()
			if n := len(a.got()) + len(b.got()); n != 1 {
				t.Errorf("the endpoints got %d requests, want 1", n)
			}
		})
	}
}

// TestEdgeEventsAreRetriedBeforeThem: until the first byte of an answer has left, another endpoint may give it.
func TestEdgeEventsAreRetriedBeforeThem(t *testing.T) {
	dead := newEndpoint(t, func(s *served) {
		s.request()
		s.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-st")
	})
	live := newEndpoint(t, func(s *served) {
		for s.request() != nil {
			s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n")
		}
	})
	r := start(t, setup{endpoints: []string{dead.addr, live.addr}})
	for range 4 {
		if m := r.dial(t).get("/"); m.status() != 200 || string(m.body) != "data: a\n\n" {
			t.Errorf("%q: %q", m.start, m.body)
		}
	}
	if len(dead.got()) == 0 {
		t.Error("the first endpoint was never asked")
	}
}

// TestEdgeEventsWhileStopping: a stream runs on while weir stops, as long as that may take, and is then cut off.
func TestEdgeEventsWhileStopping(t *testing.T) {
	for _, ends := range []bool{true, false} {
		next := make(chan bool)
		ep := newEndpoint(t, func(s *served) {
			s.request()
			s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n")
			if <-next {
				s.send("9\r\ndata: b\n\n\r\n0\r\n\r\n")
			}
			io.Copy(io.Discard, s.br)
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c := r.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		res, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		var first [9]byte
		if _, err := io.ReadFull(res.Body, first[:]); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan error, 1)
		go func() { stopped <- r.Shutdown(ctx) }()
		eventually(t, "the end of accepting", func() bool { return !r.Ready() })
		if s := r.Status(); s.Routes[0].Variants[0].Streams != 1 || s.Pools[0].Inflight != 1 {
			t.Errorf("while weir stops: %+v", s)
		}
		if ends {
			next <- true
		} else {
			cancel()
		}
		rest, err := io.ReadAll(res.Body)
		if (err == nil) != ends || ends && string(rest) != "data: b\n\n" {
			t.Errorf("the rest of the stream: %q, %v; its end was to come: %v", rest, err, ends)
		}
		if err := <-stopped; (err == nil) != ends {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		close(next)
	}
}

// TestEdgeEventsWhileDraining: an endpoint that drains keeps its streams, and they count.
func TestEdgeEventsWhileDraining(t *testing.T) {
	next := make(chan bool)
	ep := newEndpoint(t, func(s *served) {
		s.request()
		s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n")
		<-next
		s.send("9\r\ndata: a\n\n\r\n0\r\n\r\n")
		io.Copy(io.Discard, s.br)
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := c.readHead(); err != nil {
		t.Fatal(err)
	}
	change := proxy.Update{Kind: state.KindDrain, Drains: []state.DrainChange{{Pool: "blue", Endpoint: ep.addr, Draining: true}}, Force: true}
	if _, err := r.Update(change); err != nil {
		t.Fatal(err)
	}
	if s, _ := r.Pool("blue"); !s.Endpoints[0].Draining || s.Endpoints[0].Inflight != 1 {
		t.Errorf("while it drains: %+v", s.Endpoints[0])
	}
	next <- true
	if line, err := c.readLine(); err != nil || line != "9" {
		t.Errorf("after the drain: %q, %v", line, err)
	}
	eventually(t, "the end of the stream", func() bool { s, _ := r.Pool("blue"); return s.Endpoints[0].Inflight == 0 })
}

// TestEdgeSlowReadersOfEvents: a thousand clients (two hundred under the race detector) that read nothing of endless
// streams cost what their buffers hold. Those of the sockets at both ends are small, so that they fill soon.
func TestEdgeSlowReadersOfEvents(t *testing.T) {
	const most = 192 << 10
	streams := enginetest.Scaled(1000, 200)
	piece := []byte(eventFramings["chunked"].piece("data: " + strings.Repeat("x", 16<<10) + "\n\n"))
	var written atomic.Int64
	ep := newEndpoint(t, func(s *served) {
		s.request()
		s.SetDeadline(time.Time{})
		if c, ok := s.Conn.(*net.TCPConn); ok {
			_ = c.SetWriteBuffer(16 << 10)
		}
		s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n")
		for {
			n, err := s.Write(piece)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := inUse()
	clients := make([]io.Closer, streams)
	for i := range clients {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		clients[i] = c
	}
	open := func() float64 { return sum(r.metrics(t), "weir_streams", `route="all"`) }
	eventually(t, "all streams", func() bool { return open() == float64(streams) })
	last, moved := int64(0), time.Now()
	eventually(t, "the streams to stand still", func() bool {
		if n := written.Load(); n != last {
			last, moved = n, time.Now()
		}
		return time.Since(moved) > 300*time.Millisecond
	})
	each := (inUse() - before) / int64(streams)
	t.Logf("%d bytes of memory for each stream", each)
	if each > most {
		t.Errorf("%d bytes of memory for each stream, want at most %d", each, most)
	}
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "the end of all streams", func() bool { return open() == 0 })
	ep.noneOpen(t)
}
