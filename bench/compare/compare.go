// Package compare measures weir against other proxies that do the same work on the same machine.
//
// The figure is the CPU time of the proxy for a request, by the scheduler's own account.
// Throughput and tails depend on the generator and the endpoint, which share the machine; and
// shared machines drift by tens of percent within minutes, so only ratios within one round, in which
// the proxies take turns, mean anything. The result is the median of those ratios over the rounds, with their
// range. Less than 5 % is noise.
//
// A closed loop shall find the proxy at its limit, not the generator. So the proxy has a processor
// to itself and a quota of it, and generator and endpoint have the other.
package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"weir/bench/peers"
	"weir/bench/process"
)

// Names of the peers. Direct is the endpoint without a proxy: a bound for latency, and no part of
// the ratios. Weir runs its event loop where that exists, WeirGoroutine a goroutine for each connection.
const (
	Direct        = "direct"
	Nginx         = "nginx"
	HAProxy       = "haproxy"
	Caddy         = "caddy"
	WeirGoroutine = "weir-goroutine"
	Weir          = "weir"
)

// Reference is the peer that ratios are to.
const Reference = Nginx

// Peers returns the names of all peers.
func Peers() []string { return []string{Direct, Nginx, HAProxy, Caddy, WeirGoroutine, Weir} }

// DefaultQuota is the share of its processor that a proxy may use in a closed loop.
const DefaultQuota = 0.6

// DefaultRest is how long connections have been idle when memory is read: a proxy may need a
// moment to give back what a request took.
const DefaultRest = 3 * time.Second

// Options of a comparison.
type Options struct {
	Programs  string // folder of weir and weir-bench
	Peers     []string
	Workloads []Workload
	Rounds    int
	Warmup    time.Duration // before each measurement
	Duration  time.Duration // of each measurement
	Rest      time.Duration // of idle connections, before the memory that they take is read
	// Pin binds each proxy to the first processor, generator and endpoint to the second.
	Pin bool
	// Quota is the share of a processor that a proxy may use in closed loops; 0 is no limit.
	Quota float64
	Say   func(string) // told what goes on
}

// proxyCPU and loadCPU are the processors that pinned programs get.
const (
	proxyCPU = 0
	loadCPU  = 1
)

func (o *Options) check() error {
	switch {
	case o.Rounds < 1 || o.Duration <= 0 || o.Warmup < 0 || o.Rest < 0:
		return errors.New("at least one round of a positive duration is needed")
	case len(o.Workloads) == 0:
		return errors.New("at least one workload is needed")
	case o.Quota < 0 || o.Quota > 1:
		return fmt.Errorf("quota %v: must be 0 to 1, the share of a processor that a proxy may use", o.Quota)
	case !slices.Contains(o.Peers, Reference):
		return fmt.Errorf("%s must be among the peers: ratios are to it", Reference)
	case o.Pin && runtime.NumCPU() < 2:
		return errors.New("pinning needs two processors, the proxy has one to itself: do without it")
	}
	for _, name := range o.Peers {
		if !slices.Contains(Peers(), name) {
			return fmt.Errorf("peer %q: must be one of %s", name, strings.Join(Peers(), ", "))
		}
	}
	return nil
}

// caddy is where Caddy is, once it was built.
func (o *Options) caddy() string { return filepath.Join(o.Programs, "caddy") }

// withoutMissing leaves Caddy out where it has not been built: that takes minutes, and is no reason to
// compare nothing.
func (o *Options) withoutMissing(result *Result) {
	if !slices.Contains(o.Peers, Caddy) || peers.Executable(o.caddy()) {
		return
	}
	note := fmt.Sprintf("without Caddy: there is no %s, make caddy builds it", o.caddy())
	result.note(note)
	o.Say(note)
	o.Peers = slices.DeleteFunc(slices.Clone(o.Peers), func(name string) bool { return name == Caddy })
}

// Run compares and returns what it found. Nothing is left running.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
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
	result := newResult(&o)
	o.withoutMissing(result)
	if err := o.fitIdle(result); err != nil {
		return nil, err
	}
	for _, w := range o.Workloads {
		result.Workloads = append(result.Workloads, w.load())
	}
	err = o.setups(ctx, dir, result)
	if ctx.Err() != nil {
		return nil, errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n(logs are in %s)", err, dir)
	}
	result.summarize()
	return result, os.RemoveAll(dir)
}

// setups goes through the workloads, with a new field for each setup.
func (o *Options) setups(ctx context.Context, dir string, result *Result) (err error) {
	var quota *process.Quota
	if o.Quota > 0 {
		var reason error
		if quota, reason = process.NewQuota(); reason != nil {
			result.Quota = 0
			result.note(fmt.Sprintf("closed loops without a quota, so the proxy may not have been the limit: %v", reason))
		} else {
			defer func() { err = errors.Join(err, quota.Close()) }()
		}
	}
	for rest := o.Workloads; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Setup == rest[0].Setup {
			n++
		}
		if err := o.setup(ctx, filepath.Join(dir, rest[0].Setup), quota, rest[:n], result); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// setup measures the workloads of one setup.
func (o *Options) setup(ctx context.Context, dir string, quota *process.Quota, workloads []Workload, result *Result) error {
	f, err := startField(ctx, o, dir, quota, workloads[0])
	if err != nil {
		return err
	}
	for _, p := range f.peers {
		if p.version != "" {
			result.Versions[p.name] = p.version
		}
	}
	return errors.Join(f.rounds(ctx, workloads, result), f.stop())
}

func (f *field) rounds(ctx context.Context, workloads []Workload, result *Result) error {
	for round := range f.options.Rounds {
		for _, w := range workloads {
			for i := range f.peers {
				// Every peer goes first in its turn: none always follows the same one.
				p := f.peers[(i+round)%len(f.peers)]
				m, err := f.measure(ctx, p, w, round == 0)
				if err != nil {
					return fmt.Errorf("%s, workload %s, round %d: %w", p.name, w.Name, round+1, err)
				}
				m.Round = round + 1
				f.options.Say(m.line())
				result.Measurements = append(result.Measurements, *m)
			}
		}
	}
	return nil
}
