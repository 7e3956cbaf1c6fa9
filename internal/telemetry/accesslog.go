package telemetry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultAccessBuffer is the size in bytes of each of an access log's two buffers: at 400 bytes a
// line, more than 2,500 lines wait while the output stalls before the first is dropped.
const DefaultAccessBuffer = 1 << 20

const (
	flushInterval = 100 * time.Millisecond
	// closeWait bounds how long a stalled output may hold up the stop of the program.
	closeWait = 5 * time.Second
)

// AccessLog writes one line per request without ever making the request wait for the output: lines
// collect in a bounded buffer that a goroutine of the log's own hands to the output every 100 ms or
// when it is half full. A line that finds the buffer full is dropped and counted.
// All methods may be called at the same time, and on a nil AccessLog, which is off.
type AccessLog struct {
	on      atomic.Bool
	dropped atomic.Uint64
	lines   sync.Pool // *[]byte, where a line is formatted before the short lock

	mu      sync.Mutex // guards what follows; never held during I/O
	active  []byte     // takes new lines; its capacity is the bound
	count   uint64     // lines in active
	next    io.Writer  // the output from the next flush on, when replace is set
	replace bool
	closed  bool

	kick    chan struct{} // active is half full, or the output is to be replaced
	stop    chan struct{}
	stopped chan struct{}

	// Owned by the writer goroutine; err may be read after stopped is closed.
	out   io.Writer
	spare []byte
	err   error
}

// NewAccessLog starts an access log that writes to w through two buffers of bufBytes each
// (DefaultAccessBuffer when 0 or less). A nil w means off. The log owns w: when w is an io.Closer it is closed once
// another output replaces it, and by Close; see [OpenAccessLog], whose outputs are safe to close.
func NewAccessLog(w io.Writer, bufBytes int) *AccessLog {
	if bufBytes <= 0 {
		bufBytes = DefaultAccessBuffer
	}
	l := &AccessLog{
		active:  make([]byte, 0, bufBytes),
		spare:   make([]byte, 0, bufBytes),
		out:     w,
		kick:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	l.lines.New = func() any {
		b := make([]byte, 0, 1024)
		return &b
	}
	l.on.Store(w != nil)
	go l.run()
	return l
}

// Enabled reports whether lines are written at all; where it is false the caller may spare itself
// the work of filling an entry.
func (l *AccessLog) Enabled() bool { return l != nil && l.on.Load() }

// Write adds e's line to the buffer, or drops it when the buffer is full. It does no I/O, keeps
// nothing of e and allocates nothing once warm.
func (l *AccessLog) Write(e *AccessEntry) {
	if !l.Enabled() {
		return
	}
	line := l.lines.Get().(*[]byte)
	*line = e.appendJSON((*line)[:0])
	l.put(line)
}

// WriteExposure adds a line that tells that a unit of an experiment has met an arm, for the first time. unit is a hash. It
// drops the line as Write does.
func (l *AccessLog) WriteExposure(at time.Time, route, arm string, unit uint64, requestID []byte) {
	if !l.Enabled() {
		return
	}
	line := l.lines.Get().(*[]byte)
	b := append((*line)[:0], `{"timestamp":"`...)
	b = appendTimestamp(b, at)
	b = append(b, `","level":"info","logger":"weir.exposure","message":"exposure"`...)
	b = appendText(b, `,"request_id":"`, requestID)
	b = appendText(b, `,"route":"`, route)
	b = appendText(b, `,"arm":"`, arm)
	b = append(b, `,"unit":"`...)
	b = strconv.AppendUint(b, unit, 16)
	*line = append(b, "\"}\n"...)
	l.put(line)
}

// put takes a line of l.lines over.
func (l *AccessLog) put(line *[]byte) {
	l.mu.Lock()
	fits := !l.closed && len(l.active)+len(*line) <= cap(l.active)
	wake := false
	if fits {
		before := len(l.active)
		l.active = append(l.active, *line...)
		l.count++
		wake = before < cap(l.active)/2 && len(l.active) >= cap(l.active)/2
	}
	l.mu.Unlock()

	l.lines.Put(line)
	if !fits {
		l.dropped.Add(1)
	}
	if wake {
		l.wake()
	}
}

// Dropped returns how many lines were lost since the start: for want of room in the buffer, or
// because the output failed.
func (l *AccessLog) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// SetOutput makes w the output from the next flush on (nil: off) and closes the old one after the
// lines before are written to it. It does not wait. Setting a newly opened file of the same name is
// how a rotated log is reopened.
func (l *AccessLog) SetOutput(w io.Writer) {
	if l == nil {
		CloseOutput(w)
		return
	}
	l.mu.Lock()
	var orphan io.Writer
	if l.closed {
		orphan = w
	} else {
		if l.replace {
			orphan = l.next // never came to be used
		}
		l.next, l.replace = w, true
		l.on.Store(w != nil)
	}
	l.mu.Unlock()
	CloseOutput(orphan)
	l.wake()
}

// Close writes what is buffered, closes the output and returns the last error of the output, if
// there was one. It waits at most five seconds for an output that does not take the lines.
func (l *AccessLog) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		l.on.Store(false)
		close(l.stop)
	}
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case <-l.stopped:
		return l.err
	case <-timeout.C:
		return fmt.Errorf("access log: the output took nothing for %s; its last lines are lost", closeWait)
	}
}

func (l *AccessLog) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *AccessLog) run() {
	defer close(l.stopped)
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-l.kick:
		case <-ticker.C:
		case <-l.stop:
			l.flush()
			l.note(CloseOutput(l.out))
			return
		}
		l.flush()
	}
}

// flush writes the lines collected so far, then takes over a new output if one was set.
func (l *AccessLog) flush() {
	l.mu.Lock()
	full, count := l.active, l.count
	l.active, l.count = l.spare[:0], 0
	next, replace := l.next, l.replace
	l.next, l.replace = nil, false
	l.mu.Unlock()

	if replace && l.out == nil { // was off: what was collected is for the new output
		l.out, replace = next, false
	}
	if len(full) > 0 {
		if l.out == nil { // raced with being switched off
			l.dropped.Add(count)
		} else if _, err := l.out.Write(full); err != nil {
			l.dropped.Add(count)
			l.note(err)
		}
	}
	l.spare = full[:0]
	if replace {
		l.note(CloseOutput(l.out))
		l.out = next
	}
}

func (l *AccessLog) note(err error) {
	if err != nil {
		l.err = fmt.Errorf("access log: %w", err)
	}
}

// CloseOutput closes an output that no access log took over; nil is fine.
func CloseOutput(w io.Writer) error {
	if c, ok := w.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// OpenAccessLog opens the output that log.access.output names: stdout, stderr, the path of a file
// (created with mode 0640, appended to), or off, for which it returns nil. Closing the result leaves
// stdout and stderr open. Write errors are also given to report, the first of each series of
// failures only.
func OpenAccessLog(output string, report func(error)) (io.Writer, error) {
	switch output {
	case "off":
		return nil, nil
	case "stdout":
		return &reportingWriter{name: output, w: os.Stdout, report: report}, nil
	case "stderr":
		return &reportingWriter{name: output, w: os.Stderr, report: report}, nil
	case "":
		return nil, errors.New("log.access.output is empty (want stdout, stderr, off or the path of a file)")
	}
	f, err := os.OpenFile(output, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log.access.output: %w", err)
	}
	return &reportingWriter{name: output, w: f, close: f.Close, report: report}, nil
}

// reportingWriter reports the first failure after a success, so that a full disk is one line in the
// program log and not ten a second. Only the access log's goroutine calls it.
type reportingWriter struct {
	name    string
	w       io.Writer
	close   func() error
	report  func(error)
	failing bool
}

func (r *reportingWriter) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil && !r.failing && r.report != nil {
		r.report(fmt.Errorf("cannot write the access log to %s, its lines are dropped until it works again: %w", r.name, err))
	}
	r.failing = err != nil
	return n, err
}

func (r *reportingWriter) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}
