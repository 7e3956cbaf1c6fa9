package auth

import (
	"net/netip"
	"sync"
)

// Queue runs long computations, so few at a time that the processors are there for requests too. Those that
// wait are bounded, and so is what one client has of them.
type Queue struct {
	atOnce, most, each int

	mu      sync.Mutex
	running int
	waiting []task
	clients map[netip.Addr]int // of those that wait or run
}

type task struct {
	client netip.Addr
	run    func()
}

// NewQueue returns a queue in which at most most tasks wait, and each client has at most a quarter of them.
func NewQueue(atOnce, most int) *Queue {
	return &Queue{atOnce: atOnce, most: most, each: max(most/4, 1), clients: map[netip.Addr]int{}}
}

// Do has run called by a goroutine, soon; false where too much waits already.
func (q *Queue) Do(client netip.Addr, run func()) bool {
	if client.Is6() { // one client has the network
		network, _ := client.Prefix(64)
		client = network.Addr()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.clients[client] >= q.each {
		return false
	}
	t := task{client, run}
	switch {
	case q.running < q.atOnce:
		q.running++
		go q.work(t)
	case len(q.waiting) < q.most:
		q.waiting = append(q.waiting, t)
	default:
		return false
	}
	q.clients[client]++
	return true
}

func (q *Queue) work(t task) {
	for more := true; more; {
		t.run()
		t, more = q.next(t)
	}
}

// next ends a task and takes one that waits.
func (q *Queue) next(done task) (t task, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.clients[done.client]--; q.clients[done.client] == 0 {
		delete(q.clients, done.client)
	}
	if len(q.waiting) == 0 {
		q.running--
		return task{}, false
	}
	t, q.waiting[0] = q.waiting[0], task{}
	q.waiting = q.waiting[1:]
	return t, true
}
