package proxy_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestEdgeTunnelMax: beyond websocket.max a request for one more is refused; others are not counted.
func TestEdgeTunnelMax(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.get("Upgrade") != "" {
				s.send(upgradeAnswer)
				hold(s)
				return
			}
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, route: "websocket: {max: 2}"})
	a, _ := r.upgraded(t)
	b, _ := r.upgraded(t)
	c := r.dial(t)
	c.send(upgradeRequest)
	m := c.answer("GET")
	c.refused(m, 503)
	if m.get("Retry-After") == "" || !strings.Contains(string(m.body), "too many WebSocket connections are open on this route") {
		t.Errorf("refused with %+v", m)
	}
	if m := c.get("/plain"); m.status() != 200 {
		t.Errorf("a plain request: %q", m.start)
	}
	a.Close()
	eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 1 })
	r.upgraded(t)
	if n := sum(r.metrics(t), "weir_websockets_refused_total"); n != 1 {
		t.Errorf("%v were refused, want 1", n)
	}
	b.Close()
}

// TestEdgeTunnelHoldsItsPlace: bounds on requests under way count a tunnel for its life.
func TestEdgeTunnelHoldsItsPlace(t *testing.T) {
	for name, s := range map[string]setup{
		"route": {route: "concurrency: {max: 1}"},
		"key":   {route: `concurrency: {key: client_ip, max: 1}`},
		"pool":  {pool: "concurrency: {max: 1}"},
		"break": {pool: "circuit_breaker: {max_requests: 1}"},
		"conns": {pool: "connections: {max: 1, connect_timeout: 50ms}"},
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				for m := s.request(); m != nil; m = s.request() {
					if m.get("Upgrade") != "" {
						s.send(upgradeAnswer)
						echoBytes(s)
						return
					}
					s.send(okResponse)
				}
			})
			s.endpoints = []string{ep.addr}
			s.route += "\nretry: off"
			r := start(t, s)
			c, _ := r.upgraded(t)
			c.send("x")
			c.expect("x")
			other := r.dial(t)
			other.refused(other.get("/"), 503)
			c.tcp().CloseWrite()
			c.closed()
			eventually(t, "a place", func() bool { return r.dial(t).get("/").status() == 200 })
		})
	}
}

// TestEdgeTunnelIdle: without a byte either way a tunnel is closed after timeouts.idle; a byte one way keeps it open,
// and the time that a request may take is no matter.
func TestEdgeTunnelIdle(t *testing.T) {
	alongside(t)
	logs := &lockedBuffer{}
	ep := tunnelEndpoint(t, func(s *served) {
		for _, err := s.br.ReadByte(); err == nil; _, err = s.br.ReadByte() {
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, log: logs, route: "timeouts: {total: 300ms, idle: 500ms}", listener: "timeouts: {body: 200ms, keep_alive: 200ms}"})
	c, _ := r.upgraded(t)
	for range 12 {
		time.Sleep(100 * time.Millisecond)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.openTunnels(t); n != 1 {
		t.Fatalf("%v tunnels are open, want 1", n)
	}
	c.closed()
	ep.noneOpen(t)
	eventually(t, "the access log", func() bool { return strings.Contains(logs.String(), `"status":101`) })
	if got := logs.String(); !strings.Contains(got, `"error":"timeout"`) || !strings.Contains(got, `"bytes_in":12`) {
		t.Errorf("logged as %s", got)
	}
}

// TestEdgeTunnelIdleWhileNothingIsTaken: a peer that takes nothing is as idle as one that sends nothing.
func TestEdgeTunnelIdleWhileNothingIsTaken(t *testing.T) {
	ep := tunnelEndpoint(t, func(s *served) { _, _ = io.Copy(s.Conn, forever{}) })
	r := start(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {idle: 300ms}"})
	r.upgraded(t) // and reads nothing
	ep.noneOpen(t)
	eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
}

// TestEdgeTunnelAndStop: while weir stops a tunnel goes on, until what is left is cut off.
func TestEdgeTunnelAndStop(t *testing.T) {
	ep := tunnelEndpoint(t, echoBytes)
	r := start(t, setup{endpoints: []string{ep.addr}})
	ended, _ := r.upgraded(t)
	cut, _ := r.upgraded(t)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- r.Shutdown(ctx) }()
	eventually(t, "the end of the listener", func() bool { return !r.Ready() })
	for _, c := range []*client{ended, cut} {
		c.send("still here")
		c.expect("still here")
	}
	ended.tcp().CloseWrite()
	ended.closed()
	eventually(t, "the end of the one", func() bool { return r.Status().Connections == 1 })
	cut.send("and here")
	cut.expect("and here")
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "1 connections") {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := cut.br.ReadByte(); err != io.EOF {
		t.Errorf("the client met %v, want the end", err)
	}
	ep.noneOpen(t)
	eventually(t, "the end of the other", func() bool { return r.openTunnels(t) == 0 })
}

// TestEdgeTunnelClientLeavesDuringTheHandshake: the endpoint's attempt ends with it.
func TestEdgeTunnelClientLeavesDuringTheHandshake(t *testing.T) {
	asked := make(chan bool, 1)
	ep := newEndpoint(t, func(s *served) {
		s.request()
		asked <- true
		hold(s)
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send(upgradeRequest)
	<-asked
	c.Close()
	ep.noneOpen(t)
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
}

// TestEdgeTunnelBesideOtherParts: a request for a tunnel is neither cached, nor answered from the cache, nor copied,
// nor sent twice.
func TestEdgeTunnelBesideOtherParts(t *testing.T) {
	serve := func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.get("Upgrade") == "" {
				s.send(okResponse)
				continue
			}
			time.Sleep(100 * time.Millisecond) // longer than a hedge waits
			s.send(upgradeAnswer)
			echoBytes(s)
			return
		}
	}
	a, b, shadow := newEndpoint(t, serve), newEndpoint(t, serve), newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{a.addr, b.addr}, change: mirroring(all(), shadow.addr), options: patientMirrors,
		route: "cache: {ttl: 60s}\nhedge: {delay: 10ms}\ncompress: {}"})
	plain := r.dial(t)
	for range 2 {
		plain.get("/chat?a=b")
	}
	hedges := sum(r.metrics(t), "weir_hedges_total")
	for range 4 {
		c, m := r.upgraded(t)
		if got := m.get("X-Weir-Cache"); got != "" {
			t.Errorf("X-Weir-Cache: %s", got)
		}
		c.send("x")
		c.expect("x")
		c.tcp().CloseWrite()
		c.closed()
	}
	eventually(t, "the copy of the plain request", func() bool { return r.mirror(t).Sent == 1 })
	got := r.metrics(t)
	if n := sum(got, "weir_hedges_total") - hedges; n != 0 {
		t.Errorf("%v requests for a tunnel were sent twice", n)
	}
	if n := sum(got, "weir_cache_requests_total"); n != 2 {
		t.Errorf("the cache was asked %v times, want 2", n)
	}
	if m := r.mirror(t); m.Sent+m.Skipped != 1 {
		t.Errorf("copies: %+v, want 1", m)
	}
}
