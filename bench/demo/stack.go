package demo

import (
	"context"
	_ "embed" // weir.yaml
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"weir/bench/process"
)

// The friendly ports: weir's own default for its admin API, and one that is easy to remember.
const (
	DefaultPort      = 8080
	DefaultAdminPort = 9901
)

const (
	// readyTimeout is how long each program may take to get ready.
	readyTimeout = 60 * time.Second
	// stopGrace is how long each program may take to end after SIGTERM.
	stopGrace = 10 * time.Second
)

// pool is one version of the model and the processes that serve it.
type pool struct {
	Name      string
	Weight    float64
	Endpoints []string
	model     model
	processes int
	slowness  time.Duration // that answers of its pods take longer
}

// Version is what weir.yaml says of the pool.
func (p *pool) Version() string { return p.model.version }

// stack is everything that runs beside the load: weir and the backends behind it.
type stack struct {
	group   *process.Group
	weir    *process.Process
	dir     string // logs and weir.yaml
	pools   []*pool
	address string // weir's
	admin   string // its admin API's
	usual   bool   // the admin API is where commands look for it
	rolls   bool   // versions out, and so measures them
	slowed  []func() error
}

// startStack starts the backends and weir, and waits until they are ready. say is told what
// goes on. When it fails nothing is left running.
func startStack(ctx context.Context, o *Options, dir string, pools []*pool, say func(string)) (_ *stack, err error) {
	s := &stack{group: process.NewGroup(dir), dir: dir, pools: pools, rolls: o.Rollout != ""}
	defer func() {
		if err != nil {
			_ = s.stop() // the first error is the one to tell
		}
	}()
	for _, p := range pools {
		say(fmt.Sprintf("starting %s: model fashion %s, %s of weir-backend", p.Name, p.model.version, plural(p.processes, "process", "processes")))
		for i := range p.processes {
			if err := s.startBackend(ctx, o.Programs, p, fmt.Sprintf("%s-%d", p.Name, i+1)); err != nil {
				return nil, err
			}
		}
	}
	return s, s.startWeir(ctx, o, say)
}

// startBackend starts a weir-backend on a port of its choice, which it writes to a file.
func (s *stack) startBackend(ctx context.Context, programs string, p *pool, name string) error {
	portFile := filepath.Join(s.dir, name+".port")
	child, err := s.group.Start(process.Spec{
		Name: name,
		Path: filepath.Join(programs, "weir-backend"),
		Args: []string{
			"--listen", "127.0.0.1:0", "--port-file", portFile,
			"--model", "fashion=" + p.model.path, "--version", p.model.version,
		},
	})
	if err != nil {
		return err
	}
	address := ""
	err = child.Ready(ctx, readyTimeout, func(ctx context.Context) error {
		text, err := os.ReadFile(portFile)
		if err != nil {
			return err
		}
		port := strings.TrimSpace(string(text))
		if port == "" {
			return fmt.Errorf("%s is empty", portFile)
		}
		address = "127.0.0.1:" + port
		return process.Answers("http://" + address + readyPath)(ctx)
	})
	if err == nil && p.slowness > 0 {
		var stop func() error
		if address, stop, err = slow(address, p.slowness); err == nil {
			s.slowed = append(s.slowed, stop)
		}
	}
	p.Endpoints = append(p.Endpoints, address)
	return err
}

const readyPath = "/v2/health/ready"

// startWeir starts weir before the pools, on the friendly ports when they are free.
func (s *stack) startWeir(ctx context.Context, o *Options, say func(string)) (err error) {
	var free, adminFree bool
	var admin string
	if s.address, free, err = process.FreeAddress(o.Port); err != nil {
		return err
	}
	if admin, adminFree, err = process.FreeAddress(o.AdminPort); err != nil {
		return err
	}
	s.admin, s.usual = "http://"+admin, admin == fmt.Sprintf("127.0.0.1:%d", DefaultAdminPort)
	if !free {
		say(fmt.Sprintf("port %d is taken, so weir listens on %s", o.Port, s.address))
	}
	if !adminFree {
		say(fmt.Sprintf("port %d is taken, so weir's admin API is at %s: for other commands, export WEIR_ADMIN=%s", o.AdminPort, s.admin, s.admin))
	}
	if err := s.writeConfig(admin); err != nil {
		return err
	}
	say(fmt.Sprintf("starting weir before them on http://%s, configuration %s", s.address, s.configFile()))
	s.weir, err = s.group.Start(process.Spec{
		Name: "weir",
		Path: filepath.Join(o.Programs, "weir"),
		Args: []string{"serve", "-c", s.configFile()},
	})
	if err != nil {
		return err
	}
	return s.weir.Ready(ctx, readyTimeout, process.Answers(s.admin+"/health/ready"))
}

func (s *stack) configFile() string { return filepath.Join(s.dir, "weir.yaml") }

//go:embed weir.yaml.tmpl
var configTemplate string

func (s *stack) writeConfig(admin string) error {
	t, err := template.New("weir.yaml").Parse(configTemplate)
	if err != nil {
		return err
	}
	var b strings.Builder
	err = t.Execute(&b, struct {
		Address, Admin, Probe string
		Pools                 []*pool
		Rolls                 bool
	}{s.address, admin, readyPath, s.pools, s.rolls})
	if err != nil {
		return err
	}
	return os.WriteFile(s.configFile(), []byte(b.String()), 0o644)
}

// stop ends weir, then the backends.
func (s *stack) stop() error {
	err := s.group.Stop(stopGrace)
	for _, stop := range s.slowed {
		err = errors.Join(err, stop())
	}
	return err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
