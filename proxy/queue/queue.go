// Package queue bounds how many requests are under way and has further ones wait for their turn. It knows no
// HTTP and has no clock: times are nanoseconds on any monotonic one.
//
// A queue is bounded, too. Whoever would be served last has to go when it is full, be it the newcomer or one
// that waits. Of those that wait the most important class is served first; within a class the order is that of
// the settings. While somebody waits, all places are taken: who enters without waiting overtakes nobody.
package queue

import (
	"sync"
	"sync/atomic"
	"time"
)

// Order says who of a class is served first.
type Order uint8

// The orders.
const (
	FIFO     Order = iota
	LIFO           // who came last still has the most time left
	Adaptive       // FIFO, and LIFO while the queue is more than half full
)

// Classes is how many classes of importance there are; 0 is the most important.
const Classes = 3

// Settings are what a reload may change.
type Settings struct {
	Limit int // requests under way, at least 1
	Size  int // requests that wait
	Order Order
}

// Verdict is what becomes of a request.
type Verdict uint8

// The verdicts.
const (
	Admitted Verdict = iota // it is under way, until Leave
	Waiting
	Full // refused: there is no room in the queue
	Late // refused: its turn is expected after its deadline
	Shed // it waited, and had to make room for one that is served before it
	Gone // it left of its own accord
)

// Waiter is a request in a queue.
type Waiter struct {
	Class    int   // 0 to Classes-1
	Deadline int64 // when it is of no use any more to be served; 0: never
	// Wake is called once, from anywhere, when it is no longer waiting without having left.
	Wake func()

	queue      *Queue
	prev, next *Waiter // under the group's lock
	state      atomic.Uint32
}

// State is what has become of it so far.
func (w *Waiter) State() Verdict { return Verdict(w.state.Load()) }

// Queue is where it joined.
func (w *Waiter) Queue() *Queue { return w.queue }

// Quit takes w out of the queue. It returns false when it was no longer waiting: then State is final, and where
// it was admitted it has to leave.
func (w *Waiter) Quit() bool {
	g := w.queue.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.State() != Waiting {
		return false
	}
	w.queue.remove(w)
	w.state.Store(uint32(Gone))
	return true
}

// group is a lock, and what the queues under it have in common.
type group struct {
	mu       sync.Mutex
	settings Settings
	under    int // way, in all its queues
	waiting  int
	peak     int   // the most that were under way since ForgetPeak
	mean     int64 // how long a request is under way, of late
}

// Queue is one bound. It is safe for concurrent use.
type Queue struct {
	g       *group
	under   int
	waiting int
	classes [Classes]list

	// Of a key's queue.
	shard *shard
	hash  uint64
	next  *Queue // of its bucket, or free
}

// New returns an empty queue.
func New(s Settings) *Queue { return &Queue{g: &group{settings: s}} }

// Enter takes a place if there is one.
func (q *Queue) Enter() bool {
	q.g.mu.Lock()
	ok := q.enter()
	q.g.mu.Unlock()
	return ok
}

func (q *Queue) enter() bool {
	g := q.g
	if q.under >= g.settings.Limit {
		return false
	}
	q.under++
	g.under++
	g.peak = max(g.peak, g.under)
	return true
}

// Join takes a place, or has w wait for one. The answer is Admitted, Waiting, Full or Late.
func (q *Queue) Join(w *Waiter, now int64) Verdict {
	q.g.mu.Lock()
	v, shed := q.join(w, now)
	q.g.mu.Unlock()
	if shed != nil {
		shed.Wake()
	}
	return v
}

func (q *Queue) join(w *Waiter, now int64) (v Verdict, shed *Waiter) {
	w.queue = q
	if q.enter() {
		w.state.Store(uint32(Admitted))
		return Admitted, nil
	}
	if q.waiting >= q.g.settings.Size {
		if shed = q.last(); shed == nil || !q.before(w, shed) {
			return Full, nil
		}
	}
	if w.Deadline != 0 && now+q.expected(w.Class) > w.Deadline {
		return Late, nil
	}
	if shed != nil {
		q.remove(shed)
		shed.state.Store(uint32(Shed))
	}
	w.state.Store(uint32(Waiting))
	q.classes[w.Class].push(w)
	q.waiting++
	q.g.waiting++
	return Waiting, shed
}

// meanOf is how many of the last requests mean is taken over.
const meanOf = 16

// Leave gives a place back. served is how long the request was under way; negative where that says nothing about
// other requests.
func (q *Queue) Leave(served time.Duration) {
	g := q.g
	g.mu.Lock()
	switch {
	case served < 0:
	case g.mean == 0:
		g.mean = int64(served)
	default:
		g.mean += (int64(served) - g.mean) / meanOf
	}
	q.under--
	g.under--
	admitted := q.admit(nil)
	if q.shard != nil && q.under == 0 {
		q.shard.forget(q)
	}
	g.mu.Unlock()
	wake(admitted)
}

// admit lets those in for whom there is room and puts them in front of admitted.
func (q *Queue) admit(admitted *Waiter) *Waiter {
	for q.waiting > 0 && q.enter() {
		w := q.first()
		q.remove(w)
		w.state.Store(uint32(Admitted))
		w.next, admitted = admitted, w
	}
	return admitted
}

// wake is called without the lock: Wake may take others.
func wake(w *Waiter) {
	for w != nil {
		next := w.next
		w.Wake()
		w = next
	}
}

// Configure puts settings in force. Who waits stays, and who is under way goes on, also where there are more of
// them than there may be now.
func (q *Queue) Configure(s Settings) {
	q.g.mu.Lock()
	q.g.settings = s
	admitted := q.admit(nil)
	q.g.mu.Unlock()
	wake(admitted)
}

// SetLimit is Configure for the limit alone.
func (q *Queue) SetLimit(n int) {
	q.g.mu.Lock()
	q.g.settings.Limit = n
	admitted := q.admit(nil)
	q.g.mu.Unlock()
	wake(admitted)
}

// Figures are what is known of a queue.
type Figures struct{ Limit, Under, Waiting int }

// Figures returns them.
func (q *Queue) Figures() Figures {
	q.g.mu.Lock()
	defer q.g.mu.Unlock()
	return Figures{q.g.settings.Limit, q.g.under, q.g.waiting}
}

// Peak is the greatest number of requests under way since ForgetPeak.
func (q *Queue) Peak() int {
	q.g.mu.Lock()
	defer q.g.mu.Unlock()
	return q.g.peak
}

// ForgetPeak begins anew with those that are under way.
func (q *Queue) ForgetPeak() {
	q.g.mu.Lock()
	defer q.g.mu.Unlock()
	q.g.peak = q.g.under
}

// Expected is how long a request of the least important class would have to wait.
func (q *Queue) Expected() time.Duration {
	q.g.mu.Lock()
	defer q.g.mu.Unlock()
	return time.Duration(q.g.mean * int64(q.waiting+1) / int64(max(q.g.settings.Limit, 1)))
}

// expected is how long a newcomer waits for its turn, by Little's law: a place comes free each mean / limit. It
// counts the whole time until the first does, of which some may be over; a request that this makes late could
// not have been served in time, for that takes no less.
func (q *Queue) expected(class int) int64 {
	ahead := 1
	for c := range class {
		ahead += q.classes[c].n
	}
	if !q.lifo() {
		ahead += q.classes[class].n
	}
	return q.g.mean * int64(ahead) / int64(max(q.g.settings.Limit, 1))
}

func (q *Queue) lifo() bool {
	s := &q.g.settings
	return s.Order == LIFO || s.Order == Adaptive && 2*q.waiting > s.Size
}

// first is who is served next.
func (q *Queue) first() *Waiter {
	for c := range q.classes {
		if l := &q.classes[c]; l.n > 0 {
			if q.lifo() {
				return l.newest
			}
			return l.oldest
		}
	}
	return nil
}

// last is who is served after all others.
func (q *Queue) last() *Waiter {
	for c := Classes - 1; c >= 0; c-- {
		if l := &q.classes[c]; l.n > 0 {
			if q.lifo() {
				return l.oldest
			}
			return l.newest
		}
	}
	return nil
}

// before reports whether the newcomer w is served before o.
func (q *Queue) before(w, o *Waiter) bool {
	return w.Class < o.Class || w.Class == o.Class && q.lifo()
}

func (q *Queue) remove(w *Waiter) {
	q.classes[w.Class].remove(w)
	q.waiting--
	q.g.waiting--
}

// list are the waiters of a class.
type list struct {
	oldest, newest *Waiter
	n              int
}

func (l *list) push(w *Waiter) {
	w.prev, w.next = l.newest, nil
	if l.newest != nil {
		l.newest.next = w
	} else {
		l.oldest = w
	}
	l.newest = w
	l.n++
}

func (l *list) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.oldest = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.newest = w.prev
	}
	w.prev, w.next = nil, nil
	l.n--
}
