package backend

import (
	"sync"
	"time"

	"weir/backend/load"
)

// meterPeriod is the least time over which the meter takes rates.
const meterPeriod = time.Second

// meter knows how busy the server is. Its rates are over the last one to two periods, or since the
// request before when that is longer ago.
type meter struct {
	now func() time.Time

	mu       sync.Mutex
	capacity int // runs that there can be at once
	inFlight int
	queued   int
	running  int
	newest   mark
	// Two marks of the past: rates are taken from the older.
	older, newer mark
}

// mark is what was counted up to a moment.
type mark struct {
	at      time.Time
	done    uint64 // requests ended
	failed  uint64 // of them, those that this server failed
	started uint64 // requests that left the queue
	// worked is the time workers were running, waited the time requests were in the queue, both
	// added up over all of them.
	worked, waited time.Duration
}

func newMeter(workers int, now func() time.Time) *meter {
	m := &meter{now: now, capacity: workers}
	m.newest.at = now()
	m.older, m.newer = m.newest, m.newest
	return m
}

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
	m.newest.done++
	if failed {
		m.newest.failed++
	}
	m.mu.Unlock()
}

// queue counts requests into the queue, or out of it.
func (m *meter) queue(change int) {
	m.mu.Lock()
	m.advance()
	m.queued += change
	if change < 0 {
		m.newest.started += uint64(-change)
	}
	m.mu.Unlock()
}

// canRun says how many runs there can be at once.
func (m *meter) canRun(n int) {
	m.mu.Lock()
	m.capacity = max(n, 1)
	m.mu.Unlock()
}

func (m *meter) run(change int) {
	m.mu.Lock()
	m.advance()
	m.running += change
	m.mu.Unlock()
}

// advance brings the newest mark up to now, and moves the others. The caller holds mu.
func (m *meter) advance() {
	now := m.now()
	if d := now.Sub(m.newest.at); d > 0 {
		m.newest.worked += time.Duration(m.running) * d
		m.newest.waited += time.Duration(m.queued) * d
		m.newest.at = now
	}
	if now.Sub(m.newer.at) >= meterPeriod {
		m.older, m.newer = m.newer, m.newest
	}
}

// busyNow is how many requests there are at this moment.
func (m *meter) busyNow() (b struct{ inFlight, queued int }) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.inFlight, b.queued = m.inFlight, m.queued
	return b
}

// report is the load for an ORCA report. Application utilization is the share of the possible runs'
// time that was spent running. queue_seconds is how long a request waits, by Little's law: the time
// spent in the queue by all, those in it included, for each that left it.
func (m *meter) report(r *load.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance()
	wait := (m.newest.waited - m.older.waited).Seconds() / float64(max(m.newest.started-m.older.started, 1))
	r.Named = append(r.Named[:0], load.Metric{Name: "in_flight", Value: float64(m.inFlight)},
		load.Metric{Name: "queue", Value: float64(m.queued)}, load.Metric{Name: "queue_seconds", Value: wait})
	period := m.newest.at.Sub(m.older.at).Seconds()
	if period <= 0 {
		return
	}
	r.ApplicationUtilization = (m.newest.worked - m.older.worked).Seconds() / period / float64(m.capacity)
	r.RPS = float64(m.newest.done-m.older.done) / period
	r.EPS = float64(m.newest.failed-m.older.failed) / period
}
