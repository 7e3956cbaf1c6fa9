package proxy

import (
	"iter"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The loop engine: each loop waits for events on all of its connections at once, and runs what they
// are for in coroutines, so that the code of a request is the same blocking-style code as on the
// goroutine engine. A connection belongs to one loop for its life. Between two requests it has no
// coroutine and no buffers: coroutines (workers) are the loop's, as many as requests are under way.
//
// A coroutine runs on its loop's goroutine, so nothing in it may block but through its strand and its
// sockets, which let the loop go on meanwhile; the watchdog finds what does.

// loop is one event loop. Its fields belong to its goroutine, and to the coroutine that runs on it,
// except where they say otherwise.
type loop struct {
	index  int
	epoll  int
	event  int  // an eventfd, by which posts wake the loop
	keeps  bool // its processor, while it waits
	events []unix.EpollEvent

	conns []*loopConn // by slot
	slots []int32     // free ones
	round uint32      // of the last connection: tells an event of a closed one from one of its slot's next

	current *worker // that runs
	free    []*worker
	timed   []*worker      // those in park
	again   []*loopConn    // whose coroutines gave others a turn
	woken   []*worker      // by others, and
	tasks   []func(strand) // which others have spawned

	// How many client connections the loop has, and how many workers are in park; anybody may read.
	clients, waiting atomic.Int64
	// turn is odd while a coroutine runs; it grows with every change. For the watchdog.
	turn atomic.Uint64

	mu     sync.Mutex
	posts  []func()
	posted bool
	deaf   bool // takes no more posts
	ended  chan struct{}
	ending bool // everything fails from now on
}

const (
	eventsAtOnce = 64
	// rawWait is how long a loop waits for events without telling the scheduler, in ms, and rawWaits how
	// many such waits in vain make it idle. Within them a wake-up costs no hand-over between threads.
	rawWait  = 2
	rawWaits = 200
)

func newLoop(index int, keeps bool) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &loop{index: index, epoll: ep, event: ev, keeps: keeps, events: make([]unix.EpollEvent, eventsAtOnce), ended: make(chan struct{})}
	// Edge-triggered, so that the count need not be read.
	err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: -1})
	if err != nil {
		_ = unix.Close(ev)
		_ = unix.Close(ep)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return l, nil
}

// post has f run by the loop, soon, from anywhere. It returns false when the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return false
	}
	l.posts = append(l.posts, f)
	if !l.posted {
		l.posted = true
		one := [8]byte{1}
		_, _ = unix.Write(l.event, one[:]) // under the lock: the descriptor is closed once nothing can be posted
	}
	return true
}

func (l *loop) runPosts() {
	l.mu.Lock()
	posts := l.posts
	l.posts, l.posted = nil, false
	l.mu.Unlock()
	for _, f := range posts {
		f()
	}
}

// run is the loop's goroutine, until end.
func (l *loop) run() {
	defer close(l.ended)
	for !l.over() {
		n := l.wait()
		posts := false
		// First all of what is known, then what follows from it: a connection to an endpoint that has
		// ended must not be chosen for a request of the same batch.
		for i := range l.events[:n] {
			if e := &l.events[i]; e.Fd < 0 {
				posts = true
			} else if c := l.at(e); c != nil {
				c.note(e.Events)
			}
		}
		for i := range l.events[:n] {
			if c := l.at(&l.events[i]); c != nil {
				c.proceed()
			}
		}
		if posts {
			l.runPosts()
		}
		l.resumeAgain()
		l.resumeWoken()
	}
	for _, w := range l.free {
		w.stop()
	}
	l.discard()
}

// discard closes what the loop holds, which does not run.
func (l *loop) discard() {
	for _, c := range l.conns {
		if c != nil {
			c.closeNow()
		}
	}
	_ = unix.Close(l.event)
	_ = unix.Close(l.epoll)
}

// resumeAgain gives those who let others have a turn theirs, once.
func (l *loop) resumeAgain() {
	n := len(l.again)
	for i := range n {
		c := l.again[i]
		c.queued = false
		if c.reader != nil {
			c.reader.resume()
		}
	}
	l.again = l.again[:copy(l.again, l.again[n:])]
}

// resumeWoken runs those whom other coroutines have woken, and starts what they have begun. Who is woken meanwhile
// waits for the next turn.
func (l *loop) resumeWoken() {
	n := len(l.woken)
	for i := range n {
		if w := l.woken[i]; w.waits {
			w.waits = false
			w.resume()
		}
	}
	l.woken = slices.Delete(l.woken, 0, n)
	n = len(l.tasks)
	for i := range n {
		l.begin(l.tasks[i], true)
	}
	l.tasks = slices.Delete(l.tasks, 0, n)
}

// at finds the connection of an event; nil when it is closed by now.
func (l *loop) at(e *unix.EpollEvent) *loopConn {
	if e.Fd < 0 {
		return nil
	}
	if c := l.conns[e.Fd]; c != nil && c.round == uint32(e.Pad) {
		return c
	}
	return nil
}

// wait waits for events and returns how many there are.
func (l *loop) wait() int {
	if len(l.again)+len(l.woken)+len(l.tasks) > 0 {
		return l.poll(0)
	}
	if l.keeps {
		for range rawWaits {
			if n := l.poll(rawWait); n > 0 {
				return n
			}
		}
	}
	n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), eventsAtOnce, math.MaxUint64, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// poll waits for events for at most so many ms, without telling the scheduler. It is a call, and so a
// point at which the runtime, whose signal ends the wait, may stop the loop's goroutine.
//
//go:noinline
func (l *loop) poll(ms uintptr) int {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), eventsAtOnce, ms, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// adopt makes fd, a non-blocking socket, one of the loop's connections.
func (l *loop) adopt(fd int) (*loopConn, error) {
	l.round++
	c := &loopConn{l: l, fd: fd, round: l.round}
	if n := len(l.slots); n > 0 {
		c.slot, l.slots = l.slots[n-1], l.slots[:n-1]
	} else {
		c.slot = int32(len(l.conns))
		l.conns = append(l.conns, nil)
	}
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: c.slot, Pad: int32(c.round),
	})
	if err != nil {
		l.slots = append(l.slots, c.slot)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	l.conns[c.slot] = c
	return c, nil
}

func (l *loop) forget(c *loopConn) {
	l.conns[c.slot] = nil
	l.slots = append(l.slots, c.slot)
}

// end makes everything on the loop fail, and the loop end when nothing is left on it.
func (l *loop) end() {
	l.post(func() {
		l.ending = true
		for _, c := range l.conns {
			if c != nil {
				c.interrupted.Store(true)
				c.proceed()
			}
		}
		for _, w := range append([]*worker(nil), l.timed...) {
			w.resume()
		}
	})
	<-l.ended
}

// over ends the loop when it is to end, no client connection is left, and with them no coroutine, and
// nothing is posted.
func (l *loop) over() bool {
	if !l.ending || l.clients.Load() > 0 || len(l.woken)+len(l.tasks) > 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = len(l.posts) == 0
	return l.deaf
}

// expire wakes the workers whose time is over; posted by the watch while there are any.
func (l *loop) expire() {
	now := time.Now()
	for _, w := range append([]*worker(nil), l.timed...) {
		if now.After(w.until) {
			w.resume()
		}
	}
}

// start runs task in a coroutine, up to the first time that it has to wait.
func (l *loop) start(task func(strand)) { l.begin(task, false) }

// begin is start; client: the task counts among the loop's clients.
func (l *loop) begin(task func(strand), client bool) {
	var w *worker
	if n := len(l.free); n > 0 {
		w, l.free = l.free[n-1], l.free[:n-1]
	} else {
		w = newWorker(l)
	}
	w.task, w.client = task, client
	w.resume()
}

// worker is a coroutine of a loop and, while it has a task, the strand of a connection.
type worker struct {
	l      *loop
	next   func() (struct{}, bool)
	stop   func()
	wait   func(struct{}) bool // lets the loop go on
	task   func(strand)
	client bool // task counts among the loop's clients

	reads int  // since it was resumed
	waits bool // on a signal
	woken atomic.Bool
	until time.Time // in timed
}

func newWorker(l *loop) *worker {
	w := &worker{l: l}
	w.next, w.stop = iter.Pull(w.run)
	return w
}

// maxFree is how many idle coroutines a loop keeps.
const maxFree = 256

func (w *worker) run(yield func(struct{}) bool) {
	w.wait = yield
	for {
		w.task(w)
		w.task = nil
		if w.client {
			w.l.clients.Add(-1)
		}
		if len(w.l.free) >= maxFree {
			return
		}
		w.l.free = append(w.l.free, w)
		if !yield(struct{}{}) {
			return
		}
	}
}

// resume runs the coroutine until it waits again or is done. The loop calls it.
func (w *worker) resume() {
	w.l.turn.Add(1)
	w.reads = 0
	w.l.current = w
	w.next()
	w.l.current = nil
	w.l.turn.Add(1)
}

func (w *worker) lane() int { return 1 + w.l.index }

func (w *worker) own(d descriptor) {
	if t, ok := d.(*tlsConn); ok {
		d = t.file
	}
	if c, ok := d.(*loopConn); ok {
		c.owner = w
	}
}

func (w *worker) park(timeout time.Duration) bool {
	l := w.l
	w.until = time.Now().Add(timeout)
	l.timed = append(l.timed, w)
	l.waiting.Add(1)
	for !w.woken.Load() && !l.ending && time.Now().Before(w.until) {
		w.wait(struct{}{})
	}
	l.waiting.Add(-1)
	for i, o := range l.timed {
		if o == w {
			l.timed = append(l.timed[:i], l.timed[i+1:]...)
			break
		}
	}
	return w.woken.Swap(false)
}

func (w *worker) unpark() {
	w.woken.Store(true)
	w.l.post(func() {
		if w.task != nil && w.woken.Load() {
			w.resume()
		}
	})
}

// spawn counts the task as a client of the loop, which so does not end before it.
func (w *worker) spawn(task func(strand)) bool {
	l := w.l
	if l.ending {
		return false
	}
	l.clients.Add(1)
	l.tasks = append(l.tasks, task)
	return true
}

func (w *worker) signal() signal { return &loopSignal{l: w.l} }

// loopSignal is the loop engine's signal.
type loopSignal struct {
	l *loop
	w *worker // that waits
}

func (g *loopSignal) wait(mu sync.Locker) {
	w := g.l.current
	g.w, w.waits = w, true
	mu.Unlock()
	w.wait(struct{}{})
	w.waits = false
	mu.Lock()
	g.w = nil
}

func (g *loopSignal) raise() {
	if g.w != nil {
		g.l.woken = append(g.l.woken, g.w)
		g.w = nil
	}
}

func (g *loopSignal) raiseFrom() {
	w := g.w
	if w == nil {
		return
	}
	g.w = nil
	g.l.post(func() { g.l.woken = append(g.l.woken, w) })
}
