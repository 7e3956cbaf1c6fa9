// Package compare measures weir against other proxies that do the same work on the same machine.
//
// The figure is the CPU time of the proxy for a request, by the scheduler's own account.
// Throughput and tails depend on the generator and the endpoint, which share the machine; and
// shared machines drift by tens of percent within minutes, so only ratios within one round, in which
// the proxies take turns, mean anything. The result is the median of those ratios over the rounds, with their
// range. Less than 5 % is noise.
package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"weir/bench"
	"weir/bench/process"
)

// Names of the peers. Direct is the endpoint without a proxy: a bound for latency, and no part of
// the ratios.
const (
	Direct  = "direct"
	Weir    = "weir"
	Nginx   = "nginx"
	HAProxy = "haproxy"
)

// Reference is the peer that ratios are to.
const Reference = Nginx

// Peers returns the names of all peers.
func Peers() []string { return []string{Direct, Nginx, HAProxy, Weir} }

// Workload is a load to compare under.
type Workload struct {
	Name string
	// Rate in requests a second of a Poisson process; 0 is a closed loop.
	Rate        float64
	Connections int
	RequestBody int // bytes
}

// String describes the workload.
func (w Workload) String() string {
	load := "as fast as answers come"
	if w.Rate > 0 {
		load = fmt.Sprintf("Poisson arrivals at %g/s", w.Rate)
	}
	return fmt.Sprintf("%s: POST of %d B, %d connections, %s", w.Name, w.RequestBody, w.Connections, load)
}

// Workloads returns the workload of that name: a, b and c are closed loops over 64, 8 and 512
// connections, d sends 150 KB bodies, f is open loop at a low rate.
func Workloads(name string) (Workload, error) {
	all := []Workload{
		{Name: "a", Connections: 64, RequestBody: 80},
		{Name: "b", Connections: 8, RequestBody: 80},
		{Name: "c", Connections: 512, RequestBody: 80},
		{Name: "d", Connections: 64, RequestBody: 150 << 10},
		{Name: "f", Connections: 64, RequestBody: 80, Rate: 2500},
	}
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Workload{}, fmt.Errorf("workload %q: must be one of a, b, c, d, f", name)
	}
	return all[i], nil
}

// Options of a comparison.
type Options struct {
	Programs  string // folder of weir and weir-bench
	Peers     []string
	Workloads []Workload
	Rounds    int
	Warmup    time.Duration // before each measurement
	Duration  time.Duration // of each measurement
	// Pin binds each proxy to the first processor, generator and endpoint to the second.
	Pin bool
	Say func(string) // told what goes on
}

// proxyCPU and loadCPU are the processors that pinned programs get.
const (
	proxyCPU = 0
	loadCPU  = 1
)

// Run compares and returns what it found. Nothing is left running.
func Run(ctx context.Context, o Options) (*Result, error) {
	switch {
	case o.Rounds < 1 || o.Duration <= 0 || o.Warmup < 0:
		return nil, errors.New("at least one round of a positive duration is needed")
	case !slices.Contains(o.Peers, Reference):
		return nil, fmt.Errorf("%s must be among the peers: ratios are to it", Reference)
	case o.Pin && runtime.NumCPU() < 2:
		return nil, errors.New("pinning needs two processors, the proxy has one to itself: do without it")
	}
	if o.Pin {
		if err := process.PinSelf([]int{loadCPU}); err != nil {
			return nil, err
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	dir, err := os.MkdirTemp("", "weir-compare-")
	if err != nil {
		return nil, err
	}
	field, err := startField(ctx, &o, dir)
	if err != nil {
		return nil, fmt.Errorf("%w\n(logs are in %s)", err, dir)
	}
	result, err := o.rounds(ctx, field)
	if err := errors.Join(err, field.stop()); err != nil {
		return nil, fmt.Errorf("%w\n(logs are in %s)", err, dir)
	}
	return result, os.RemoveAll(dir)
}

func (o *Options) rounds(ctx context.Context, field *field) (*Result, error) {
	result := newResult(o, field)
	for round := range o.Rounds {
		for _, w := range o.Workloads {
			for i := range o.Peers {
				// Every peer goes first in its turn: none always follows the same one.
				peer := field.peers[(i+round)%len(field.peers)]
				m, err := o.measure(ctx, peer, w)
				if err != nil {
					return nil, fmt.Errorf("%s, workload %s, round %d: %w", peer.name, w.Name, round+1, err)
				}
				m.Round = round + 1
				o.Say(m.line())
				result.Measurements = append(result.Measurements, *m)
			}
		}
	}
	result.summarize()
	return result, nil
}

// measure puts a peer under a load and reads what it used meanwhile.
func (o *Options) measure(ctx context.Context, p *peer, w Workload) (*Measurement, error) {
	target, err := bench.NewFixed(bench.Request{URL: "http://" + p.address + "/predict"}, make([]byte, w.RequestBody))
	if err != nil {
		return nil, err
	}
	options := bench.Options{Address: p.address, Target: target, Connections: w.Connections}
	if w.Rate > 0 {
		options.Pacer = bench.Poisson(w.Rate, 1)
	}
	attack, err := bench.NewAttack(options)
	if err != nil {
		return nil, err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan error, 1)
	go func() { finished <- attack.Run(load) }()
	m := &Measurement{Peer: p.name, Workload: w.Name}
	err = o.observe(ctx, m, p, attack, finished)
	stop()
	if err != nil {
		return nil, err
	}
	return m, <-finished
}

// observe fills m from what happens between the warm-up and the end of the duration.
func (o *Options) observe(ctx context.Context, m *Measurement, p *peer, attack *bench.Attack, finished chan error) error {
	if err := wait(ctx, o.Warmup, finished); err != nil {
		return err
	}
	attack.Take()
	began := time.Now()
	before, err := p.usage()
	if err != nil {
		return err
	}
	if err := wait(ctx, o.Duration, finished); err != nil {
		return err
	}
	after, err := p.usage()
	if err != nil {
		return err
	}
	tally := attack.Take()
	report := bench.Summarize(tally, time.Since(began))
	if report.Total.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed (%s): the figures of failures mean nothing", report.Total.Errors, report.Scheduled, report.Total.Kinds())
	}
	if report.Total.Latency == nil {
		return errors.New("no request was answered")
	}
	used, n := after.Sub(before), float64(report.Total.Requests)
	m.CPU = float64(used.CPU) / float64(time.Microsecond) / n
	m.Switches = float64(used.Switches) / n
	m.Resident = used.Resident
	m.Rate, m.P50, m.P99, m.Lag = report.Total.Rate, report.Total.Latency.P50, report.Total.Latency.P99, report.Lag.P50
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
