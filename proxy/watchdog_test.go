//go:build linux

package proxy

import (
	"testing"
	"time"
)

// GuardLoops fails the test when something in it blocks an event loop: a coroutine that waits, for longer
// than locks are held on a busy machine, in a way that does not let its loop go on.
func GuardLoops(t testing.TB, p *Proxy) { GuardLoopsFor(t, p, 200*time.Millisecond) }

// GuardLoopsFor is GuardLoops where the machine has more to do than it can: patience is how long a turn may take.
func GuardLoopsFor(t testing.TB, p *Proxy, patience time.Duration) {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		dog := watchdog{patience: int(patience / (10 * time.Millisecond))}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if dog.look(p.engines.started()) == 0 {
				continue
			}
			for _, s := range busyCoroutines() {
				if s.waiting() {
					t.Errorf("an event loop is blocked:\n%s", s.text)
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
}
