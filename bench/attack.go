package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults and bounds of an [Attack].
const (
	DefaultConnections = 64
	MaxConnections     = 10_000
	DefaultTimeout     = 10 * time.Second
	MaxTimeout         = 10 * time.Minute

	// LateAfter is how long after its due moment a request may be sent before it counts as late.
	LateAfter = time.Millisecond
	// Grace is how long an interrupted attack waits for the answers under way.
	Grace = time.Second
	// staleAfter is how long a connection may be idle and still be used without a look at it.
	staleAfter = time.Second
)

// Options describe an [Attack].
type Options struct {
	Address string // HOST:PORT to connect to
	Target  Target
	// Pacer is the schedule. nil is a closed loop: every connection sends its next request
	// when it has the answer to the one before.
	Pacer    Pacer
	Duration time.Duration // no request is due at or after it; 0 runs until the schedule ends or canceled
	// Warmup is how long at the start requests are sent and not counted: those due before it.
	Warmup time.Duration
	// TLS is spoken when it is set; without a ServerName that of the address.
	TLS *tls.Config
	// HTTP2 is spoken, by ALPN over TLS and by prior knowledge without, instead of HTTP/1.1.
	HTTP2 bool
	// Connections that are open at once; default DefaultConnections.
	Connections int
	// Streams is how many requests may be under way at once on each connection; default 1, and more
	// need HTTP2.
	Streams int
	// Timeout is how long after it was sent a request is given up; default DefaultTimeout. A
	// request that finds no free connection for as long after it was due is dropped.
	Timeout time.Duration
	// SLO is the latency that a good answer keeps; 0 counts every answer as good.
	SLO time.Duration
}

// Attack sends requests to a target when they are due.
//
// Each connection, and each stream of HTTP/2, is a worker that takes the next arrival from the one schedule, waits for its
// moment, sends it and reads the answer. Requests are therefore sent in the order in which they
// are due, as soon as they are due and a connection is free, with no queue in between.
type Attack struct {
	Options
	dialer  dialer
	shared  []*shared // connections of HTTP/2
	workers []*worker
	shards  []shard

	mu       sync.Mutex // guards the schedule
	start    time.Time  // set before the workers run, which read it without the lock
	arrivals uint64
	ended    bool

	interrupted atomic.Pointer[time.Time] // when; nil until then
}

// NewAttack checks o and returns the attack it describes.
func NewAttack(o Options) (*Attack, error) {
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	if o.Streams == 0 {
		o.Streams = 1
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	switch {
	case o.Connections < 1 || o.Connections > MaxConnections:
		return nil, fmt.Errorf("connections %d: must be 1 to %d", o.Connections, MaxConnections)
	case o.Streams < 1 || o.Streams*o.Connections > MaxConnections:
		return nil, fmt.Errorf("streams %d: must be at least 1, and %d on all connections at most", o.Streams, MaxConnections)
	case o.Streams > 1 && !o.HTTP2:
		return nil, fmt.Errorf("streams %d: HTTP/1.1 has one request at a time on a connection; more need HTTP/2", o.Streams)
	case o.Timeout < time.Millisecond || o.Timeout > MaxTimeout:
		return nil, fmt.Errorf("timeout %v: must be %v to %v", o.Timeout, time.Millisecond, MaxTimeout)
	case o.Duration < 0:
		return nil, fmt.Errorf("duration %v: must not be negative", o.Duration)
	case o.Warmup < 0:
		return nil, fmt.Errorf("warm-up %v: must not be negative", o.Warmup)
	case o.SLO < 0:
		return nil, fmt.Errorf("SLO %v: must not be negative", o.SLO)
	}
	a := &Attack{Options: o, start: time.Now(), dialer: dialer{address: o.Address, tls: o.TLS, http2: o.HTTP2}}
	a.shards = make([]shard, min(o.Connections*o.Streams, 2*runtime.GOMAXPROCS(0)))
	for i := range a.shards {
		a.shards[i].tally, a.shards[i].spare = NewTally(o.SLO), NewTally(o.SLO)
	}
	return a, nil
}

// Run opens the connections, then sends what is due until the duration is over or ctx is done,
// and returns when the last answer is in. It fails only before the first request: when no
// connection at all could be made.
//
// When ctx ends first, requests that were due and not yet sent count as dropped, and those
// without an answer after [Grace] as unfinished.
func (a *Attack) Run(ctx context.Context) error {
	if a.workers == nil {
		if err := a.Open(ctx); err != nil {
			return err
		}
	}
	a.mu.Lock()
	a.start = time.Now()
	a.mu.Unlock()
	var running sync.WaitGroup
	for _, w := range a.workers {
		running.Go(func() { w.run(ctx) })
	}
	done := make(chan struct{})
	stopped := context.AfterFunc(ctx, func() { defer close(done); a.interrupt() })
	running.Wait()
	if !stopped() {
		<-done
		a.dropUnsent()
	}
	a.close()
	return nil
}

// close ends the workers, none of which runs, and what they share.
func (a *Attack) close() {
	for _, w := range a.workers {
		w.close()
	}
	for _, s := range a.shared {
		s.close()
	}
}

// Open opens the connections, which Run does otherwise, so that no request waits for those of others. Run must
// follow, unless it fails: when no connection at all could be made.
func (a *Attack) Open(ctx context.Context) error {
	var refused error
	connected := 0
	for i := range a.Connections * a.Streams {
		alarm, err := newAlarm()
		if err != nil {
			return err
		}
		w := &worker{attack: a, shard: &a.shards[i%len(a.shards)], alarm: alarm}
		if a.HTTP2 {
			w.shared = a.sharedBy(i)
		}
		a.workers = append(a.workers, w)
		if refused != nil {
			continue // one refusal tells enough; the worker will try again when a request is due
		}
		if err := w.connect(ctx, time.Now().Add(a.Timeout)); err != nil {
			refused = err
			continue
		}
		connected++
	}
	if connected == 0 {
		a.close()
		return fmt.Errorf("connect to %s: %w", a.Address, errors.Join(refused, ctx.Err()))
	}
	return nil
}

// sharedBy returns the connection that the i-th worker shares; each in turn gets one.
func (a *Attack) sharedBy(i int) *shared {
	if i < a.Connections {
		a.shared = append(a.shared, &shared{dialer: &a.dialer, streams: a.Streams})
	}
	return a.shared[i%a.Connections]
}

// Start is when the attack began, or was made when it has not begun yet; offsets in results
// count from it.
func (a *Attack) Start() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.start
}

// now is the offset from the start.
func (a *Attack) now() time.Duration { return time.Since(a.start) }

// next takes the next arrival from the schedule.
func (a *Attack) next() (n uint64, due time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 0, 0, false
	}
	if a.Pacer == nil {
		due = a.now()
	} else {
		due = a.Pacer.Next()
	}
	if due == Never || a.Duration > 0 && due >= a.Duration {
		a.ended = true
		return 0, 0, false
	}
	n = a.arrivals
	a.arrivals++
	return n, due, true
}

// interrupt ends the schedule, wakes the workers that wait for a moment, and gives those that
// wait for an answer a last deadline.
func (a *Attack) interrupt() {
	now := time.Now()
	a.interrupted.Store(&now)
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	for _, w := range a.workers {
		w.alarm.cancel()
		w.hurry(now.Add(Grace))
	}
	for _, s := range a.shared {
		s.hurry(now.Add(Grace))
	}
}

// dropUnsent counts what the schedule still held when the attack was interrupted.
func (a *Attack) dropUnsent() {
	if a.Pacer == nil {
		return
	}
	end := a.interrupted.Load().Sub(a.start)
	if a.Duration > 0 {
		end = min(end, a.Duration)
	}
	dropped := uint64(0)
	for due := a.Pacer.Next(); due < end; due = a.Pacer.Next() {
		if due >= a.Warmup {
			dropped++
		}
	}
	s := &a.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.Scheduled += dropped
	s.tally.Dropped += dropped
}

// Take returns what was recorded since the last Take. It may be called while Run runs.
func (a *Attack) Take() *Tally {
	out := NewTally(a.SLO)
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		s.tally, s.spare = s.spare, s.tally
		s.mu.Unlock()
		// Only Take touches the spare, so merging it holds no worker up.
		out.Merge(s.spare)
		out.Sightings = append(out.Sightings, s.spare.Sightings...)
		s.spare.Reset()
	}
	return out
}

// shard is a tally that some of the workers share. There are more shards than processors, so
// its lock is hardly ever contended.
type shard struct {
	mu    sync.Mutex
	tally *Tally
	spare *Tally // exchanged with tally by Take
	_     [64]byte
}

func (s *shard) add(r *Result) {
	s.mu.Lock()
	s.tally.Add(r)
	s.mu.Unlock()
}

func (s *shard) drop() {
	s.mu.Lock()
	s.tally.Drop()
	s.mu.Unlock()
}

func (s *shard) connected() {
	s.mu.Lock()
	s.tally.Connections++
	s.mu.Unlock()
}
