package backend

import (
	"errors"
	"sync"
	"time"

	"weir/backend/load"
)

// meterPeriod is the least time over which the meter takes rates.
const meterPeriod = time.Second

// meter lets requests run, a few at once and the others in line, and knows how busy that makes
// the server. Its rates are over the last one to two periods, or since the request before when
// that is longer ago.
type meter struct {
	now     func() time.Time
	workers chan struct{} // holds a token for every free worker
	limit   int           // requests that may wait

	mu       sync.Mutex
	inFlight int
	queued   int
	running  int
	done     uint64 // requests ended
	failed   uint64 // of them, those that this server failed
	// worked is the time workers were running, all added up to the moment at.
	worked time.Duration
	at     time.Time
	// Two marks of the past: rates are taken from the older.
	older, newer mark
}

type mark struct {
	at           time.Time
	done, failed uint64
	worked       time.Duration
}

func newMeter(workers, queue int, now func() time.Time) *meter {
	m := &meter{now: now, workers: make(chan struct{}, workers), limit: queue, at: now()}
	for range workers {
		m.workers <- struct{}{}
	}
	m.older.at, m.newer.at = m.at, m.at
	return m
}

var errBusy = errors.New("the queue is full")

// begin counts a request in; every begin is followed by end.
func (m *meter) begin() {
	m.mu.Lock()
	m.advance()
	m.inFlight++
	m.mu.Unlock()
}

// end counts a request out; failed is true when the failure was this server's.
func (m *meter) end(failed bool) {
	m.mu.Lock()
	m.advance()
	m.inFlight--
	m.done++
	if failed {
		m.failed++
	}
	m.mu.Unlock()
}

// work waits for a worker and calls run on this goroutine. It fails with errBusy, and run is
// not called, when too many wait already.
func (m *meter) work(run func()) error {
	select {
	case <-m.workers:
	default:
		if !m.join() {
			return errBusy
		}
		<-m.workers
		m.leave()
	}
	m.run(+1)
	// Even if run panics the worker must come free again.
	defer func() {
		m.run(-1)
		m.workers <- struct{}{}
	}()
	run()
	return nil
}

func (m *meter) join() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queued >= m.limit {
		return false
	}
	m.queued++
	return true
}

func (m *meter) leave() {
	m.mu.Lock()
	m.queued--
	m.mu.Unlock()
}

func (m *meter) run(change int) {
	m.mu.Lock()
	m.advance()
	m.running += change
	m.mu.Unlock()
}

// advance brings worked up to now, and moves the marks. The caller holds mu.
func (m *meter) advance() {
	now := m.now()
	if d := now.Sub(m.at); d > 0 {
		m.worked += time.Duration(m.running) * d
		m.at = now
	}
	if now.Sub(m.newer.at) >= meterPeriod {
		m.older = m.newer
		m.newer = mark{at: m.at, done: m.done, failed: m.failed, worked: m.worked}
	}
}

// busyNow is how many requests there are at this moment.
func (m *meter) busyNow() (b struct{ inFlight, queued int }) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.inFlight, b.queued = m.inFlight, m.queued
	return b
}

// report is the load for an ORCA report. Application utilization is the share of the workers'
// time that was spent running.
func (m *meter) report(r *load.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	r.Named = append(r.Named[:0], load.Metric{Name: "in_flight", Value: float64(m.inFlight)}, load.Metric{Name: "queue", Value: float64(m.queued)})
	period := m.at.Sub(m.older.at).Seconds()
	if period <= 0 {
		return
	}
	r.ApplicationUtilization = (m.worked - m.older.worked).Seconds() / period / float64(cap(m.workers))
	r.RPS = float64(m.done-m.older.done) / period
	r.EPS = float64(m.failed-m.older.failed) / period
}
