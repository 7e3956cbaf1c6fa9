package proxy

import (
	"errors"
	"net"
	"testing"
	"time"

	"weir/config"
)

// TestRefuseNew: a listener that is about to close leaves new handshakes unanswered.
func TestRefuseNew(t *testing.T) {
	p := engineProxy(t, config.EngineAuto, "", "127.0.0.1:1")
	l := (*p.listeners.Load())[0]
	refuse(l.socket)
	nc, err := net.DialTimeout("tcp", p.Addrs()[0].String(), 200*time.Millisecond)
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("dial: %v, want it to wait in vain", err)
	}
	if err == nil {
		_ = nc.Close()
	}
}

// TestAdopt: a socket whose handshakes the other weir has begun to ignore listens again.
func TestAdopt(t *testing.T) {
	p := engineProxy(t, config.EngineAuto, "", "127.0.0.1:1")
	l := (*p.listeners.Load())[0]
	refuse(l.socket)
	f, err := duplicate(l.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tcp, err := adopt(f, l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	nc, err := net.DialTimeout("tcp", tcp.Addr().String(), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
}

// TestPauseRests: a paused listener waits, without asking the system again and again.
func TestPauseRests(t *testing.T) {
	p := engineProxy(t, config.EngineAuto, "", "127.0.0.1:1")
	l := (*p.listeners.Load())[0]
	p.StopAccepting([]string{l.address})
	for range 1000 {
		l.mu.Lock()
		taking := l.taking
		l.mu.Unlock()
		if taking {
			t.Fatal("it takes connections")
		}
		time.Sleep(20 * time.Microsecond)
	}
}
