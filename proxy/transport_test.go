package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"weir/balancer"
)

// listenTCP accepts connections and hands them to the test.
func tcpAddr(s string) balancer.Addr { return balancer.Addr{AddrPort: netip.MustParseAddrPort(s)} }

func listenTCP(t *testing.T) (balancer.Addr, chan net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	conns := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return tcpAddr(ln.Addr().String()), conns
}

func testTransport(t *testing.T, s transportSettings) (*transport, chan net.Conn) {
	addr, conns := listenTCP(t)
	tr := newTransport(addr.String(), func() []balancer.Addr { return []balancer.Addr{addr} }, 1, nil)
	tr.configure(s)
	return tr, conns
}

func mustGet(t *testing.T, tr *transport) *epConn {
	t.Helper()
	e, err := tr.get(newGoroutineStrand(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTransportReusesNewestFirst(t *testing.T) {
	tr, _ := testTransport(t, transportSettings{max: 8, idle: 2, connectTimeout: time.Second})
	a, b, c := mustGet(t, tr), mustGet(t, tr), mustGet(t, tr)
	tr.put(a)
	tr.put(b)
	tr.put(c) // more than idle: closed
	if open, idle := tr.connections(); open != 2 || idle != 2 {
		t.Errorf("%d open, %d idle; want 2, 2", open, idle)
	}
	if got := mustGet(t, tr); got != b {
		t.Error("the connection used last is not taken first")
	}
	if got, err := tr.get(newGoroutineStrand(), true, nil); err != nil || got == a || got.used {
		t.Errorf("asked for a fresh one, got a used one (%v)", err)
	}
}

func TestTransportWaitsForAPlace(t *testing.T) {
	tr, _ := testTransport(t, transportSettings{max: 1, idle: 1, connectTimeout: 10 * time.Second})
	a := mustGet(t, tr)
	for _, give := range []func(){func() { tr.put(a) }, func() { tr.drop(a) }} {
		got := make(chan *epConn)
		go func() {
			e, _ := tr.get(newGoroutineStrand(), false, nil)
			got <- e
		}()
		for waiting := 0; waiting == 0; {
			tr.mu.Lock()
			waiting = len(tr.waiters)
			tr.mu.Unlock()
		}
		give()
		if a = <-got; a == nil {
			t.Fatal("waited in vain")
		}
	}
	if open, _ := tr.connections(); open != 1 {
		t.Errorf("%d open, want 1", open)
	}
	tr.configure(transportSettings{max: 1, idle: 1, connectTimeout: time.Millisecond})
	if _, err := tr.get(newGoroutineStrand(), false, nil); !errors.Is(err, errNoConnection) {
		t.Errorf("with all in use: %v, want %v", err, errNoConnection)
	}
	if len(tr.waiters) != 0 {
		t.Error("a waiter is left behind")
	}
}

func TestTransportFailsAndForgets(t *testing.T) {
	tr := newTransport("h:1", func() []balancer.Addr { return nil }, 1, nil)
	tr.configure(transportSettings{max: 1, idle: 1, connectTimeout: time.Second})
	for range 3 {
		if _, err := tr.get(newGoroutineStrand(), false, nil); !errors.Is(err, errUnresolved) {
			t.Fatalf("without an address: %v, want %v", err, errUnresolved)
		}
	}
	if open, _ := tr.connections(); open != 0 {
		t.Errorf("%d places taken by connections that were never made", open)
	}
}

func TestTransportTriesTheNextAddress(t *testing.T) {
	good, _ := listenTCP(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bad := tcpAddr(dead.Addr().String())
	_ = dead.Close()
	tr := newTransport("h:1", func() []balancer.Addr { return []balancer.Addr{bad, good} }, 1, nil)
	tr.configure(transportSettings{max: 9, idle: 1, connectTimeout: time.Second})
	for range 4 {
		mustGet(t, tr)
	}
}

func TestTransportPrunes(t *testing.T) {
	tr, conns := testTransport(t, transportSettings{max: 8, idle: 8, connectTimeout: time.Second})
	quiet, ended, noisy := mustGet(t, tr), mustGet(t, tr), mustGet(t, tr)
	peers := map[string]net.Conn{}
	for range 3 {
		c := <-conns
		peers[c.RemoteAddr().String()] = c
	}
	peer := func(e *epConn) net.Conn { return peers[e.local().String()] }
	for _, e := range []*epConn{quiet, ended, noisy} {
		tr.put(e)
	}
	_ = peer(ended).Close()
	_, _ = peer(noisy).Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	for deadline := time.Now().Add(5 * time.Second); ; {
		tr.prune(goroutineLane)
		if _, idle := tr.connections(); idle == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ended connections stay")
		}
	}
	if mustGet(t, tr) != quiet {
		t.Error("pruned the quiet one")
	}
	tr.put(quiet)
	tr.close()
	if open, idle := tr.connections(); open != 0 || idle != 0 {
		t.Errorf("closed, but %d open and %d idle", open, idle)
	}
}

func TestTransportKeepsTheWholeLimitForGoroutines(t *testing.T) {
	addr, _ := listenTCP(t)
	tr := newTransport(addr.String(), func() []balancer.Addr { return []balancer.Addr{addr} }, 1+16, nil)
	tr.configure(transportSettings{max: 64, idle: 32, connectTimeout: time.Second})
	for lane, want := range map[int]int{goroutineLane: 32, 1: 2, 16: 2} {
		if n := tr.keep(lane); n != want {
			t.Errorf("lane %d keeps %d idle connections, want %d", lane, n, want)
		}
	}
}
