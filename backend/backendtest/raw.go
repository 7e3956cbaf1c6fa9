package backendtest

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Raw runs script for every connection to the address it returns, each in its own goroutine,
// and closes the connection when script returns. When the test ends, the port and all
// connections are closed and Raw waits for the scripts, so one that blocks in Read or Write
// needs no end of its own. script must not call t.Fatal.
func Raw(t testing.TB, script func(net.Conn)) (addr string) {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	RawOn(t, l, script)
	return l.Addr().String()
}

// RawUnix is Raw at a Unix socket; addr is unix: and its path.
func RawUnix(t testing.TB, script func(net.Conn)) (addr string) {
	t.Helper()
	path := SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatalf("backendtest: cannot listen: %v", err)
	}
	RawOn(t, l, script)
	return "unix:" + path
}

// SocketPath returns a path for a Unix socket that is short enough for one, however long the name of the test is, and
// where nothing is. When the test ends, its directory is removed.
func SocketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir")
	if err != nil {
		t.Fatalf("backendtest: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// RawOn is Raw at a listener, which it closes.
func RawOn(t testing.TB, l net.Listener, script func(net.Conn)) {
	t.Helper()
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
}

// listen listens at HOST:PORT.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("backendtest: cannot listen: %v", err)
	}
	return l
}

// Reset ends a connection of a Raw script by an RST.
func Reset(nc net.Conn) { reset(nc) }
