package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"weir/proxy/enginetest"
)

// webSocketServer runs serve for each WebSocket connection.
func webSocketServer(t testing.TB, o *websocket.AcceptOptions, serve func(ctx context.Context, c *websocket.Conn)) *httptest.Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, o)
		if err != nil {
			return // the client was told
		}
		defer c.CloseNow()
		c.SetReadLimit(64 << 20)
		serve(ctx, c)
	}))
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(cancel)
	return s
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// echoMessages sends back each message.
func echoMessages(ctx context.Context, c *websocket.Conn) {
	for {
		kind, b, err := c.Read(ctx)
		if err != nil || c.Write(ctx, kind, b) != nil {
			return
		}
	}
}

// webSocket opens a WebSocket connection with what is not weir's own.
func (r *running) webSocket(t testing.TB, o *websocket.DialOptions) (context.Context, *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	t.Cleanup(cancel)
	c, _, err := websocket.Dial(ctx, "ws://"+r.addr+"/ws", o)
	if err != nil {
		t.Fatalf("Dial: %v; weir's log:\n%s", err, r.logs)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(64 << 20)
	return ctx, c
}

func TestEdgeWebSocketMessages(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
		s := webSocketServer(t, &websocket.AcceptOptions{CompressionMode: mode}, echoMessages)
		r := start(t, setup{endpoints: []string{address(s)}})
		ctx, c := r.webSocket(t, &websocket.DialOptions{CompressionMode: mode})
		g := rand.NewChaCha8([32]byte{1})
		sizes := []int{0, 1, 125, 126, 4_096, 65_535, 65_536, 1 << 20}
		if mode == websocket.CompressionDisabled {
			sizes = append(sizes, enginetest.Scaled(16<<20, 2<<20))
		}
		for _, size := range sizes {
			for _, kind := range []websocket.MessageType{websocket.MessageBinary, websocket.MessageText} {
				sent := make([]byte, size)
				_, _ = g.Read(sent)
				if kind == websocket.MessageText {
					for i := range sent {
						sent[i] = 'a' + sent[i]%26
					}
				}
				var written sync.WaitGroup
				written.Go(func() {
					if err := c.Write(ctx, kind, sent); err != nil {
						t.Errorf("Write of %d bytes: %v", size, err)
					}
				})
				gotKind, got, err := c.Read(ctx)
				written.Wait()
				if err != nil || gotKind != kind || !bytes.Equal(got, sent) {
					t.Fatalf("%v of %d bytes came back as %v of %d: %v", kind, size, gotKind, len(got), err)
				}
			}
		}
	}
}

func TestEdgeWebSocketPing(t *testing.T) {
	var pinged atomic.Int64
	o := &websocket.AcceptOptions{OnPingReceived: func(context.Context, []byte) bool { pinged.Add(1); return true }}
	s := webSocketServer(t, o, func(ctx context.Context, c *websocket.Conn) {
		ctx = c.CloseRead(ctx)
		for range 5 {
			if c.Ping(ctx) != nil {
				return
			}
		}
		<-ctx.Done()
	})
	r := start(t, setup{endpoints: []string{address(s)}})
	got := make(chan bool, 5)
	ctx, c := r.webSocket(t, &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { got <- true; return true }})
	ctx = c.CloseRead(ctx)
	for range 5 {
		if err := c.Ping(ctx); err != nil {
			t.Fatalf("Ping: %v", err)
		}
		<-got
	}
	if n := pinged.Load(); n != 5 {
		t.Errorf("the endpoint got %d pings, want 5", n)
	}
}

// TestEdgeWebSocketClose: who closes, and with what, is known on the other side.
func TestEdgeWebSocketClose(t *testing.T) {
	codes := []websocket.StatusCode{websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusPolicyViolation, 4_321}
	closed := make(chan error, 1)
	var fromServer atomic.Int64
	s := webSocketServer(t, nil, func(ctx context.Context, c *websocket.Conn) {
		if code := fromServer.Load(); code > 0 {
			_ = c.Close(websocket.StatusCode(code), "the endpoint's")
			return
		}
		_, _, err := c.Read(ctx)
		closed <- err
	})
	logs := &lockedBuffer{}
	r := start(t, setup{endpoints: []string{address(s)}, log: logs})
	check := func(code websocket.StatusCode, why string, err error) {
		t.Helper()
		e, ok := errors.AsType[websocket.CloseError](err)
		if !ok || e.Code != code || e.Reason != why {
			t.Errorf("closed with %v, want %v %q", err, code, why)
		}
	}
	for _, code := range codes {
		fromServer.Store(0)
		_, c := r.webSocket(t, nil)
		if err := c.Close(code, "the client's"); err != nil {
			t.Errorf("Close: %v", err)
		}
		check(code, "the client's", <-closed)

		fromServer.Store(int64(code))
		ctx, c := r.webSocket(t, nil)
		_, _, err := c.Read(ctx)
		check(code, "the endpoint's", err)
	}
	eventually(t, "the account of all tunnels", func() bool {
		return sum(r.metrics(t), "weir_requests_total", `code="101"`, `method="GET"`, `variant="blue"`) == float64(2*len(codes))
	})
	got := r.metrics(t)
	if n := r.openTunnels(t); n != 0 {
		t.Errorf("%v tunnels are open", n)
	}
	if n := sum(got, "weir_websocket_duration_seconds"); n != float64(2*len(codes)) {
		t.Errorf("%v durations, want %d", n, 2*len(codes))
	}
	eventually(t, "the access log", func() bool { return strings.Count(logs.String(), "\n") == 2*len(codes) })
	for line := range strings.Lines(logs.String()) {
		var e struct {
			Status            int
			BytesIn, BytesOut int64
			Error             string
		}
		if err := json.Unmarshal([]byte(strings.NewReplacer("bytes_in", "BytesIn", "bytes_out", "BytesOut").Replace(line)), &e); err != nil || e.Status != 101 || e.BytesIn == 0 || e.BytesOut == 0 || e.Error != "" {
			t.Errorf("logged as %s (%v)", line, err)
		}
	}
}

// dribble writes each byte by itself.
type dribble struct{ net.Conn }

func (d dribble) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

type dribbles struct{ net.Listener }

func (l dribbles) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return dribble{c}, err
}

// TestEdgeWebSocketByteByByte: a frame may be split anywhere.
func TestEdgeWebSocketByteByByte(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			echoMessages(context.Background(), c)
		}
	}))
	s.Listener = dribbles{s.Listener}
	s.Start()
	t.Cleanup(s.Close)
	r := start(t, setup{endpoints: []string{address(s)}})
	ctx, c := r.webSocket(t, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, addr)
			return dribble{nc}, err
		},
	}}})
	for _, size := range []int{1, 125, 126, 300, 30_000} {
		sent := strings.Repeat("x", size)
		if err := c.Write(ctx, websocket.MessageText, []byte(sent)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != sent {
			t.Fatalf("%d bytes came back as %d (%v)", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

// TestEdgeWebSocketThousand: many at once, each with its own bytes.
func TestEdgeWebSocketThousand(t *testing.T) {
	const n = 1_000
	ep := tunnelEndpoint(t, func(s *served) {
		s.SetDeadline(time.Time{})
		buf := make([]byte, 64)
		for {
			m, err := s.br.Read(buf)
			if err != nil {
				return
			}
			s.send(string(buf[:m]))
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, pool: "connections: {max: 2000}"})
	clients := make([]*client, n)
	var at sync.WaitGroup
	for i := range clients {
		clients[i], _ = r.upgraded(t)
	}
	for round := range 3 {
		for i, c := range clients {
			at.Go(func() {
				text := fmt.Sprintf("%d of %d", round, i)
				c.SetDeadline(time.Now().Add(3 * patience))
				c.send(text)
				got := make([]byte, len(text))
				if _, err := io.ReadFull(c.br, got); err != nil || string(got) != text {
					t.Errorf("%q came back as %q (%v)", text, got, err)
				}
			})
		}
		at.Wait()
	}
	if open := r.openTunnels(t); open != n {
		t.Errorf("%v tunnels are open, want %d", open, n)
	}
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "the end of all tunnels", func() bool { return r.openTunnels(t) == 0 })
}

// TestEdgeWebSocketSlowReader: what a peer does not take, the other is not asked for.
func TestEdgeWebSocketSlowReader(t *testing.T) {
	s := webSocketServer(t, nil, func(ctx context.Context, c *websocket.Conn) {
		_ = wsjson.Write(ctx, c, "first")
		piece := make([]byte, 1<<20)
		for i := range 64 {
			piece[0] = byte(i)
			if c.Write(ctx, websocket.MessageBinary, piece) != nil {
				return
			}
		}
		_ = c.Close(websocket.StatusNormalClosure, "")
	})
	r := start(t, setup{endpoints: []string{address(s)}})
	ctx, c := r.webSocket(t, nil)
	var first string
	if err := wsjson.Read(ctx, c, &first); err != nil || first != "first" {
		t.Fatalf("%q, %v", first, err)
	}
	carried := func() float64 {
		return sum(r.metrics(t), "weir_websocket_bytes_total", `direction="sent"`)
	}
	last := -1.0
	eventually(t, "a standstill", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := carried()
		still := now == last
		last = now
		return still
	})
	if last > 32<<20 {
		t.Errorf("%v bytes were carried to a client that reads nothing", last)
	}
	for i := range 64 {
		_, b, err := c.Read(ctx)
		if err != nil || len(b) != 1<<20 || b[0] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("closed with %v", err)
	}
}
