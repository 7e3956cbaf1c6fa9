package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/proxy"
)

// TestEdgePanic: a request that panics is answered with 500, is counted, and ends nothing else.
func TestEdgePanic(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	var armed atomic.Bool
	r := start(t, setup{endpoints: []string{ep.addr}, options: func(o *proxy.Options) {
		proxy.SetHook(o, func() {
			if armed.CompareAndSwap(true, false) {
				panic("on purpose")
			}
		})
	}})
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000),
		chunkedPost("/", "5\r\nhello\r\n0\r\n\r\n"),
	} {
		bystander := r.dial(t)
		bystander.get("/before")
		c := r.dial(t)
		armed.Store(true)
		go c.send(request)
		c.refused(c.answer("GET"), 500)
		if m := bystander.get("/after"); m.status() != 200 {
			t.Errorf("afterwards: %q", m.start)
		}
	}
	if n := sum(r.metrics(t), "weir_requests_total", `code="500"`); n != 4 {
		t.Errorf("%v requests counted with 500, want 4", n)
	}
	if s, _ := r.Pool("blue"); s.Endpoints[0].Inflight != 0 || s.Endpoints[0].Errors != 0 {
		t.Errorf("the endpoint was blamed: %+v", s.Endpoints[0])
	}
}

// TestEdgeReloadsUnderLoad swaps the endpoint a hundred times, with faulty files in between, while
// clients send as fast as they can: none of them notices.
func TestEdgeReloadsUnderLoad(t *testing.T) {
	a, b := newEndpoint(t, serveOK), newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{a.addr}})
	stop := make(chan bool)
	var clients sync.WaitGroup
	var sent atomic.Int64
	for i := range 4 {
		clients.Go(func() {
			c := r.dial(t)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c.SetDeadline(time.Now().Add(patience))
				c.send(fmt.Sprintf("POST /%d/%d HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", i, n))
				m, _, err := c.readResponse("POST")
				if err != nil || m.status() != 200 {
					t.Errorf("request %d of client %d: %v, %+v", n, i, err, m)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 100 {
		addr := []string{a.addr, b.addr}[i%2]
		cfg := setup{endpoints: []string{addr}, route: fmt.Sprintf("limits: {body: %dKiB}", 1000+i)}
		if _, _, err := r.Apply(parse(t, cfg.render())); err != nil {
			t.Fatalf("Apply %d: %v", i, err)
		}
		at := sent.Load()
		eventually(t, "requests between two reloads", func() bool { return sent.Load() > at+4 || t.Failed() })
	}
	close(stop)
	clients.Wait()
	if len(a.got()) == 0 || len(b.got()) == 0 || int64(len(a.got())+len(b.got())) != sent.Load() {
		t.Errorf("%d and %d requests at the endpoints, %d answers", len(a.got()), len(b.got()), sent.Load())
	}
}

// TestEdgeEndpointRemovedInFlight: a request under way at an endpoint that a reload removes is finished;
// then the connections there end.
func TestEdgeEndpointRemovedInFlight(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	a := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.target() == "/slow" {
				arrived <- true
				<-release
			}
			s.send(okResponse)
		}
	})
	b := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{a.addr}})
	idle, c := r.dial(t), r.dial(t)
	idle.get("/idle")
	c.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	cfg := setup{endpoints: []string{b.addr}}
	if _, _, err := r.Apply(parse(t, cfg.render())); err != nil {
		t.Fatal(err)
	}
	if m := idle.get("/new"); m.status() != 200 || len(b.got()) != 1 {
		t.Errorf("after the reload: %q, and the new endpoint got %q", m.start, b.got())
	}
	close(release)
	if m := c.answer("GET"); m.status() != 200 {
		t.Errorf("the request under way was answered with %q", m.start)
	}
	a.noneOpen(t)
}

// TestEdgeShutdown: what runs is finished, a late request on a kept connection is answered and
// told that the connection ends, and idle connections end.
func TestEdgeShutdown(t *testing.T) {
	arrived, release := make(chan bool, 2), make(chan bool)
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.target() == "/slow" {
				arrived <- true
				<-release
			}
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}})
	idle, busy := r.dial(t), r.dial(t)
	idle.get("/idle")
	busy.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped <- r.Shutdown(ctx)
	}()
	if m, _, err := idle.readResponse("GET"); err == nil {
		t.Errorf("an answer nobody asked for: %q", m.start)
	}
	select {
	case err := <-stopped:
		t.Errorf("Shutdown returned %v while a request was under way", err)
	default:
	}
	close(release)
	if m := busy.answer("GET"); m.status() != 200 || !strings.EqualFold(m.get("Connection"), "close") {
		t.Errorf("the request under way: %q, Connection %q", m.start, m.get("Connection"))
	}
	busy.closed()
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	ep.noneOpen(t)
}

// TestEdgeCancelInFlight: Serve ends with its context, at once, whatever a request still waits for.
func TestEdgeCancelInFlight(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	ep := newEndpoint(t, func(s *served) {
		for s.request() != nil {
			arrived <- true
			<-release
		}
	})
	defer close(release)
	cfg := setup{endpoints: []string{ep.addr}}
	p := proxy.New(proxy.Options{})
	if _, _, err := p.Apply(parse(t, cfg.render())); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx) }()
	c := (&running{Proxy: p, addr: p.Addrs()[0].String()}).dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not end")
	}
}
