package endpoint

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventSize = 100 // bytes of an event, where the request asks for no other size
	eventHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// events are an endless answer.
type events struct {
	c      *conn
	stream *stream // of HTTP/2; nil for HTTP/1.1
	every  time.Duration
	due    time.Time
	filler []byte
}

// clock knows which events are due, the next first.
type clock struct {
	fd    int // a timer: readable when events are due
	queue queue
	armed time.Time
}

func (c *clock) open() (err error) {
	if c.fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	return nil
}

// begin lets events begin, the first of them at once.
func (c *clock) begin(to *conn, s *stream, r *request) *events {
	size := r.size
	if size < 0 {
		size = eventSize
	}
	e := &events{c: to, stream: s, every: r.every, due: time.Now(), filler: bytes.Repeat([]byte("x"), max(size-StampLen, 0))}
	heap.Push(&c.queue, e)
	return e
}

// tick sends the events that are due, and sets the clock to the next.
func (l *loop) tick() {
	q := &l.clock.queue
	now := time.Now()
	for len(*q) > 0 && !(*q)[0].due.After(now) {
		e := (*q)[0]
		if e.c.gone || e.stream != nil && e.stream.gone {
			heap.Pop(q)
			continue
		}
		e.due = e.due.Add(e.every)
		heap.Fix(q, 0)
		// What a slow reader leaves behind does not pile up: it misses events.
		if !e.c.parked && e.send() && !l.flush(e.c) {
			l.drop(e.c)
		}
	}
	if len(*q) == 0 || (*q)[0].due.Equal(l.clock.armed) {
		return
	}
	l.clock.armed = (*q)[0].due
	wait := max(time.Until(l.clock.armed), 1) // 0 would stop it
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	_ = unix.TimerfdSettime(l.clock.fd, 0, &spec, nil) // fails only for a wrong time
}

// send puts one event behind what is on its way; false when the client has no window for it.
func (e *events) send() bool {
	var stamp [StampLen]byte
	strconv.AppendInt(stamp[:0], time.Now().UnixNano(), 10)
	if e.stream != nil {
		return e.stream.event(e.c, stamp[:], e.filler)
	}
	c := e.c
	size := len("data: ") + StampLen + len(e.filler) + len("\n\n")
	c.append(strconv.FormatInt(int64(size), 16))
	c.append("\r\ndata: ")
	c.out = append(append(c.out, stamp[:]...), e.filler...)
	c.append("\n\n\r\n")
	return true
}

// queue is a heap, the next event first.
type queue []*events

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return cmp.Less(q[i].due.UnixNano(), q[j].due.UnixNano()) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)        { *q = append(*q, e.(*events)) }

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
