//go:build linux

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"weir/balancer"
	"weir/config"
)

// loopProxy is a proxy on one event loop, whatever engine the other tests run on.
func loopProxy(t *testing.T, pool string, endpoints ...string) *Proxy {
	t.Helper()
	return engineProxy(t, config.EngineLoop, pool, endpoints...)
}

func engineProxy(t *testing.T, engine, pool string, endpoints ...string) *Proxy {
	t.Helper()
	yaml := fmt.Sprintf("engine: %s\nlisteners: [{address: \"127.0.0.1:0\"}]\npools:\n  p: {probe: off, endpoints: %q%s}\nroutes: [{name: all, split: {p: 1}}]\n",
		engine, endpoints, pool)
	cfg, err := config.Parse("loop.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{Loops: 1})
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Shutdown(ctx)
		<-done
	})
	return p
}

// connect opens the only connection to p and returns when p knows it.
func connect(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	for len(p.watched()) == 0 {
		time.Sleep(time.Millisecond)
	}
	return nc.(*net.TCPConn)
}

// onLoop runs f on the proxy's loop and waits for it.
func onLoop(p *Proxy, f func()) {
	done := make(chan bool)
	p.engines.started()[0].post(func() { f(); close(done) })
	<-done
}

// watched returns the client connections that the watch knows.
func (p *Proxy) watched() (all []*conn) {
	p.watch.each(func(c *conn) { all = append(all, c) })
	return all
}

func fixedEndpoint(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

// TestLoopDial: connections are made, refused and given up as by a goroutine, and the loop goes on.
func TestLoopDial(t *testing.T) {
	p := loopProxy(t, "", "127.0.0.1:1")
	connect(t, p) // starts the loop
	full := fullListener(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := tcpAddr(dead.Addr().String())
	_ = dead.Close()
	for _, tt := range []struct {
		address balancer.Addr
		want    error
	}{
		{tcpAddr(fixedEndpoint(t)), nil},
		{refused, syscall.ECONNREFUSED},
		{full, os.ErrDeadlineExceeded},
	} {
		result := make(chan error)
		l := p.engines.started()[0]
		l.post(func() {
			l.clients.Add(1) // the loop must not end before the coroutine
			l.start(func(s strand) {
				d, err := s.dial(tt.address, 150*time.Millisecond)
				if err == nil {
					d.close()
				}
				l.clients.Add(-1)
				go func() { result <- err }()
			})
		})
		if err := <-result; !errors.Is(err, tt.want) {
			t.Errorf("dial %v: %v, want %v", tt.address, err, tt.want)
		}
	}
}

// fullListener has a full backlog: the system leaves further handshakes unanswered.
func fullListener(t *testing.T) balancer.Addr {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	a := balancer.Addr{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*syscall.SockaddrInet4).Port))}
	for range 2 {
		if c, err := net.DialTimeout("tcp", a.String(), 100*time.Millisecond); err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	return a
}

// TestLaneEvictsAnothersIdle: with all connections open and one idle on another lane, that one makes room.
func TestLaneEvictsAnothersIdle(t *testing.T) {
	addr, _ := listenTCP(t)
	tr := newTransport(addr.String(), func() []balancer.Addr { return []balancer.Addr{addr} }, 3, nil)
	tr.configure(transportSettings{max: 2, idle: 2, connectTimeout: time.Second})
	one, two := laneStrand{newGoroutineStrand(), 1}, laneStrand{newGoroutineStrand(), 2}
	a, err := tr.get(one, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr.put(a)
	for range 2 {
		if _, err := tr.get(two, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	if open, idle := tr.connections(); open != 2 || idle != 0 {
		t.Errorf("%d open, %d idle; want 2, 0", open, idle)
	}
}

// TestLanesHandOverPlaces: many strands of two lanes share two connections, and none waits in vain.
func TestLanesHandOverPlaces(t *testing.T) {
	addr, _ := listenTCP(t)
	tr := newTransport(addr.String(), func() []balancer.Addr { return []balancer.Addr{addr} }, 3, nil)
	tr.configure(transportSettings{max: 2, idle: 2, connectTimeout: 30 * time.Second})
	var most, inUse atomic.Int64
	errs := make(chan error)
	for i := range 8 {
		go func() {
			s := laneStrand{newGoroutineStrand(), 1 + i%2}
			for n := range 200 {
				e, err := tr.get(s, n%7 == 0, nil)
				if err != nil {
					errs <- err
					return
				}
				if u := inUse.Add(1); u > most.Load() {
					most.Store(u)
				}
				inUse.Add(-1)
				if n%5 == 0 {
					tr.drop(e)
				} else {
					tr.put(e)
				}
			}
			errs <- nil
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d connections in use at once, want 2 at most", most.Load())
	}
	tr.close()
	if open, idle := tr.connections(); open != 0 || idle != 0 || len(tr.waiters) != 0 {
		t.Errorf("%d open, %d idle, %d waiters left", open, idle, len(tr.waiters))
	}
}

// laneStrand is a goroutine that says it belongs to a lane.
type laneStrand struct {
	goroutineStrand
	of int
}

func (s laneStrand) lane() int { return s.of }

// TestLoopTakesTurns: a connection with much to read does not keep its loop from others.
func TestLoopTakesTurns(t *testing.T) {
	p := loopProxy(t, "", "127.0.0.1:1")
	connect(t, p) // starts the loop
	addr, conns := listenTCP(t)
	const pieces = 10 * readsAtOnce
	var order []string
	finished := make(chan bool)
	l := p.engines.started()[0]
	l.post(func() {
		l.clients.Add(1)
		l.start(func(s strand) {
			defer func() { l.clients.Add(-1); close(finished) }()
			d, err := s.dial(addr, time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			var so socket
			so.open(d, nil)
			_, _ = (<-conns).Write(make([]byte, pieces)) // all of it is there before the first read
			l.post(func() { order = append(order, "other") })
			for range pieces {
				if _, err := so.read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			order = append(order, "reader")
			d.close()
		})
	})
	<-finished
	if len(order) != 2 || order[0] != "other" {
		t.Errorf("order %v, want the other before the reader is done", order)
	}
}
