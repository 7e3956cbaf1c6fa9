package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"weir/config"
)

// TestLingeringEndsWithoutTheWatch: weir waits for a client that may still be sending only so long, also
// when Serve has ended and with it what looks after connections.
func TestLingeringEndsWithoutTheWatch(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("linger.yaml", []byte("engine: goroutine\nlisteners: [{address: \"127.0.0.1:0\"}]\n"+
		"pools: {p: {probe: off, endpoints: [\"127.0.0.1:1\"]}}\nroutes: [{name: all, split: {p: 1}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{})
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	l := (*p.listeners.Load())[0]
	nc, err := net.Dial("tcp", l.socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if !l.waitForRoom() {
		t.Fatal("the listener is closed")
	}
	if err := l.takeForGoroutine(); err != nil {
		t.Fatal(err)
	}
	send := func(s string) { _, _ = nc.Write([]byte(s)) }
	send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\nExpect: x\r\n\r\n") // refused, with its body on the way
	for end := time.Now().Add(10 * time.Second); p.connections.Load() > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the connection is still there")
		}
		send("x")
	}
	if err := p.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
