//go:build !race

package proxy_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestEdgeStreamMemory: what weir holds of event streams is bounded, for those that wait for their next event, and for
// those whose endpoint sends faster than the client reads, which here is not at all. Client and endpoint are in the
// same process: what they hold is in the figures.
func TestEdgeStreamMemory(t *testing.T) {
	quiet := func(written *atomic.Int64) func(*served) {
		return func(s *served) {
			if s.request() != nil {
				_ = s.SetDeadline(time.Time{}) // the others come when the machine has time
				s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n")
				written.Add(1)
				hold(s)
			}
		}
	}
	many := []byte("8000\r\n" + strings.Repeat("data: an event of 32 bytes ......\n"[:31]+"\n", 1024) + "\r\n")
	fast := func(written *atomic.Int64) func(*served) {
		return func(s *served) {
			if s.request() == nil {
				return
			}
			_ = s.SetDeadline(time.Time{})
			s.send(eventsHead + "Transfer-Encoding: chunked\r\n\r\n")
			for {
				k, err := s.Write(many)
				if written.Add(int64(k)); err != nil {
					return
				}
			}
		}
	}
	overHTTP1 := func(t *testing.T, r *running, n int) {
		for range n {
			c := r.dial(t)
			_ = c.Conn.(*net.TCPConn).SetReadBuffer(8 << 10)
			c.send(getting("/events", "Accept: text/event-stream\r\n"))
		}
	}
	overHTTP2 := func(t *testing.T, r *running, n int) {
		const each = 50
		for range n / each {
			f := r.frames(t)
			for range each {
				f.open(plain("GET", "/events"), true)
			}
		}
	}
	for name, c := range map[string]struct {
		endpoint func(*atomic.Int64) func(*served)
		open     func(*testing.T, *running, int)
		n        int64 // a slow one takes 4 MB of the system's memory
		most     int64 // bytes a stream
	}{
		"quiet, HTTP/1.1":        {quiet, overHTTP1, 500, 48 << 10},
		"quiet, HTTP/2":          {quiet, overHTTP2, 500, 48 << 10},
		"slow readers, HTTP/1.1": {fast, overHTTP1, 200, 64 << 10},
		"slow readers, HTTP/2":   {fast, overHTTP2, 200, 96 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			var written atomic.Int64
			ep := newEndpoint(t, c.endpoint(&written))
			r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 200s}", route: "timeouts: {idle: 200s}"})
			before := used()
			c.open(t, r, int(c.n))
			open := func() float64 { return sum(r.metrics(t), "weir_streams") }
			for deadline := time.Now().Add(6 * patience); open() != float64(c.n); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%v streams of %d", open(), c.n)
				}
			}
			for last := int64(-1); last != written.Load(); time.Sleep(500 * time.Millisecond) { // until nothing goes on
				last = written.Load()
			}
			each := (used() - before) / c.n
			t.Logf("%d bytes a stream, with its client and its endpoint, which has written %d", each, written.Load()/c.n)
			if each > c.most {
				t.Errorf("a stream holds %d bytes, want at most %d", each, c.most)
			}
		})
	}
}
