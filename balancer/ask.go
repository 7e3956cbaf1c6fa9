package balancer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"weir/internal/stats"
)

// Check is a kind of question that weir asks an endpoint by itself.
type Check uint8

const (
	Probe     Check = iota // whether it is well
	Inference              // whether its model answers as expected
	Scrape                 // what its metrics say of its load

	checkKinds = iota
)

// Checks returns every kind, in the order of their values.
func Checks() []Check { return []Check{Probe, Inference, Scrape} }

// String returns the value of the metric label "kind".
func (k Check) String() string {
	switch k {
	case Inference:
		return "inference"
	case Scrape:
		return "scrape"
	}
	return "probe"
}

// checks counts an endpoint's answers by kind.
type checks [checkKinds]CheckCount

// CheckCount counts answers of one kind. It is safe for concurrent use.
type CheckCount struct {
	ok, failed atomic.Uint64
	took       stats.Histogram
}

// Succeeded and Failed return how many answers were as expected, and how many were not or did not come.
func (c *CheckCount) Succeeded() uint64 { return c.ok.Load() }
func (c *CheckCount) Failed() uint64    { return c.failed.Load() }

// Latency returns how long they took, whatever they were.
func (c *CheckCount) Latency() *stats.Histogram { return &c.took }

func (c *CheckCount) count(err error, d time.Duration) {
	if err == nil {
		c.ok.Add(1)
	} else {
		c.failed.Add(1)
	}
	c.took.Record(d)
}

// Checked returns what the endpoint answered to questions of a kind.
func (e *Endpoint) Checked(k Check) *CheckCount { return &e.checks[k] }

// Asks reports whether the pool asks its endpoints questions of a kind.
func (p *Pool) Asks(k Check) bool {
	switch k {
	case Inference:
		return p.infers()
	case Scrape:
		return p.scrapes()
	}
	return p.probes()
}

// asked names the timer of a question.
type asked struct {
	e    *Endpoint
	kind Check
}

// question is one to be asked.
type question struct {
	kind    Check
	ask     ProbeFunc
	timeout time.Duration
}

// ask asks e once, at all its addresses at the same time, and counts the answer. One good answer is enough,
// because requests reach the endpoint by whichever address works.
func (p *Pool) ask(stop context.Context, e *Endpoint, q question) (failure error) {
	began := time.Now()
	defer func() {
		if stop.Err() == nil {
			e.checks[q.kind].count(failure, time.Since(began))
		}
	}()
	ctx, cancel := context.WithTimeout(stop, q.timeout)
	defer cancel()
	addrs := e.Addrs()
	if len(addrs) == 1 {
		return p.askAddr(ctx, e, addrs[0], q)
	}
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		go func() { results <- p.askAddr(ctx, e, addr, q) }()
	}
	answered := false
	for range addrs {
		switch err := <-results; {
		case err == nil:
			answered = true
			cancel() // the others need not go on
		case failure == nil:
			failure = err
		}
	}
	if answered {
		return nil
	}
	return failure
}

func (p *Pool) askAddr(ctx context.Context, e *Endpoint, addr Addr, q question) error {
	err := q.ask(ctx, e, addr, *p.config.Probe)
	switch {
	case err == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return err
	case q.kind == Inference:
		return fmt.Errorf("inference: no answer from %s to POST %s within %v", addr, p.config.Probe.Inference.Path, q.timeout)
	default:
		return fmt.Errorf("no answer from %s to %s within %v", addr, p.config.Probe.Asked(), q.timeout)
	}
}
