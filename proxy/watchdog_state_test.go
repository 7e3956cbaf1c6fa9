//go:build linux

package proxy

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWatchdogStates: what counts as waiting is what the program waits for, and not what the runtime does.
func TestWatchdogStates(t *testing.T) {
	for _, c := range []struct {
		stack coroutineStack
		waits bool
	}{
		{coroutineStack{"running", "main.f()"}, false},
		{coroutineStack{"GC assist wait", "main.f()"}, false},
		{coroutineStack{"semacquire", "sync.(*Pool).Get(0x1)\nweir/proxy.(*tlsConn).makeRoom(0x2)"}, false},
		{coroutineStack{"semacquire", "internal/poll.runtime_Semacquire(0x1)\ninternal/poll.(*fdMutex).rwlock(0x1)"}, true},
		{coroutineStack{"sync.Mutex.Lock", "internal/sync.(*Mutex).lockSlow(0x1)"}, true},
		{coroutineStack{"chan receive", "main.f()"}, true},
	} {
		if got := c.stack.waiting(); got != c.waits {
			t.Errorf("%s in %q: waits %v, want %v", c.stack.state, c.stack.text, got, c.waits)
		}
	}
	// The states that locks have, as the runtime calls them.
	var mu sync.Mutex
	var rw sync.RWMutex
	mu.Lock()
	rw.Lock()
	go func() { mu.Lock(); defer mu.Unlock() }()
	go func() { rw.RLock(); defer rw.RUnlock() }()
	for _, state := range []string{"[sync.Mutex.Lock", "[sync.RWMutex.RLock"} {
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(string(allStacks()), state); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no goroutine is in %q: the runtime calls it otherwise", state)
			}
		}
	}
	mu.Unlock()
	rw.Unlock()
}
