package admin

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/control"
)

var byTest = control.Change{Cause: proxy.Cause{By: "tester", Reason: "a test"}}

// TestEvents reads a stream for longer than a request may take.
func TestEvents(t *testing.T) {
	over, client := overTLS(t)
	for proto, transport := range map[string]http.RoundTripper{"HTTP/1.1": http.DefaultTransport, "HTTP/2.0": client} {
		t.Run(proto, func(t *testing.T) {
			options := []func(*Options, *Server){impatient}
			if transport == client {
				options = append(options, over)
			}
			a := start(t, options...)
			if transport == client {
				a.url = "https" + strings.TrimPrefix(a.url, "http")
			}
			change := func(green int) {
				t.Helper()
				if _, err := a.SetWeights("predict", map[string]float64{"blue": 1, "green": float64(green)}, byTest); err != nil {
					t.Fatal(err)
				}
			}
			change(1)
			r := a.streamBy(transport, "")
			if r.resp.Proto != proto {
				t.Fatalf("over %s", r.resp.Proto)
			}
			r.start()
			change(2)
			if c, _ := want[state.Change](r, "change"); c.Generation != 3 || c.Kind != "weights" || c.By != "tester" || c.Routes[0].After[1].Weight != 2 {
				t.Errorf("%+v", c)
			}
			time.Sleep(600 * time.Millisecond)
			change(3)
			if c, _ := want[state.Change](r, "change"); c.Generation != 4 {
				t.Errorf("%+v", c)
			}
			if r.other[0] != "retry: 2000" || !slices.Contains(r.other, ": still here") {
				t.Errorf("besides the events: %q", r.other)
			}
			a.ReloadFailed("SIGHUP", []string{"line 1:\nwrong"})
			if f, _ := want[map[string]any](r, "reload_failed"); f["by"] != "SIGHUP" || f["faults"].([]any)[0] != "line 1:\nwrong" {
				t.Errorf("%v", f)
			}
		})
	}
}

func TestEventsGoOn(t *testing.T) {
	a := start(t)
	r := a.stream("")
	ids := []string{r.start()}
	for n := range 3 {
		a.ReloadFailed("tester", []string{fmt.Sprint(n)})
		_, id := want[any](r, "reload_failed")
		ids = append(ids, id)
	}
	for after, id := range ids {
		for way, again := range map[string]*reader{
			"header":           a.stream("", "Last-Event-ID", id),
			"query":            a.stream("?last_event_id=" + id),
			"header and query": a.stream("?last_event_id=none", "Last-Event-ID", id),
		} {
			for n := after; n < 3; n++ {
				if f, got := want[map[string]any](again, "reload_failed"); got != ids[n+1] || f["faults"].([]any)[0] != fmt.Sprint(n) {
					t.Errorf("%s, after event %d: %s %v", way, after, got, f)
				}
			}
			if after < 3 {
				continue
			}
			a.ReloadFailed("later", nil)
			if f, _ := want[map[string]any](again, "reload_failed"); f["by"] != "later" {
				t.Errorf("%s, what comes: %v", way, f)
			}
			break // the others have it among those they missed
		}
	}
	for _, unknown := range []string{"x", "-", "0-1", ids[3] + "000"} {
		again := a.stream("", "Last-Event-ID", unknown)
		lost, id := want[map[string]string](again, "lost")
		if !strings.Contains(lost["why"], "read the state again") {
			t.Errorf("%s: %v", unknown, lost)
		}
		a.ReloadFailed("after "+unknown, nil)
		f, next := want[map[string]any](again, "reload_failed")
		if f["by"] != "after "+unknown || next == id {
			t.Errorf("%s: %v", unknown, f)
		}
	}
}

func TestEventsOfSomeTypes(t *testing.T) {
	a := start(t, impatient)
	ramps := a.stream("?types=ramp")
	both := a.stream("?types=change,ramp")
	twice := a.stream("?types=change&types=reload_failed")
	first := ramps.start()
	both.start()
	twice.start()
	if _, err := a.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, byTest); err != nil {
		t.Fatal(err)
	}
	_, id := want[state.Change](both, "change")
	want[state.Change](twice, "change")
	// What it did not ask for moves its place on: else it would come back to events that are forgotten.
	if e, ok := ramps.next(); !ok || e != (event{id: id}) || id == first {
		t.Errorf("%+v, want the ID %s alone", e, id)
	}
	a.ReloadFailed("tester", nil)
	want[any](twice, "reload_failed")
	if _, err := a.Ramp("predict", map[string]float64{"blue": 0, "green": 1}, time.Hour, byTest); err != nil {
		t.Fatal(err)
	}
	want[state.Change](both, "change")
	want[any](both, "ramp")
	if e, _ := want[map[string]any](ramps, "ramp"); e["state"] != "started" {
		t.Errorf("%v", e)
	}
	want[any](a.stream("?types=health", "Last-Event-ID", "unknown"), "lost")
	for _, query := range []string{"?types=", "?types=changes", "?types=change,,ramp", "?types=lost", "?types=change&types=x"} {
		resp, body := do(t, a.url, call{method: "GET", path: "/api/v1/events" + query})
		checkFailure(t, resp, body, 400, "bad_request", "have certificate, change, circuit_breaker, ejection, health, ramp, reload_failed")
	}
}

func TestHeadOfTheEvents(t *testing.T) {
	a := start(t)
	resp, body := do(t, a.url, call{method: "HEAD", path: "/api/v1/events"})
	if resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}
	eventually(t, "its place is free", func() bool { return len(a.server.streams.places) == 0 })
}

func TestStreamsAreCounted(t *testing.T) {
	a := start(t, func(_ *Options, s *Server) {
		if s != nil {
			s.streams.places = make(chan struct{}, 2)
		}
	})
	first, second := a.stream(""), a.stream("")
	resp, body := do(t, a.url, call{method: "GET", path: "/api/v1/events"})
	checkFailure(t, resp, body, 503, "too_many_streams", "2 event streams")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	_ = first.resp.Body.Close() // goes away
	eventually(t, "a place is free", func() bool { return len(a.server.streams.places) == 1 })
	third := a.stream("")
	third.start()
	second.start()
	if got := cap(newStreams().places); got != 100 {
		t.Errorf("%d streams", got)
	}
}

// TestStreamsEndWhenWeirStops wants each to end as an answer ends, and soon.
func TestStreamsEndWhenWeirStops(t *testing.T) {
	over, client := overTLS(t)
	for name, stop := range map[string]func(*api){
		"Shutdown": func(a *api) { a.stop() },
		"Controller.Close": func(a *api) {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		for proto, transport := range map[string]http.RoundTripper{"HTTP/1.1": http.DefaultTransport, "HTTP/2.0": client} {
			t.Run(name+" "+proto, func(t *testing.T) {
				var options []func(*Options, *Server)
				if transport == client {
					options = append(options, over)
				}
				a := start(t, options...)
				if transport == client {
					a.url = "https" + strings.TrimPrefix(a.url, "http")
				}
				var readers []*reader
				for range 3 {
					r := a.streamBy(transport, "")
					r.start()
					readers = append(readers, r)
				}
				began := time.Now()
				stop(a)
				for _, r := range readers {
					if e, ok := r.next(); ok {
						t.Errorf("an event: %+v", e)
					}
				}
				if took := time.Since(began); took > 1500*time.Millisecond {
					t.Errorf("it took %s", took)
				}
				if transport == client {
					client.CloseIdleConnections()
				}
			})
		}
	}
}

// TestASlowReaderIsNotWaitedFor has readers that take nothing, in three ways.
func TestASlowReaderIsNotWaitedFor(t *testing.T) {
	over, client := overTLS(t)
	brief := func(_ *Options, s *Server) {
		if s != nil {
			s.streams.patience = 100 * time.Millisecond
			s.http.HTTP2.WriteByteTimeout = 100 * time.Millisecond
		}
	}
	// flood publishes until the only stream has ended.
	flood := func(t *testing.T, a *api) {
		t.Helper()
		eventually(t, "it is open", func() bool { return len(a.server.streams.places) == 1 })
		faults := []string{strings.Repeat("x", 64<<10)}
		eventually(t, "the reader is dropped", func() bool {
			began := time.Now()
			a.ReloadFailed("tester", faults)
			if took := time.Since(began); took > time.Second {
				t.Errorf("weir waited %s", took)
			}
			return len(a.server.streams.places) == 0
		})
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		a := start(t, brief)
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		flood(t, a)
	})
	t.Run("HTTP/2 stream", func(t *testing.T) { // the connection is read, the stream is not
		a := start(t, brief, over)
		a.url = "https" + strings.TrimPrefix(a.url, "http")
		a.streamBy(client, "")
		flood(t, a)
	})
	t.Run("HTTP/2 connection", func(t *testing.T) {
		a := start(t, brief, over)
		stuck := &stall{over: make(chan struct{})}
		defer close(stuck.over)
		two := new(http.Protocols)
		two.SetHTTP2(true)
		transport := &http.Transport{Protocols: two, DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil { // small, so that not the stream but the connection is full first
				err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			if err != nil {
				return nil, err
			}
			c := tls.Client(stuckConn{conn, stuck}, func() *tls.Config { c := client.TLSClientConfig.Clone(); c.NextProtos = []string{"h2"}; return c }())
			return c, c.HandshakeContext(ctx)
		}}
		defer transport.CloseIdleConnections()
		a.url = "https" + strings.TrimPrefix(a.url, "http")
		a.streamBy(transport, "").start()
		stuck.now.Store(true)
		flood(t, a)
	})
}

// stall is a time in which nothing is read.
type stall struct {
	now  atomic.Bool
	over chan struct{}
}

type stuckConn struct {
	net.Conn
	*stall
}

func (c stuckConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 4<<10)])
	if c.now.Load() {
		<-c.over
	}
	return n, err
}

// TestAStreamEndsWithItsToken takes out of the file what a stream was opened with.
func TestAStreamEndsWithItsToken(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens, impatient)
	ends := g.stream("", "Authorization", "Bearer "+readToken)
	stays := g.stream("", "Authorization", "Bearer "+opsToken)
	ends.start()
	stays.start()
	g.use(tokenFile(t, "ops:write:"+opsToken))
	if e, ok := ends.next(); ok {
		t.Errorf("%+v", e)
	}
	time.Sleep(150 * time.Millisecond)
	g.ReloadFailed("tester", nil)
	want[any](stays, "reload_failed")
	g.use("")
	time.Sleep(150 * time.Millisecond)
	g.ReloadFailed("tester", nil)
	want[any](stays, "reload_failed")
}

// TestNothingIsToldToATokenThatIsGone has no heartbeat that would end the stream.
func TestNothingIsToldToATokenThatIsGone(t *testing.T) {
	g := startGuarded(t, "127.0.0.1:0", threeTokens, func(_ *Options, s *Server) {
		if s != nil {
			s.streams.heartbeat = time.Hour
		}
	})
	ends := g.stream("", "Authorization", "Bearer "+readToken)
	stays := g.stream("", "Authorization", "Bearer "+opsToken)
	ends.start()
	stays.start()
	g.use(tokenFile(t, "ops:write:"+opsToken))
	g.ReloadFailed("tester", []string{"secret"})
	if e, ok := ends.next(); ok {
		t.Errorf("%+v", e)
	}
	want[any](stays, "reload_failed")
}
