package compare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/bench"
	"weir/bench/process"
)

// countFor is how long system calls are counted, after and apart from the measurement that
// counting would slow.
const countFor = 500 * time.Millisecond

// measure puts a peer under a load and reads what it used meanwhile. With count it then counts
// system calls, too.
func (f *field) measure(ctx context.Context, p *peer, w Workload, count bool) (_ *Measurement, err error) {
	m := &Measurement{Peer: p.name, Workload: w.Name}
	w.TLS = w.TLS && p.process != nil // the endpoint speaks none
	if w.Idle > 0 {
		idle, err := f.openIdle(ctx, m, p, &w)
		defer idle.close()
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, idle.check()) }()
	}
	if err := f.limit(&w); err != nil {
		return nil, err
	}
	if w.Setup == setupFeatures && p.metrics != "" {
		stop := scrape(ctx, p.metrics)
		defer func() { err = errors.Join(err, stop()) }()
	}
	l, err := f.load(ctx, m, p, &w)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan error, 1)
	go func() { finished <- l.Run(running) }()
	if err = f.under(ctx, m, p, l, finished, count); err != nil {
		return nil, err
	}
	stop()
	return m, <-finished
}

// load is what a peer is put under.
type load interface {
	Run(ctx context.Context) error // until ctx is done
	Take() *bench.Tally            // what was recorded since the last time
}

// load returns the load of a workload; streams are open by then.
func (f *field) load(ctx context.Context, m *Measurement, p *peer, w *Workload) (load, error) {
	if w.Every > 0 {
		return f.openStreams(ctx, m, p, w)
	}
	target, err := w.target(p.address)
	if err != nil {
		return nil, err
	}
	options := bench.Options{
		Address: p.address, Target: target, Connections: w.Connections, HTTP2: w.HTTP2, Streams: w.streams(), TLS: f.tls(w),
	}
	if w.Rate > 0 {
		options.Pacer = bench.Poisson(w.Rate, 1)
	}
	attack, err := bench.NewAttack(options)
	if err != nil {
		return nil, err
	}
	// Handshakes are no part of what requests cost.
	return attack, attack.Open(ctx)
}

// under measures while the load goes on.
func (f *field) under(ctx context.Context, m *Measurement, p *peer, load load, finished chan error, count bool) error {
	if err := wait(ctx, f.options.Warmup, finished); err != nil {
		return err
	}
	if err := f.observe(ctx, m, p, load, finished); err != nil {
		return err
	}
	if !count || p.process == nil {
		return nil
	}
	return p.countCalls(ctx, m, load, finished)
}

// limit sets the quota that a workload is measured under.
func (f *field) limit(w *Workload) error {
	if f.quota == nil {
		return nil
	}
	if w.Saturates() {
		return f.quota.Limit(f.options.Quota)
	}
	return f.quota.Limit(0)
}

// used is what all parties had used at some time.
type used struct {
	at          time.Time
	proxy, load process.Usage // load: generator and endpoint
}

func (f *field) used(p *peer) (u used, err error) {
	if p.process != nil {
		if u.proxy, err = p.process.Usage(); err != nil {
			return u, err
		}
	}
	u.at = time.Now()
	own, err := process.Self()
	if err != nil {
		return u, err
	}
	endpoint, err := f.endpoint.Usage()
	u.load.CPU = own.CPU + endpoint.CPU
	return u, err
}

// observe fills m from what happens within the duration.
func (f *field) observe(ctx context.Context, m *Measurement, p *peer, load load, finished chan error) error {
	load.Take()
	before, err := f.used(p)
	if err != nil {
		return err
	}
	if err := wait(ctx, f.options.Duration, finished); err != nil {
		return err
	}
	after, err := f.used(p)
	if err != nil {
		return err
	}
	elapsed := after.at.Sub(before.at)
	report, err := answers(load, elapsed)
	if err != nil {
		return err
	}
	proxy, n := after.proxy.Sub(before.proxy), float64(report.Total.Requests)
	m.CPU = float64(proxy.CPU) / float64(time.Microsecond) / n
	m.Switches = float64(proxy.Switches) / n
	m.Resident = proxy.Resident
	m.ProxyBusy = float64(proxy.CPU) / float64(elapsed)
	m.LoadBusy = float64(after.load.Sub(before.load).CPU) / float64(elapsed)
	m.Rate, m.P50, m.P99, m.Lag = report.Total.Rate, report.Total.Latency.P50, report.Total.Latency.P99, report.Lag.P50
	return nil
}

// answers returns what was answered since the last time, all of it well.
func answers(load load, elapsed time.Duration) (*bench.Report, error) {
	report := bench.Summarize(load.Take(), elapsed)
	if report.Total.Errors > 0 {
		return nil, fmt.Errorf("%d of %d requests failed (%s): the figures of failures mean nothing", report.Total.Errors, report.Scheduled, report.Total.Kinds())
	}
	if report.Total.Latency == nil {
		return nil, errors.New("no request was answered")
	}
	return report, nil
}

// countCalls fills m with the system calls for a request. Where they cannot be counted it says why.
func (p *peer) countCalls(ctx context.Context, m *Measurement, load load, finished chan error) error {
	var requests uint64
	var failed error
	calls, by, err := p.process.CountSystemCalls(func() error {
		load.Take()
		if failed = wait(ctx, countFor, finished); failed != nil {
			return failed
		}
		var report *bench.Report
		if report, failed = answers(load, countFor); failed == nil {
			requests = report.Total.Requests
		}
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		m.CallsBy = callsNone + err.Error()
	default:
		m.Calls, m.CallsBy = float64(calls)/float64(requests), by
	}
	return nil
}

// wait lets time pass, unless the load ends or ctx does.
func wait(ctx context.Context, d time.Duration, finished chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case err := <-finished:
		return errors.Join(errors.New("the load ended too soon"), err)
	}
}
