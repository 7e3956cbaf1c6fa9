package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"weir/bench"
)

// work is a run whose flags have been checked.
type work struct {
	*runOptions
	target     addressed
	tls        *tls.Config // nil: none
	plan       bench.Schedule
	length     time.Duration // of what is counted; 0 until interrupted
	weights    map[string]float64
	thresholds bench.Thresholds
	search     *bench.Search // nil without --saturate
	objective  bench.Objective
	progress   *progress
	log        *hlog
}

// prepare checks all flags, so that nothing is sent when one is wrong.
func (o *runOptions) prepare(messages io.Writer) (*work, error) {
	w := &work{runOptions: o, progress: newProgress(messages, o.quiet)}
	if o.output != "text" && o.output != "json" && o.output != "html" {
		return nil, fmt.Errorf("output %q: must be text, json or html", o.output)
	}
	var err error
	if w.thresholds, err = o.thresholds(); err != nil {
		return nil, err
	}
	if o.expect != "" {
		if w.weights, err = bench.ParseWeights(o.expect); err != nil {
			return nil, err
		}
	}
	if w.target, err = o.newTarget(); err != nil {
		return nil, err
	}
	o.protocol.http2 = o.protocol.http2 || o.protocol.grpc != "" || o.tensors == tensorsGRPC
	if err := o.protocol.check(o.target); err != nil {
		return nil, err
	}
	if w.tls, err = o.protocol.tls(o.target); err != nil {
		return nil, err
	}
	if w.plan, w.length, err = o.schedule(); err != nil {
		return nil, err
	}
	if o.saturate {
		if w.search, w.objective, err = o.search(); err != nil {
			return nil, err
		}
		w.length = o.probe
		w.thresholds.MaxErrorRatio = -1 // is of the objective
	}
	if _, err := w.attack(); err != nil {
		return nil, err
	}
	w.log, err = newHlog(o.hlog)
	return w, err
}

// attack returns the attack that the flags describe. Each has a schedule of its own.
func (w *work) attack() (*bench.Attack, error) {
	options := bench.Options{
		Address: w.target.Address(), Target: w.target, Warmup: w.warmup,
		Connections: w.connections, Timeout: w.timeout, SLO: w.slo,
		TLS: w.tls, HTTP2: w.protocol.http2, Streams: w.protocol.streams,
	}
	if w.length > 0 {
		options.Duration = w.warmup + w.length
	}
	if w.search != nil {
		// What waits so long has missed the objective by far, and the next probe waits for it.
		options.Timeout = min(w.timeout, max(4*w.slo, time.Second))
	}
	if w.closed {
		return bench.NewAttack(options)
	}
	pacer, err := w.plan.Pacer()
	if err != nil {
		return nil, err
	}
	if w.warmup > 0 {
		pacer = bench.After(w.warmup, bench.Poisson(w.plan.First(), w.seed+1), pacer)
	}
	options.Pacer = pacer
	return bench.NewAttack(options)
}

// report runs the attack, or the attacks of a search.
func (w *work) report(ctx context.Context) (*bench.Report, error) {
	defer w.progress.clear()
	if w.search == nil {
		return w.once(ctx)
	}
	probes := 0
	try := func(rate float64) (*bench.Report, error) {
		probes++
		w.plan.Rate = rate
		w.progress.prefix = fmt.Sprintf("probe %d at %.1f/s: ", probes, rate)
		return w.once(ctx)
	}
	say := func(p bench.Probe) {
		verdict := "kept"
		if !p.Kept {
			verdict = "not kept: " + p.Why
		}
		w.progress.keep(verdict)
	}
	return bench.Saturate(ctx, w.search, w.objective, try, say)
}

// once attacks once.
func (w *work) once(ctx context.Context) (*bench.Report, error) {
	attack, err := w.attack()
	if err != nil {
		return nil, err
	}
	c := newCollector(w, attack)
	if err := c.collect(ctx); err != nil {
		return nil, err
	}
	return c.report(ctx.Err() != nil), nil
}

func (o *runOptions) thresholds() (bench.Thresholds, error) {
	t := bench.Thresholds{
		MaxErrorRatio: -1, MaxP99: float64(o.maxP99) / float64(time.Millisecond),
		MinRate: o.minRate, MinGoodput: o.minGoodput, Split: o.expect != "",
	}
	if o.maxErrors == "" {
		return t, nil
	}
	var err error
	t.MaxErrorRatio, err = parseRatio("max-error-rate", o.maxErrors)
	return t, err
}

// parseRatio parses a part of a whole, as the flag of that name gives it.
func parseRatio(flag, text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	ratio, err := strconv.ParseFloat(number, 64)
	if percent {
		ratio /= 100
	}
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return 0, fmt.Errorf("%s %q: must be a percentage such as 0.1%%, or a part such as 0.001", flag, text)
	}
	return ratio, nil
}

// hlog is the file of --hlog; without one, nothing is written.
type hlog struct {
	file *os.File
	log  *bench.IntervalLog
}

func newHlog(name string) (*hlog, error) {
	if name == "" {
		return &hlog{}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("hlog: %w", err)
	}
	l, err := bench.NewIntervalLog(f, time.Now())
	return &hlog{f, l}, err
}

func (l *hlog) add(t *bench.Tally, from, to time.Time) error {
	if l.log == nil {
		return nil
	}
	return l.log.Add(t, from, to)
}

func (l *hlog) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
