package backendtest

import (
	"net"
	"sync"
	"testing"
)

// Raw runs script for every connection to the address it returns, each in its own goroutine,
// and closes the connection when script returns. When the test ends, the port and all
// connections are closed and Raw waits for the scripts, so one that blocks in Read or Write
// needs no end of its own. script must not call t.Fatal.
func Raw(t testing.TB, script func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("backendtest: cannot listen: %v", err)
	}
	var (
		mu      sync.Mutex
		open    = map[net.Conn]struct{}{}
		ended   bool
		running sync.WaitGroup
	)
	running.Add(1)
	go func() {
		defer running.Done()
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if ended {
				nc.Close()
			}
			open[nc] = struct{}{}
			mu.Unlock()
			running.Add(1)
			go func() {
				defer running.Done()
				script(nc)
				nc.Close()
				mu.Lock()
				delete(open, nc)
				mu.Unlock()
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		ended = true
		for nc := range open {
			nc.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// Reset ends a connection of a Raw script by an RST.
func Reset(nc net.Conn) { reset(nc) }
