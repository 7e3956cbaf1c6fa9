//go:build linux

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy"
)

// passOn makes a proxy that has r's sockets and the configuration cfg, and does not serve yet.
func passOn(t *testing.T, r *proxy.Proxy, cfg *config.Config) *proxy.Proxy {
	t.Helper()
	files, err := r.ListenerFiles()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := proxy.OpenSockets(cfg.Listeners, files)
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	next := proxy.New(proxy.Options{Version: "test"})
	if err := next.Use(cfg.Listeners, sockets); err != nil {
		t.Fatal(err)
	}
	if len(sockets) > 0 {
		t.Errorf("%d sockets are left", len(sockets))
	}
	if _, _, err := next.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	return next
}

// serve runs p until the test ends, if nobody shuts it down before.
func serve(t *testing.T, p *proxy.Proxy) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func addresses(cfg *config.Config) (a []string) {
	for _, l := range cfg.Listeners {
		a = append(a, l.Address)
	}
	return a
}

// TestTakeoverUnderLoad hands sockets from proxy to proxy while clients open a connection for each
// request: none of them is refused, reset or kept waiting.
func TestTakeoverUnderLoad(t *testing.T) {
	for name, address := range map[string]string{"TCP": "127.0.0.1:0", "a Unix socket": "unix:" + backendtest.SocketPath(t)} {
		t.Run(name, func(t *testing.T) { takeoverUnderLoad(t, address) })
	}
}

func takeoverUnderLoad(t *testing.T, address string) {
	s := setup{endpoints: []string{newEndpoint(t, serveOK).addr}, address: address}
	cfg := parse(t, s.render())
	running := proxy.New(proxy.Options{Version: "test"})
	if _, _, err := running.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	serve(t, running)
	addr := running.Addrs()[0].String()
	var stop atomic.Bool
	var clients sync.WaitGroup
	var sent, last atomic.Int64
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				if err := ask(addr); err != nil {
					t.Errorf("request %d: %v", sent.Load(), err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 10 {
		eventually(t, "requests between two takeovers", func() bool { return sent.Load() > last.Load()+20 || t.Failed() })
		next := passOn(t, running, cfg)
		running.StopAccepting(addresses(cfg))
		serve(t, next)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := running.Shutdown(ctx); err != nil {
			t.Errorf("takeover %d: %v", i, err)
		}
		cancel()
		last.Store(sent.Load())
		running = next
	}
	eventually(t, "requests after the last takeover", func() bool { return sent.Load() > last.Load()+20 || t.Failed() })
	stop.Store(true)
	clients.Wait()
	t.Logf("%d requests", sent.Load())
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return
	}
	if err := running.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the last to listen has not removed the file: %v", err)
	}
}

// TestTakeoverOfAnotherSocket: a descriptor is no socket of an address of another kind.
func TestTakeoverOfAnotherSocket(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	address := "unix:" + backendtest.SocketPath(t)
	if _, err := proxy.OpenSockets([]config.Listener{{Address: address}}, map[string]*os.File{address: f}); err == nil || !strings.Contains(err.Error(), "no socket of such an address") {
		t.Error(err)
	}
}

// ask sends a request on a connection of its own. A SYN that is dropped costs its client a second.
func ask(addr string) error {
	began := time.Now()
	nc, err := connect(addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if took := time.Since(began); took > 900*time.Millisecond {
		return fmt.Errorf("connecting took %v", took)
	}
	w := newWire(nc)
	_ = nc.SetDeadline(time.Now().Add(patience))
	w.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	m, _, err := w.readResponse("GET")
	if err == nil && m.status() != 200 {
		err = fmt.Errorf("status line %q", m.start)
	}
	return err
}

// TestStopAccepting: what comes meanwhile waits, and other listeners go on.
func TestStopAccepting(t *testing.T) {
	s := setup{endpoints: []string{newEndpoint(t, serveOK).addr}}
	yaml := strings.Replace(s.render(), "listeners:\n", "listeners:\n  - address: \"localhost:0\"\n", 1)
	p := proxy.New(proxy.Options{Version: "test"})
	if _, _, err := p.Apply(parse(t, yaml)); err != nil {
		t.Fatal(err)
	}
	serve(t, p)
	other, addr := p.Addrs()[0].String(), p.Addrs()[1].String()
	if err := ask(addr); err != nil {
		t.Fatal(err)
	}
	p.StopAccepting([]string{"127.0.0.1:0"})
	answered := make(chan error, 1)
	go func() { answered <- ask(addr) }()
	for range 3 {
		if err := ask(other); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-answered:
		t.Fatalf("a stopped listener answered (%v)", err)
	case <-time.After(150 * time.Millisecond):
	}
}

// TestBacklogIsTheOthers: a proxy that has stopped accepting and shuts down takes nothing with it.
func TestBacklogIsTheOthers(t *testing.T) {
	s := setup{endpoints: []string{newEndpoint(t, serveOK).addr}}
	cfg := parse(t, s.render())
	old := proxy.New(proxy.Options{Version: "test"})
	if _, _, err := old.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	serve(t, old)
	addr := old.Addrs()[0].String()
	next := passOn(t, old, cfg)
	old.StopAccepting(addresses(cfg))
	answered := make(chan error, 20)
	for range cap(answered) {
		go func() { answered <- ask(addr) }()
	}
	time.Sleep(20 * time.Millisecond)
	if err := old.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(answered) > 0 {
		t.Errorf("somebody answered: %v", <-answered)
	}
	serve(t, next)
	for range cap(answered) {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

func TestOpenSockets(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	want := []config.Listener{{Address: "127.0.0.1:0"}, {Address: address}}
	_, err = proxy.OpenSockets(want, nil)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "cannot listen on "+address) {
		t.Errorf("an address in use: %v", err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err = proxy.OpenSockets(want, map[string]*os.File{address: f}); err == nil {
		t.Error("a file that is no socket was taken")
	}
	sockets, err := proxy.OpenSockets(want[:1], map[string]*os.File{address: f})
	if err != nil || len(sockets) != 1 {
		t.Fatalf("%d sockets, %v", len(sockets), err)
	}
	opened := sockets["127.0.0.1:0"].Addr().String()
	sockets.Close()
	if _, err := net.Dial("tcp", opened); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Close: %v", err)
	}
}
