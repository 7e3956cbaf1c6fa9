package backend

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"weir/backend/tensor"
)

// batch is one run: of one request, or of several of which the first one's goroutine runs it.
type batch struct {
	line *line
	jobs []*job
	left atomic.Int32 // of the jobs, those that nobody waits for any more
	// spoiled says that the run of all failed, and each was run alone after it.
	spoiled bool
}

// errUnfinished is the outcome of a request whose run panicked in another's goroutine, which
// reports it.
var errUnfinished = errors.New("the run ended by a mistake in this program")

// run runs the batch, gives its jobs their outcomes and brings those their turn that wait for the
// worker. When the runner panics, so does run, after that.
func (b *batch) run() {
	l := b.line
	l.observeStart(b.jobs)
	for _, j := range b.jobs {
		j.err = errUnfinished
	}
	begun := l.s.now()
	var took time.Duration
	defer func() {
		l.end(b, took)
		for _, j := range b.jobs[1:] {
			j.wake <- nil
		}
	}()
	if len(b.jobs) == 1 {
		b.alone(b.jobs[0])
	} else if !b.together() {
		// One request can spoil a run for all: alone, only that one fails.
		b.spoiled = true
		for _, j := range b.jobs {
			b.alone(j)
		}
	}
	took = l.s.now().Sub(begun)
}

func (b *batch) alone(j *job) { j.outputs, j.err = b.line.runner.Run(j.ctx, j.inputs) }

// together runs all jobs as one. It reports whether they have their outcomes.
func (b *batch) together() bool {
	requests, parts := make([][]tensor.Tensor, len(b.jobs)), make([]int, len(b.jobs))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i, j := range b.jobs {
		requests[i], parts[i] = j.inputs, j.rows
		// The run ends early once nobody waits for any of it.
		stop := context.AfterFunc(j.ctx, func() {
			if int(b.left.Add(1)) == len(b.jobs) {
				cancel()
			}
		})
		defer stop()
	}
	outputs, err := b.line.runner.Run(ctx, join(requests))
	var each [][]tensor.Tensor
	if err == nil {
		each, err = split(outputs, parts)
	}
	if err != nil && ctx.Err() == nil {
		return false
	}
	for i, j := range b.jobs {
		if j.err = nil; err != nil {
			j.err = err
			if gone := j.ctx.Err(); gone != nil {
				j.err = gone
			}
			continue
		}
		j.outputs = each[i]
	}
	return true
}

// rows is how many rows the run has.
func (b *batch) rows() int {
	rows := 0
	for _, j := range b.jobs {
		rows += j.rows
	}
	return max(rows, 1)
}

// end gives the worker back. took is 0 when the run panicked.
func (l *line) end(b *batch, took time.Duration) {
	s := l.s
	whole := took > 0 && !b.spoiled && b.jobs[0].err == nil
	s.mu.Lock()
	s.free++
	l.running--
	s.meter.run(-1)
	if whole {
		l.costs.add(b.rows(), took)
	}
	s.dispatch()
	s.mu.Unlock()
	switch {
	case l.metrics == nil:
	case whole:
		l.metrics.runTime.Observe(took.Seconds())
		l.metrics.batchSize.Observe(float64(b.rows()))
	case b.spoiled:
		l.metrics.spoiled.Inc()
	}
}

// observeStart tells the metrics how long the jobs have waited.
func (l *line) observeStart(jobs []*job) {
	if l.metrics == nil {
		return
	}
	now := l.s.now()
	for _, j := range jobs {
		l.metrics.queueTime.Observe(now.Sub(j.since).Seconds())
	}
}
