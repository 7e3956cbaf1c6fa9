package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"weir/config"
)

// TestHTTP2GoAwayUnderLoad: an endpoint that ends its connections all the time, in an orderly way, loses no request and
// gets none twice, POSTs among them.
func TestHTTP2GoAwayUnderLoad(t *testing.T) {
	var asked atomic.Int64
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		if asked.Add(1)%20 == 0 {
			w.Header().Set("Connection", "close") // net/http's way to GOAWAY
		}
		echo(w, q)
	})
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {connect_timeout: 10s}"})
	const clients, each = 16, 60
	var running sync.WaitGroup
	for i := range clients {
		c := r.dial(t)
		running.Go(func() {
			for n := range each {
				body := fmt.Sprintf("%d/%d", i, n)
				if m, err := c.post(body); err != nil || m.status() != 200 || string(m.body) != body {
					t.Errorf("%s: %+v, %v", body, m, err)
					return
				}
			}
		})
	}
	running.Wait()
	values := r.metrics(t)
	if n := asked.Load(); n != clients*each {
		t.Errorf("the endpoint was asked %d times for %d requests", n, clients*each)
	}
	if n := sum(values, "weir_retries_total"); n != 0 {
		t.Errorf("%v retries", n)
	}
	if n, ended := sum(values, "weir_endpoint_http2_connections_total"), sum(values, "weir_endpoint_http2_goaways_total"); ended < 10 || n > ended+2 || n != float64(e.accepted.Load()) {
		t.Errorf("%v connections, of which %v ended by GOAWAY; the endpoint accepted %d", n, ended, e.accepted.Load())
	}
}

// TestHTTP2FewStreams: requests beyond what an endpoint takes at one time wait for their turn, and none is refused.
func TestHTTP2FewStreams(t *testing.T) {
	var now, most atomic.Int64
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		echo(w, q)
		now.Add(-1)
	}, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {max: 2, connect_timeout: 10s}"})
	var running sync.WaitGroup
	for range 20 {
		c := r.dial(t)
		running.Go(func() {
			for range 10 {
				if m, err := c.post("x"); err != nil || m.status() != 200 {
					t.Errorf("%+v, %v", m, err)
					return
				}
			}
		})
	}
	running.Wait()
	if most.Load() > 2 || e.accepted.Load() > 2 || e.requests.Load() != 200 {
		t.Errorf("%d requests at one time over %d connections, want at most 2; %d in all, want 200", most.Load(), e.accepted.Load(), e.requests.Load())
	}
}

// TestHTTP2SettingsChange: what an endpoint allows may change at any time.
func TestHTTP2SettingsChange(t *testing.T) {
	asked, changed, answered := make(chan uint32, 10), make(chan struct{}), make(chan struct{})
	e := newFramed(t, func(f *framed) {
		first, _ := f.request()
		asked <- first
		<-changed
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
		for range 2 {
			id, _ := f.request()
			asked <- id
		}
		<-answered
		for id := first; id < first+6; id += 2 {
			f.ok(id)
		}
		f.serve()
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {max: 1, connect_timeout: 10s}"})
	var running sync.WaitGroup
	for range 5 {
		c := r.dial(t)
		running.Go(func() {
			if m, err := c.post("x"); err != nil || m.status() != 200 {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	<-asked
	close(changed)
	<-asked
	<-asked
	close(answered)
	running.Wait()
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestHTTP2SmallWindows: bodies go as the endpoint's windows allow, which begin at nothing here and change.
func TestHTTP2SmallWindows(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 5_000)
	got := make(chan []byte, 1)
	e := newFramed(t, func(f *framed) {
		h, _ := f.frame().(*http2.MetaHeadersFrame)
		if h == nil {
			return
		}
		var all []byte
		take := func(upTo int) (end bool) {
			for len(all) < upTo {
				d, ok := f.frame().(*http2.DataFrame)
				if !ok {
					return true
				}
				if all = append(all, d.Data()...); d.StreamEnded() {
					return true
				}
			}
			return false
		}
		_ = f.WriteWindowUpdate(h.StreamID, 1)
		take(1)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		take(101)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}) // which makes it negative
		_ = f.WriteWindowUpdate(h.StreamID, 1<<20)
		take(len(body))
		got <- all
		f.ok(h.StreamID)
		f.serve()
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c := overH2(t, e, setup{}).dial(t)
	if m, err := c.post(string(body)); err != nil || m.status() != 200 {
		t.Fatalf("%+v, %v", m, err)
	}
	if b := <-got; !bytes.Equal(b, body) {
		t.Errorf("the endpoint got %d bytes, want %d", len(b), len(body))
	}
}

// TestHTTP2ConnectionDies: all of its requests end, and the next one has another connection.
func TestHTTP2ConnectionDies(t *testing.T) {
	const clients = 100
	e := newFramed(t, func(f *framed) {
		if f.n > 1 {
			f.serve()
			return
		}
		for range clients {
			if id, _ := f.request(); id == 0 {
				t.Error("not all requests came")
			}
		}
	})
	r := overH2(t, e, setup{route: "retry: off", pool: "outlier: off"})
	var running sync.WaitGroup
	for range clients {
		c := r.dial(t)
		running.Go(func() {
			if m, err := c.post("x"); err != nil || m.status() != 502 {
				t.Errorf("%+v, %v; want 502", m, err)
			}
		})
	}
	running.Wait()
	if m, err := r.dial(t).post("x"); err != nil || m.status() != 200 {
		t.Errorf("after it: %+v, %v", m, err)
	}
	if n := sum(r.metrics(t), "weir_endpoint_http2_streams"); n != 0 {
		t.Errorf("%v streams are left", n)
	}
	eventually(t, "one connection", func() bool { return sum(r.metrics(t), "weir_endpoint_connections") == 1 })
}

// TestHTTP2DeadEndpointIsFoundByPing: an answer from an endpoint that has stopped to do anything does not end, and the
// client can tell; also where it waits for the head.
func TestHTTP2DeadEndpointIsFoundByPing(t *testing.T) {
	alongside(t)
	e := newFramed(t, func(f *framed) {
		f.deaf = true
		f.request()
		id, _ := f.request()
		f.head(id, false, ":status", "200")
		_ = f.WriteData(id, false, []byte("some"))
		for f.frame() != nil {
		}
	})
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {keepalive: 1s, keepalive_timeout: 1s}"})
	var running sync.WaitGroup
	for range 2 {
		c := r.dial(t)
		running.Go(func() {
			if m, err := c.post("x"); err == nil && m.status() != 502 {
				t.Errorf("whole: %+v", m)
			}
		})
	}
	running.Wait()
	if n := sum(r.metrics(t), "weir_endpoint_http2_ping_timeouts_total"); n != 1 {
		t.Errorf("%v connections were given up, want 1", n)
	}
	if n := r.outcomes(t, "reset"); n != 2 {
		t.Errorf("%d attempts count as reset, want 2", n)
	}
}

// TestHTTP2LivingEndpointIsLeftAlone: one that answers PINGs may take as long as it likes.
func TestHTTP2LivingEndpointIsLeftAlone(t *testing.T) {
	alongside(t)
	pings := make(chan struct{}, 100)
	e := newFramed(t, func(f *framed) {
		id, _ := f.request()
		for n := 0; n < 3; {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if p, ok := fr.(*http2.PingFrame); ok {
				n++
				pings <- struct{}{}
				_ = f.WritePing(true, p.Data)
			}
		}
		f.ok(id)
		f.serve()
	})
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {keepalive: 1s, keepalive_timeout: 1s}"})
	if m, err := r.dial(t).post("x"); err != nil || m.status() != 200 || len(pings) < 3 {
		t.Errorf("%+v, %v after %d PINGs", m, err, len(pings))
	}
}

// TestHTTP2EarlyAnswer: an answer that does not wait for the body goes on at once, and the upload ends.
func TestHTTP2EarlyAnswer(t *testing.T) {
	for name, end := range map[string]func(f *framed, id uint32){
		"no error": func(f *framed, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeNo) },
		"no reset": func(f *framed, id uint32) {},
	} {
		t.Run(name, func(t *testing.T) {
			reset := make(chan bool, 1)
			e := newFramed(t, func(f *framed) {
				h, _ := f.frame().(*http2.MetaHeadersFrame)
				if h == nil {
					return
				}
				f.head(h.StreamID, false, ":status", "413", "content-length", "5")
				_ = f.WriteData(h.StreamID, true, []byte("large"))
				end(f, h.StreamID)
				for fr := f.frame(); fr != nil; fr = f.frame() {
					if _, ok := fr.(*http2.RSTStreamFrame); ok {
						reset <- true
					}
				}
			})
			c := overH2(t, e, setup{route: "retry: off"}).dial(t)
			c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 1<<20))
			m := c.answer("POST")
			if m.status() != 413 || string(m.body) != "large" {
				t.Errorf("%+v", m)
			}
			if name == "no reset" {
				<-reset
			}
		})
	}
}

// TestHTTP2SlowReader: what a slow client leaves unread is bounded, and holds up nobody else on the connection.
func TestHTTP2SlowReader(t *testing.T) {
	var sent atomic.Int64
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/quick" {
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
			return
		}
		piece := make([]byte, 64<<10)
		for {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	r := overH2(t, e, setup{})
	const slow = 40
	for range slow {
		r.dial(t).send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	eventually(t, "all slow answers", func() bool { return e.requests.Load() == slow })
	for last := int64(-1); last != sent.Load(); { // until nothing moves
		last = sent.Load()
		quick := r.dial(t)
		for range 5 {
			if m := quick.get("/quick"); m.status() != 200 || len(m.body) != 100_000 {
				t.Fatalf("%d, %d bytes", m.status(), len(m.body))
			}
		}
	}
	// 256 KiB are weir's window, 256 KiB of it may be on their way through weir; the rest are sockets' buffers.
	if per := sent.Load() / slow; per > 12<<20 {
		t.Errorf("the endpoint sent %d bytes to a client that reads nothing", per)
	}
	if n := e.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestHTTP2Reload: the protocol of a pool may change, and back.
func TestHTTP2Reload(t *testing.T) {
	e := newH2C(t, echo)
	r := overH2(t, e, setup{route: "retry: off"})
	c := r.dial(t)
	apply := func(protocol string) {
		t.Helper()
		cfg := parse(t, strings.Replace(r.yaml, "protocol: http2", "protocol: "+protocol, 1))
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if m, err := c.post("a"); err != nil || m.status() != 200 {
			t.Fatalf("%+v, %v", m, err)
		}
		apply(config.ProtocolHTTP1)
		eventually(t, "the end of HTTP/2 connections", func() bool { return sum(r.metrics(t), "weir_endpoint_connections") == 0 })
		if m, err := c.post("b"); err != nil || m.status() == 200 {
			t.Fatalf("by HTTP/1.1 to one that speaks only HTTP/2: %+v, %v", m, err)
		}
		apply(config.ProtocolHTTP2)
	}
	if m, err := c.post("a"); err != nil || m.status() != 200 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestHTTP2IdleConnectionsEnd: of those that have nothing to do, as many stay as connections.idle says, and none of an
// endpoint that drains.
func TestHTTP2IdleConnectionsEnd(t *testing.T) {
	hold := make(chan struct{})
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		<-hold
		echo(w, q)
	})
	r := overH2(t, e, setup{pool: "connections: {streams: 1, idle: 2, connect_timeout: 10s}"})
	open := func(n float64) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " open connections"), func() bool { return sum(r.metrics(t), "weir_endpoint_connections") == n })
	}
	var running sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		running.Go(func() {
			if m, err := c.post("x"); err != nil || m.status() != 200 {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	open(8)
	close(hold)
	running.Wait()
	open(2)
	cfg := parse(t, strings.Replace(r.yaml, "idle: 2", "idle: 0", 1))
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	open(0)
}

// TestHTTP2OneConnectionForAllLoops: lanes do not share connections; where fewer are allowed than there are lanes, they
// take turns.
func TestHTTP2OneConnectionForAllLoops(t *testing.T) {
	e := newH2C(t, echo)
	r := overH2(t, e, setup{route: "retry: off", pool: "connections: {max: 1, connect_timeout: 20s}", options: fourLoops})
	var running sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		running.Go(func() {
			for range 20 {
				if m, err := c.post("x"); err != nil || m.status() != 200 {
					t.Errorf("%+v, %v", m, err)
					return
				}
			}
		})
	}
	running.Wait()
}
