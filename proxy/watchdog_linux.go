package proxy

import (
	"bytes"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"
)

// watchdog finds what blocks an event loop: code that waits in another way than by its strand or its
// sockets, or that computes for long. All requests of the loop wait meanwhile, so each finding is a
// bug, unless the machine itself is out of breath.
type watchdog struct {
	patience int // looks at the same turn that make a loop blocked
	known    map[*loop]*watchedTurn
}

type watchedTurn struct {
	turn  uint64
	looks int
}

// look returns how many loops have come to be blocked since the last look.
func (d *watchdog) look(loops []*loop) (blocked int) {
	if d.known == nil {
		d.known = map[*loop]*watchedTurn{}
	}
	for _, l := range loops {
		k := d.known[l]
		if k == nil {
			k = new(watchedTurn)
			d.known[l] = k
		}
		if turn := l.turn.Load(); turn != k.turn || turn%2 == 0 {
			*k = watchedTurn{turn: turn}
			continue
		}
		if k.looks++; k.looks == d.patience {
			blocked++
		}
	}
	return blocked
}

// blockedReportEvery is the time between two reports of blocked loops: making one stops the program for
// a moment.
const blockedReportEvery = 10 * time.Second

// guard counts loops that are blocked and reports where. The watch calls it with each sweep.
func (g *engines) guard(loops []*loop) {
	n := g.dog.look(loops)
	if n == 0 {
		return
	}
	g.blocked.Add(uint64(n))
	if time.Since(g.reported) < blockedReportEvery {
		return
	}
	g.reported = time.Now()
	stacks := busyCoroutines()
	if len(stacks) == 0 {
		return // it went on just now
	}
	g.p.log.Warn("an event loop is blocked: please report this, unless the machine is overloaded",
		zap.Duration("for_at_least", sweepInterval), zap.String("state", stacks[0].state), zap.String("stack", stacks[0].text))
}

// coroutineStack is where the coroutine of a loop stands.
type coroutineStack struct {
	state string // as the runtime calls it: running, chan receive, …
	text  string
}

// waiting reports whether the coroutine waits for something else than a processor.
func (s *coroutineStack) waiting() bool {
	switch s.state {
	case "running", "runnable", "GC assist wait":
		return false
	case "semacquire":
		// The runtime's own: who allocates, in a sync.Pool for one, may begin a collection while another is being
		// begun or the world is stopped. Mutexes have a state of their own.
		return strings.Contains(s.text, "runtime_Semacquire")
	}
	return true
}

// maxStacks bounds the memory for the stacks of all goroutines, in bytes.
const maxStacks = 8 << 20

// busyCoroutines returns the coroutines of all loops that have not handed their loop back.
func busyCoroutines() (list []coroutineStack) {
	for _, one := range bytes.Split(allStacks(), []byte("\n\n")) {
		head, _, _ := bytes.Cut(one, []byte("\n"))
		_, state, ok := bytes.Cut(head, []byte("["))
		if !ok || !bytes.Contains(one, []byte("proxy.(*worker).run(")) {
			continue
		}
		state, _, _ = bytes.Cut(state, []byte("]"))
		state, _, _ = bytes.Cut(state, []byte(","))
		if string(state) != "coroutine" {
			list = append(list, coroutineStack{string(state), string(one)})
		}
	}
	return list
}

func allStacks() []byte {
	for size := 64 << 10; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= maxStacks {
			return b[:n]
		}
	}
}
