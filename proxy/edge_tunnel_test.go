package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/config"
)

const (
	upgradeRequest = "GET /chat?a=b HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	upgradeAnswer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: not weir's business\r\n\r\n"
)

// tunnelEndpoint agrees to every request for a WebSocket connection and has serve do the rest.
func tunnelEndpoint(t testing.TB, serve func(*served)) *endpoint {
	return newEndpoint(t, func(s *served) {
		if s.request() == nil {
			return
		}
		s.send(upgradeAnswer)
		serve(s)
	})
}

// echoBytes sends back what comes until that ends, and then ends as well.
func echoBytes(s *served) { _, _ = io.Copy(s.Conn, s.br) }

// hold keeps the connection open until weir ends it.
func hold(s *served) { _, _ = io.Copy(io.Discard, s.br) }

// upgraded opens a tunnel.
func (r *running) upgraded(t testing.TB) (*client, *message) {
	t.Helper()
	c := r.dial(t)
	c.send(upgradeRequest)
	m, err := c.readHead()
	if err != nil || m.status() != 101 {
		t.Fatalf("no tunnel: %+v, %v; weir's log:\n%s", m, err, r.logs)
	}
	return c, m
}

// expect reads exactly want.
func (c *client) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
		c.t.Fatalf("received %q (%v), want %q", got[:n], err, want)
	}
}

func (c *client) tcp() *net.TCPConn { return c.Conn.(*net.TCPConn) }

// openTunnels is the metric.
func (r *running) openTunnels(t testing.TB) float64 { return sum(r.metrics(t), "weir_websockets") }

func TestEdgeUpgrade(t *testing.T) {
	ep := tunnelEndpoint(t, echoBytes)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "headers: {response: {set: {X-Added: yes}}}"})
	c, m := r.upgraded(t)
	for name, want := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Accept": "not weir's business",
		"X-Weir-Variant": "blue", "X-Added": "yes", "Content-Length": "", "Transfer-Encoding": "",
	} {
		if got := m.get(name); got != want {
			t.Errorf("the client got %s: %q, want %q", name, got, want)
		}
	}
	sent, client := ep.last(t), "127.0.0.1"
	if overUnix {
		client = "unix:"
	}
	for name, want := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Version": "13", "Host": "h", "X-Forwarded-For": client, "X-Request-ID": m.get("X-Request-ID"),
	} {
		if got := sent.get(name); got != want {
			t.Errorf("the endpoint got %s: %q, want %q", name, got, want)
		}
	}
	if sent.target() != "/chat?a=b" {
		t.Errorf("the endpoint got the target %q", sent.target())
	}
	c.send("abc")
	c.expect("abc")
}

// TestEdgeUpgradeNotPassedOn: what is no request for a WebSocket connection, or may have none, is an ordinary one.
func TestEdgeUpgradeNotPassedOn(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: h\r\n"
	for name, c := range map[string]struct{ request, route string }{
		"another protocol": {get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP\r\n\r\n", ""},
		"no Connection":    {get + "Upgrade: websocket\r\n\r\n", ""},
		"no Upgrade":       {get + "Connection: Upgrade\r\n\r\n", ""},
		"POST":             {strings.Replace(upgradeRequest, "GET", "POST", 1), ""},
		"a body":           {strings.Replace(upgradeRequest, "Host: h", "Host: h\r\nContent-Length: 2", 1) + "ab", ""},
		"turned off":       {upgradeRequest, "websocket: off"},
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}, route: c.route})
			cl := r.dial(t)
			cl.send(c.request)
			if m := cl.answer("GET"); m.status() != 200 || m.get("Upgrade") != "" {
				t.Errorf("answered with %+v", m)
			}
			if sent := ep.last(t); sent.get("Upgrade")+sent.get("Connection") != "" {
				t.Errorf("the endpoint got %+v", sent.fields)
			}
			cl.get("/after")
		})
	}
	t.Run("HTTP/1.0", func(t *testing.T) {
		ep := newEndpoint(t, serveOK)
		r := start(t, setup{endpoints: []string{ep.addr}})
		cl := r.dial(t)
		cl.send(strings.Replace(upgradeRequest, "HTTP/1.1", "HTTP/1.0", 1))
		if m := cl.answer("GET"); m.status() != 200 || ep.last(t).get("Upgrade") != "" {
			t.Errorf("answered with %+v", m)
		}
	})
}

// TestEdgeUpgradeBesideOthers: of several protocols the endpoint is asked for the one that is passed on.
func TestEdgeUpgradeBesideOthers(t *testing.T) {
	ep := tunnelEndpoint(t, echoBytes)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send(strings.Replace(upgradeRequest, "Upgrade: WebSocket", "Upgrade: h2c, websocket", 1))
	if m, err := c.readHead(); err != nil || m.status() != 101 {
		t.Fatalf("%+v, %v", m, err)
	}
	if got := ep.last(t).get("Upgrade"); got != "websocket" {
		t.Errorf("the endpoint was asked for %q", got)
	}
}

// TestEdgeUpgradeRefused: any other answer than 101 is an ordinary one, and the connection serves on.
func TestEdgeUpgradeRefused(t *testing.T) {
	for _, status := range []string{"403 Forbidden", "426 Upgrade Required", "200 OK", "500 Oops"} {
		ep := newEndpoint(t, serveBytes("HTTP/1.1 "+status+"\r\nContent-Length: 2\r\nX-Why: because\r\n\r\nno"))
		r := start(t, setup{endpoints: []string{ep.addr}})
		c := r.dial(t)
		for range 2 {
			c.send(upgradeRequest)
			m := c.answer("GET")
			if !strings.HasSuffix(m.start, status) || string(m.body) != "no" || m.get("X-Why") != "because" {
				t.Errorf("%s: answered with %+v", status, m)
			}
		}
		if n, _, _ := ep.counts(); n != 1 {
			t.Errorf("%s: %d connections to the endpoint, want 1", status, n)
		}
	}
}

// TestEdgeUpgradeToSomethingElse: an endpoint cannot agree to what was not asked for.
func TestEdgeUpgradeToSomethingElse(t *testing.T) {
	for name, answer := range map[string]string{
		"h2c":           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
		"nothing":       "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
		"no Connection": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"two":           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.0":      "HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, serveBytes(answer+"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))
			r := start(t, setup{endpoints: []string{ep.addr}})
			c := r.dial(t)
			c.send(upgradeRequest)
			c.refused(c.answer("GET"), 502)
			ep.noneOpen(t)
			if n := r.openTunnels(t); n != 0 {
				t.Errorf("%v tunnels are open", n)
			}
		})
	}
}

// TestEdgeUpgradeIsRetried: until the 101 it is a request like any other, and only that is judged.
func TestEdgeUpgradeIsRetried(t *testing.T) {
	bad := newEndpoint(t, func(s *served) { s.head(); s.Conn.(*net.TCPConn).SetLinger(0) })
	good := tunnelEndpoint(t, echoBytes)
	r := start(t, setup{endpoints: []string{bad.addr, good.addr}, pool: "outlier: {consecutive_failures: 5}"})
	for range 4 {
		c, _ := r.upgraded(t)
		c.send("ping")
		c.expect("ping")
		c.tcp().SetLinger(0)
		c.Close()
	}
	eventually(t, "the end of all tunnels", func() bool { return r.openTunnels(t) == 0 })
	got := r.metrics(t)
	if n := sum(got, "weir_attempts_total", `outcome="success"`, good.addr); n != 4 {
		t.Errorf("%v attempts succeeded, want 4", n)
	}
	if n := sum(got, "weir_attempts_total", `outcome="reset"`, bad.addr); n == 0 {
		t.Error("no attempt met the bad endpoint")
	}
	if n := sum(got, "weir_endpoint_inflight"); n != 0 {
		t.Errorf("%v attempts are under way, want 0", n)
	}
}

// TestEdgeTunnelBytesTogether: what comes in one piece with the heads is part of the tunnel.
func TestEdgeTunnelBytesTogether(t *testing.T) {
	for _, size := range []int{1, 100, 5_000, 300_000} {
		early, late := strings.Repeat("e", size), strings.Repeat("l", size)
		ep := newEndpoint(t, func(s *served) {
			s.request()
			s.send(upgradeAnswer + early)
			got := make([]byte, 2*size)
			if _, err := io.ReadFull(s.br, got); err != nil || string(got) != early+late {
				s.fault(fmt.Errorf("%d bytes of %d were not as sent: %v", size, len(got), err))
			}
			s.send("done")
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c := r.dial(t)
		go c.send(upgradeRequest + early)
		if m, err := c.readHead(); err != nil || m.status() != 101 {
			t.Fatalf("%+v, %v", m, err)
		}
		c.expect(early)
		c.send(late)
		c.expect("done")
	}
}

// TestEdgeTunnelIsExact sends random bytes both ways at once, in random pieces.
func TestEdgeTunnelIsExact(t *testing.T) {
	const size = 8 << 20
	random := func(seed byte) []byte {
		b := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
		return b
	}
	up, down := random(1), random(2)
	scatter := func(w io.Writer, b []byte) {
		for g := rand.New(rand.NewPCG(1, 2)); len(b) > 0; {
			n := min(len(b), 1+g.IntN([]int{10, 1_000, 500_000}[g.IntN(3)]))
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
	}
	came := make(chan struct{})
	ep := tunnelEndpoint(t, func(s *served) {
		go scatter(s.Conn, down)
		got := make([]byte, size)
		if _, err := io.ReadFull(s.br, got); err != nil || !bytes.Equal(got, up) {
			s.fault(fmt.Errorf("not the bytes that were sent (%v)", err))
		}
		close(came)
		hold(s)
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c, _ := r.upgraded(t)
	go scatter(c.Conn, up)
	got := make([]byte, size)
	if _, err := io.ReadFull(c.br, got); err != nil || !bytes.Equal(got, down) {
		t.Errorf("not the bytes that were sent (%v)", err)
	}
	<-came
	eventually(t, "the bytes", func() bool {
		m := r.metrics(t)
		return sum(m, "weir_websocket_bytes_total", `direction="received"`) == size && sum(m, "weir_websocket_bytes_total", `direction="sent"`) == size
	})
}

// TestEdgeTunnelHalfClose: the end of one side is passed on, and the other goes on.
func TestEdgeTunnelHalfClose(t *testing.T) {
	t.Run("the client's", func(t *testing.T) {
		ep := tunnelEndpoint(t, func(s *served) {
			got, _ := io.ReadAll(s.br)
			for range 3 {
				s.send(string(got))
			}
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c, _ := r.upgraded(t)
		c.send("abc")
		c.tcp().CloseWrite()
		c.expect("abcabcabc")
		c.closed()
		eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
	})
	t.Run("the endpoint's", func(t *testing.T) {
		got := make(chan string, 1)
		ep := tunnelEndpoint(t, func(s *served) {
			s.send("abc")
			s.Conn.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(s.br)
			got <- string(b)
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c, _ := r.upgraded(t)
		c.expect("abc")
		if _, err := c.br.Peek(1); err != io.EOF {
			t.Fatalf("%v instead of the end", err)
		}
		c.send("def")
		c.tcp().CloseWrite()
		if b := <-got; b != "def" {
			t.Errorf("the endpoint got %q", b)
		}
		eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
	})
}

// TestEdgeTunnelReset: where one side breaks off, so does the other, at once.
func TestEdgeTunnelReset(t *testing.T) {
	t.Run("the client", func(t *testing.T) {
		ended := make(chan error, 1)
		ep := tunnelEndpoint(t, func(s *served) {
			_, err := io.Copy(io.Discard, s.br)
			ended <- err
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c, _ := r.upgraded(t)
		c.tcp().SetLinger(0)
		c.Close()
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the endpoint met %v, want a reset", err)
		}
		eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
	})
	t.Run("the endpoint", func(t *testing.T) {
		ep := tunnelEndpoint(t, func(s *served) {
			s.br.ReadByte()
			s.Conn.(*net.TCPConn).SetLinger(0)
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c, _ := r.upgraded(t)
		c.send("x")
		if _, err := c.br.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client met %v, want a reset", err)
		}
		eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
	})
	t.Run("the client, in the middle of much", func(t *testing.T) {
		ep := tunnelEndpoint(t, func(s *served) {
			s.SetDeadline(time.Time{})
			_, _ = io.Copy(s.Conn, forever{})
		})
		r := start(t, setup{endpoints: []string{ep.addr}})
		c, _ := r.upgraded(t)
		_, _ = io.CopyN(io.Discard, c.br, 10<<20)
		c.tcp().SetLinger(0)
		c.Close()
		ep.noneOpen(t)
		eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
	})
}

// forever is what has no end.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

// TestEdgeTunnelOutlivesItsEndpoint: neither a drain nor a reload without the endpoint ends a tunnel.
func TestEdgeTunnelOutlivesItsEndpoint(t *testing.T) {
	a, b := tunnelEndpoint(t, echoBytes), newEndpoint(t, serveOK)
	s := setup{endpoints: []string{a.addr}}
	r := start(t, s)
	c, _ := r.upgraded(t)
	c.send("one")
	c.expect("one")
	s.endpoints = []string{b.addr}
	s.change = func(cfg *config.Config) { cfg.Listeners[0].Address = "127.0.0.1:0" }
	if _, _, err := r.Apply(parse(t, s.render())); err != nil {
		t.Fatal(err)
	}
	if m := r.dial(t).get("/new"); m.status() != 200 {
		t.Fatalf("the new endpoint: %q", m.start)
	}
	c.send("two")
	c.expect("two")
	if n := r.openTunnels(t); n != 1 {
		t.Errorf("%v tunnels are open, want 1", n)
	}
}
