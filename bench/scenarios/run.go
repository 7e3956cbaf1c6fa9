package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weir/bench"
	"weir/bench/peers"
	"weir/bench/process"
)

const (
	readyTimeout = 15 * time.Second
	stopGrace    = 10 * time.Second
	// connections of the load: more than a pod that is given too much holds back at once, because an arrival waits
	// for nobody.
	connections = 1000
	// maxClients is how many connections a proxy takes, with those that are just being closed.
	maxClients = 2 * connections
	route      = "/predict"
	bodySize   = 80
)

// Options of a comparison.
type Options struct {
	Programs  string // folder of weir and weir-bench
	Policies  []Policy
	Scenarios []Scenario
	Rounds    int
	Warmup    time.Duration // of load before each measurement, from empty pods on
	Duration  time.Duration // of each measurement
	Say       func(string)  // told what goes on
}

func (o *Options) check() error {
	switch {
	case o.Rounds < 1 || o.Duration <= 0 || o.Warmup < 0:
		return errors.New("at least one round of a positive duration is needed")
	case len(o.Scenarios) == 0 || len(o.Policies) == 0:
		return errors.New("at least one scenario and one policy are needed")
	}
	return nil
}

// Run compares and returns what it found. Nothing is left running.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "weir-scenarios-")
	if err != nil {
		return nil, err
	}
	result := newResult(&o)
	for _, s := range o.Scenarios {
		if err = o.scenario(ctx, filepath.Join(dir, s.Name), s, result); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n(logs are in %s)", err, dir)
	}
	return result, os.RemoveAll(dir)
}

// scenario measures all policies in a scenario.
func (o *Options) scenario(ctx context.Context, dir string, s Scenario, result *Result) error {
	f, err := startField(ctx, o, dir, s, result)
	if err != nil {
		return err
	}
	return errors.Join(f.rounds(ctx, result), f.group.Stop(stopGrace))
}

// field is everything that runs during a scenario.
type field struct {
	options  *Options
	scenario Scenario
	group    *process.Group
	pods     []string // HOST:PORT
	setup    peers.Setup
	proxies  []string // HOST:PORT, by policy
}

func startField(ctx context.Context, o *Options, dir string, s Scenario, result *Result) (_ *field, err error) {
	// nginx's worker may be another user.
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	f := &field{options: o, scenario: s, group: process.NewGroup(dir)}
	defer func() {
		if err != nil {
			_ = f.group.Stop(stopGrace) // the first error is the one to tell
		}
	}()
	for i, model := range s.Pods {
		if err := f.startPod(ctx, i, model); err != nil {
			return nil, err
		}
	}
	f.setup = peers.Setup{
		Clients: maxClients, Routes: []string{route}, NoEjection: true,
		Pools: []peers.Pool{{Name: "pods", Version: "v1", Weight: 1, Endpoints: f.pods}},
	}
	if f.setup.Files, err = process.FileLimit(); err != nil {
		return nil, err
	}
	for _, p := range o.Policies {
		version, err := f.startProxy(ctx, p, dir)
		if err != nil {
			return nil, err
		}
		result.Versions[p.peer] = version
	}
	return f, nil
}

// start starts a program and waits until it takes connections.
func (f *field) start(ctx context.Context, s process.Spec, address string) error {
	p, err := f.group.Start(s)
	if err != nil {
		return err
	}
	return p.Ready(ctx, readyTimeout, process.Accepts(address))
}

func (f *field) startPod(ctx context.Context, i int, m Model) error {
	model, err := json.Marshal(m)
	if err != nil {
		return err
	}
	address, _, err := process.FreeAddress(0)
	if err != nil {
		return err
	}
	f.pods = append(f.pods, address)
	return f.start(ctx, process.Spec{
		Name: "pod-" + strconv.Itoa(i+1), Path: filepath.Join(f.options.Programs, "weir-bench"),
		Args: []string{"pod", "--listen", address, "--model", string(model)},
	}, address)
}

// startProxy starts the proxy of a policy and returns its version.
func (f *field) startProxy(ctx context.Context, p Policy, dir string) (version string, err error) {
	setup := f.setup
	setup.Policy, setup.Dir = p.policy, filepath.Join(dir, p.Name)
	for _, address := range []*string{&setup.Listen, &setup.Admin} {
		if *address, _, err = process.FreeAddress(0); err != nil {
			return "", err
		}
	}
	spec := process.Spec{Name: p.Name}
	var files, args []string
	tell := "-v"
	switch p.peer {
	case Nginx:
		spec.EndsGently, files, args = true, []string{"nginx.conf"}, []string{"-e", "stderr", "-c"}
	case HAProxy:
		spec.DiesOfTerm, files, args = true, []string{"haproxy.cfg"}, []string{"-db", "-f"}
	default:
		tell, files, args = "version", []string{"weir.yaml"}, []string{"serve", "-c"}
	}
	if spec.Path = filepath.Join(f.options.Programs, Weir); p.peer != Weir {
		if spec.Path, err = peers.Find(p.peer); err != nil {
			return "", err
		}
	}
	if version, err = peers.Version(ctx, spec.Path, tell); err != nil {
		return "", err
	}
	config, err := peers.Write(&setup, files)
	if err != nil {
		return "", err
	}
	spec.Args = append(args, config)
	f.proxies = append(f.proxies, setup.Listen)
	return version, f.start(ctx, spec, setup.Listen)
}

func (f *field) rounds(ctx context.Context, result *Result) error {
	policies := f.options.Policies
	all := make([]*bench.Tally, len(policies))
	for i := range all {
		all[i] = bench.NewTally(0)
	}
	var measured []Measurement
	for round := range f.options.Rounds {
		for i := range policies {
			// Every policy goes first in its turn: none always follows the same one.
			i = (i + round) % len(policies)
			m, err := f.measure(ctx, i, round, all[i])
			if err != nil {
				return fmt.Errorf("%s, scenario %s, round %d: %w", policies[i].Name, f.scenario.Name, round+1, err)
			}
			f.options.Say(m.line())
			measured = append(measured, *m)
		}
	}
	result.add(f.scenario, policies, measured, all)
	return nil
}

// measure puts the i-th proxy under the load of a round, and adds what was recorded to all.
func (f *field) measure(ctx context.Context, i, round int, all *bench.Tally) (*Measurement, error) {
	for pod, address := range f.pods {
		url := fmt.Sprintf("http://%s%s?seed=%d", address, pathBegin, round*len(f.pods)+pod)
		if _, err := ask(ctx, http.MethodPost, url); err != nil {
			return nil, err
		}
	}
	target, err := bench.NewFixed(bench.Request{URL: "http://" + f.proxies[i] + route}, make([]byte, bodySize))
	if err != nil {
		return nil, err
	}
	o := f.options
	attack, err := bench.NewAttack(bench.Options{
		Address: f.proxies[i], Target: target, Pacer: bench.Poisson(f.scenario.Rate, uint64(round+1)),
		Warmup: o.Warmup, Duration: o.Warmup + o.Duration, Connections: connections,
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(attack.Run(ctx), ctx.Err()); err != nil {
		return nil, err
	}
	tally := attack.Take()
	all.Merge(tally)
	m := &Measurement{Scenario: f.scenario.Name, Policy: o.Policies[i].Name, Round: round + 1}
	m.fill(bench.Summarize(tally, o.Duration))
	if m.Requests == m.Errors {
		return nil, fmt.Errorf("none of %d requests was answered well", m.Requests)
	}
	m.Served, err = f.served(ctx)
	return m, err
}

// served asks how many requests each pod took, those of the warm-up among them.
func (f *field) served(ctx context.Context) ([]uint64, error) {
	all := make([]uint64, len(f.pods))
	for i, address := range f.pods {
		said, err := ask(ctx, http.MethodGet, "http://"+address+pathServed)
		if err != nil {
			return nil, err
		}
		if all[i], err = strconv.ParseUint(said, 10, 64); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ask returns what a pod answers.
func ask(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
