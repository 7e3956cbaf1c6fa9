package compare

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weir/bench/peers"
	"weir/bench/process"
)

const (
	readyTimeout = 15 * time.Second
	stopGrace    = 10 * time.Second
)

// field is everything that runs while the workloads of one setup are measured.
type field struct {
	options  *Options
	group    *process.Group
	dir      string
	quota    *process.Quota // nil for none
	endpoint *process.Process
	setup    peers.Setup // without what differs between peers
	engines  bool        // weir knows the key engine
	peers    []*peer
}

// peer is one side of the comparison.
type peer struct {
	name    string
	address string
	version string
	process *process.Process // nil for direct
}

// startField starts the endpoint and the peers for the setup of a workload, and waits until they
// answer. They all run all the time: an idle proxy costs next to nothing.
func startField(ctx context.Context, o *Options, dir string, quota *process.Quota, w Workload) (_ *field, err error) {
	// nginx's worker may be another user.
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	f := &field{options: o, group: process.NewGroup(dir), dir: dir, quota: quota}
	defer func() {
		if err != nil {
			_ = f.group.Stop(stopGrace) // the first error is the one to tell
		}
	}()
	if f.setup, err = setupOf(w, dir); err != nil {
		return nil, err
	}
	loadCPUs := []int(nil)
	if o.Pin {
		loadCPUs = []int{loadCPU}
	}
	listen := f.setup.Addresses()
	f.endpoint, err = f.start(ctx, process.Spec{
		Name: "endpoint", Path: filepath.Join(o.Programs, "weir-bench"), CPUs: loadCPUs,
		Args: []string{"endpoint", "--listen", strings.Join(listen, ",")},
	}, listen[len(listen)-1])
	if err != nil {
		return nil, err
	}
	f.engines = knowsEngines(ctx, filepath.Join(o.Programs, "weir"))
	for _, name := range o.Peers {
		p, err := f.startPeer(ctx, name)
		if err != nil {
			return nil, err
		}
		f.peers = append(f.peers, p)
	}
	return f, nil
}

// setupOf returns what all peers have in common under a workload.
func setupOf(w Workload, dir string) (peers.Setup, error) {
	s := peers.Setup{Dir: dir, Routes: w.paths(), Affinity: w.Users > 0, LargeBodies: w.Setup == setupBodies, Features: w.Setup == setupFeatures}
	var err error
	if s.Files, err = process.FileLimit(); err != nil {
		return s, err
	}
	address, _, err := process.FreeAddress(0)
	if err != nil {
		return s, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return s, err
	}
	// All endpoints have one port and addresses of their own: every one of 127.0.0.0/8 is loopback.
	next := 0
	pool := func(name string, weight, endpoints int) {
		p := peers.Pool{Name: name, Version: "v" + strconv.Itoa(len(s.Pools)+1), Weight: weight}
		for range endpoints {
			p.Endpoints = append(p.Endpoints, fmt.Sprintf("127.0.%d.%d:%s", 1+next/250, 1+next%250, port))
			next++
		}
		s.Pools = append(s.Pools, p)
	}
	switch w.Setup {
	case setupSplit:
		for i := range variants {
			pool(fmt.Sprintf("variant-%d", i), 1, 1)
		}
	case setupEndpoints:
		pool("blue", 90, endpoints)
		pool("green", 10, 1)
	default:
		pool("blue", 90, 1)
		pool("green", 10, 1)
	}
	return s, nil
}

// program says how to start a peer.
type program struct {
	find    func() (string, error)
	files   []string // its configuration, the file it is started with first
	version string   // the argument that makes it tell its version
	args    func(config string) []string
	engine  string // of weir
	spec    process.Spec
}

func (f *field) program(name string) program {
	weir := program{
		find:    func() (string, error) { return filepath.Join(f.options.Programs, "weir"), nil },
		files:   []string{"weir.yaml"},
		version: "version",
		args:    func(config string) []string { return []string{"serve", "-c", config} },
	}
	switch name {
	case Nginx:
		return program{
			find: func() (string, error) { return find(name) }, files: []string{"nginx.conf"}, version: "-v",
			args: func(config string) []string { return []string{"-e", "stderr", "-c", config} },
			spec: process.Spec{EndsGently: true},
		}
	case HAProxy:
		return program{
			find: func() (string, error) { return find(name) }, files: []string{"haproxy.cfg", "haproxy.map"}, version: "-v",
			args: func(config string) []string { return []string{"-db", "-f", config} },
			spec: process.Spec{DiesOfTerm: true},
		}
	case WeirGoroutine:
		weir.engine = "goroutine"
	case Weir:
		weir.engine = "loop"
	}
	if !f.engines {
		weir.engine = ""
	}
	return weir
}

// startPeer starts the peer of that name.
func (f *field) startPeer(ctx context.Context, name string) (*peer, error) {
	p := &peer{name: name}
	if name == Direct {
		p.address = f.setup.Pools[0].Endpoints[0]
		return p, nil
	}
	how := f.program(name)
	path, err := how.find()
	if err != nil {
		return nil, err
	}
	if p.version, err = versionOf(ctx, path, how.version); err != nil {
		return nil, err
	}
	setup := f.setup
	setup.Engine, setup.Dir = how.engine, filepath.Join(f.dir, name)
	for _, address := range []*string{&setup.Listen, &setup.Admin} {
		if *address, _, err = process.FreeAddress(0); err != nil {
			return nil, err
		}
	}
	config, err := write(&setup, how.files)
	if err != nil {
		return nil, err
	}
	spec := how.spec
	spec.Name, spec.Path, spec.Args = name, path, how.args(config)
	if f.options.Pin {
		spec.CPUs = []int{proxyCPU}
	}
	p.address = setup.Listen
	if p.process, err = f.start(ctx, spec, p.address); err != nil {
		return nil, err
	}
	if f.quota != nil {
		err = f.quota.Add(p.process)
	}
	return p, err
}

// start starts a program and waits until it accepts connections.
func (f *field) start(ctx context.Context, s process.Spec, address string) (*process.Process, error) {
	p, err := f.group.Start(s)
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx, readyTimeout, func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// write puts a peer's configuration into its folder and returns the path of the first file.
func write(s *peers.Setup, names []string) (string, error) {
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := peers.Render(name, s)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(s.Dir, names[0]), nil
}

func (f *field) stop() error { return f.group.Stop(stopGrace) }

// knowsEngines reports whether this weir's configuration has the key engine.
func knowsEngines(ctx context.Context, weir string) bool {
	schema, err := exec.CommandContext(ctx, weir, "config", "schema").Output()
	return err == nil && strings.Contains(string(schema), `"engine"`)
}

// find looks for a program on the path and where Debian puts servers.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path := "/usr/sbin/" + name; executable(path) {
		return path, nil
	}
	return "", fmt.Errorf("%s is not installed: on Debian, apt-get install --no-install-recommends %s; or leave it out of --peers", name, name)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// versionOf returns the first line that a program says of its version.
func versionOf(ctx context.Context, path, arg string) (string, error) {
	out, err := exec.CommandContext(ctx, path, arg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, arg, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}
