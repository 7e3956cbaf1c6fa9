package backend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"weir/backend/tensor"
)

// scheduler lets requests run: as many runs at once as there are workers, of each model as many as
// it has instances, the others in line. A run is done by the goroutine of one of its requests,
// whose turn another's end or a timer brings: there are no goroutines but the requests'.
type scheduler struct {
	now     func() time.Time
	meter   *meter
	workers int
	limit   int // requests that may wait

	mu      sync.Mutex
	free    int     // workers
	waiting int     // requests
	lines   []*line // of the models that are served
	turn    int     // of lines: whose turn is next
}

// line is where requests for one version of a model wait.
type line struct {
	s       *scheduler
	serving Serving
	metrics *modelMetrics
	runner  Runner

	// Guarded by s.mu.
	levels  [][]*job // by priority, each in the order of arrival
	waiting int
	running int
	costs   costs
	timer   *time.Timer // nil, or brings the line its turn at timerAt
	timerAt time.Time
}

// job is a request in the line.
type job struct {
	ctx    context.Context
	inputs []tensor.Tensor
	rows   int // 0: it runs alone
	level  int // from 0
	since  time.Time
	// wake holds a batch for the job whose turn it is to run it, and nil once there is an outcome.
	wake    chan *batch
	waiting bool // guarded by s.mu

	outputs []tensor.Tensor
	err     error
}

// Why a request was not run, beside the end of its context.
var (
	errBusy = errors.New("the queue is full")
	errLate = errors.New("it cannot be answered in time")
)

func newScheduler(workers, limit int, meter *meter, now func() time.Time) *scheduler {
	return &scheduler{now: now, meter: meter, workers: workers, limit: limit, free: workers}
}

// add gives a model a line; metrics are the model's.
func (s *scheduler) add(runner Runner, serving Serving, metrics *modelMetrics) *line {
	l := &line{s: s, serving: serving, runner: runner, metrics: metrics, levels: make([][]*job, serving.Priorities)}
	s.mu.Lock()
	s.lines = append(s.lines, l)
	s.count()
	s.mu.Unlock()
	return l
}

// remove takes a line away in which nothing waits or runs any more.
func (s *scheduler) remove(l *line) {
	s.mu.Lock()
	s.lines = slices.DeleteFunc(s.lines, func(other *line) bool { return other == l })
	s.count()
	s.mu.Unlock()
}

// count tells the meter how many runs there can be at once. The caller holds mu.
func (s *scheduler) count() {
	runs := 0
	for _, l := range s.lines {
		runs += l.serving.Instances
	}
	s.meter.canRun(min(runs, s.workers))
}

// do runs the model on the inputs, perhaps together with others', and returns its outputs. Its
// error is errBusy when too many wait, errLate when it would miss ctx's deadline, ctx's when that
// ended while it waited or ran, or the model's. level is the priority, from 1; 0, or one that the
// model does not have, is its default.
func (l *line) do(ctx context.Context, inputs []tensor.Tensor, level int) ([]tensor.Tensor, error) {
	if level == lowest {
		level = l.serving.Priorities
	} else if level < 1 || level > l.serving.Priorities {
		level = l.serving.Priority
	}
	j := &job{ctx: ctx, inputs: inputs, level: level - 1, wake: make(chan *batch, 1)}
	if l.serving.Batching.MaxBatch > 1 {
		j.rows = rowsOf(inputs)
	}
	s := l.s
	s.mu.Lock()
	j.since = s.now()
	if !l.admit(j) {
		s.mu.Unlock()
		return nil, errBusy
	}
	s.dispatch()
	s.mu.Unlock()
	var turn *batch
	select {
	case turn = <-j.wake:
	case <-ctx.Done():
		s.mu.Lock()
		if j.waiting {
			l.leave(j)
			s.mu.Unlock()
			return nil, ctx.Err()
		}
		s.mu.Unlock()
		turn = <-j.wake // it runs, or is to run it for others
	}
	if turn != nil {
		turn.run()
	}
	return j.outputs, j.err
}

// admit puts the job into the line, if need be in the place of a less urgent one. The caller holds
// s.mu, as for all methods below but depth and backlog.
func (l *line) admit(j *job) bool {
	// A job that can run at once passes through a line that may be of no length.
	if idle := l.waiting == 0 && l.running < l.serving.Instances && l.s.free > 0; !idle && (l.waiting >= l.serving.Queue || l.s.waiting >= l.s.limit) {
		least := l.last()
		if least == nil || least.level <= j.level {
			return false
		}
		l.refuse(least, errBusy)
	}
	j.waiting = true
	l.levels[j.level] = append(l.levels[j.level], j)
	l.count(+1)
	return true
}

// last is the job that came last to the lowest level that has one.
func (l *line) last() *job {
	for _, jobs := range slices.Backward(l.levels) {
		if len(jobs) > 0 {
			return jobs[len(jobs)-1]
		}
	}
	return nil
}

// leave takes a waiting job out of the line.
func (l *line) leave(j *job) {
	jobs := l.levels[j.level]
	at := slices.Index(jobs, j)
	l.levels[j.level] = slices.Delete(jobs, at, at+1)
	j.waiting = false
	l.count(-1)
}

func (l *line) count(change int) {
	l.waiting += change
	l.s.waiting += change
	l.s.meter.queue(change)
}

// refuse ends a waiting job without a run.
func (l *line) refuse(j *job, why error) {
	l.leave(j)
	j.err = why
	j.wake <- nil
}

// dispatch lets all run that can, line by line in turn.
func (s *scheduler) dispatch() {
	now := s.now()
	for idle := 0; s.free > 0 && idle < len(s.lines); {
		l := s.lines[s.turn%len(s.lines)]
		s.turn = (s.turn + 1) % len(s.lines)
		idle++
		if l.waiting == 0 || l.running >= l.serving.Instances {
			continue
		}
		if jobs := l.next(now); len(jobs) > 0 {
			l.start(jobs)
			idle = 0
		}
	}
}

// start lets jobs of the line run.
func (l *line) start(jobs []*job) {
	for _, j := range jobs {
		l.leave(j)
	}
	l.s.free--
	l.running++
	l.s.meter.run(+1)
	jobs[0].wake <- &batch{line: l, jobs: jobs}
}

// next is what shall run next in the line, nothing when that has time. Jobs that would miss their
// deadlines are refused.
func (l *line) next(now time.Time) []*job {
	b := l.serving.Batching
	var jobs []*job
	rows, preferred := 0, 0
	full := false
	for _, j := range l.inOrder() {
		if l.late(j, 0, now) {
			l.refuse(j, errLate)
			continue
		}
		if len(jobs) == 0 {
			jobs, rows = append(jobs, j), j.rows
			full = rows == 0 || rows >= b.MaxBatch
		} else if j.rows > 0 && sameRows(jobs[0].inputs, j.inputs) {
			// The next one of this form goes with them, or none does: a large one is not overtaken.
			if full = rows+j.rows > b.MaxBatch || l.wouldBeLate(append(jobs, j), rows+j.rows, now); !full {
				jobs, rows = append(jobs, j), rows+j.rows
				full = rows == b.MaxBatch
			}
		}
		if slices.Contains(b.Preferred, rows) {
			preferred = len(jobs)
		}
		if full {
			break
		}
	}
	if len(jobs) == 0 {
		return nil
	}
	// A line that has no more room shall not wait for company.
	full = full || l.waiting >= l.serving.Queue || l.s.waiting >= l.s.limit
	if preferred > 0 && rows < b.MaxBatch {
		return jobs[:preferred]
	}
	if until := l.patience(jobs, rows); !full && now.Before(until) {
		l.wakeAt(until, now)
		return nil
	}
	return jobs
}

// inOrder are the waiting jobs, the most urgent first.
func (l *line) inOrder() []*job {
	if len(l.levels) == 1 {
		return slices.Clone(l.levels[0])
	}
	return slices.Concat(l.levels...)
}

// late says whether a run of that many rows, 0 for the job's own, that begins now ends after the job's deadline.
func (l *line) late(j *job, rows int, now time.Time) bool {
	deadline, ok := j.ctx.Deadline()
	return ok && now.Add(l.costs.estimate(max(rows, j.rows, 1))).After(deadline)
}

func (l *line) wouldBeLate(jobs []*job, rows int, now time.Time) bool {
	return slices.ContainsFunc(jobs, func(j *job) bool { return l.late(j, rows, now) })
}

// patience is until when the jobs may wait for company: the delay from the first one's arrival,
// and no longer than their deadlines allow.
func (l *line) patience(jobs []*job, rows int) time.Time {
	until := jobs[0].since
	for _, j := range jobs {
		if j.since.Before(until) {
			until = j.since
		}
	}
	until = until.Add(l.serving.Batching.MaxDelay)
	for _, j := range jobs {
		if deadline, ok := j.ctx.Deadline(); ok {
			// Twice the estimate, because the time until the answer is there is not the run alone.
			if latest := deadline.Add(-2 * l.costs.estimate(max(rows, 1))); latest.Before(until) {
				until = latest
			}
		}
	}
	return until
}

// wakeAt gives the line its turn at that time.
func (l *line) wakeAt(at, now time.Time) {
	if l.timer != nil {
		if !at.Before(l.timerAt) {
			return // it comes earlier, and looks again
		}
		l.timer.Stop()
	}
	l.timerAt = at
	var timer *time.Timer
	timer = time.AfterFunc(at.Sub(now), func() {
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		if l.timer == timer {
			l.timer = nil
		}
		l.s.dispatch()
	})
	l.timer = timer
}

// depth is how many requests wait.
func (l *line) depth() int {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.waiting
}

// backlog is how long it takes until all that waits in the line has run.
func (l *line) backlog() time.Duration {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	most := max(l.serving.Batching.MaxBatch, 1)
	runs := (l.waiting + most - 1) / most
	return l.costs.estimate(most) * time.Duration(runs) / time.Duration(l.serving.Instances)
}
