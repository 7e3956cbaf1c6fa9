package compare

import (
	"context"
	"path/filepath"

	"weir/bench/peers"
	"weir/bench/process"
)

// program says how to start a peer.
type program struct {
	find    func() (string, error)
	files   []string // its configuration, the file it is started with first
	version string   // the argument that makes it tell its version
	args    func(config string) []string
	engine  string // of weir
	metrics string // path of its metrics, on the listener of its API where it has one
	spec    process.Spec
}

func (f *field) program(name string) program {
	weir := program{
		find:    func() (string, error) { return filepath.Join(f.options.Programs, "weir"), nil },
		files:   []string{"weir.yaml"},
		version: "version",
		metrics: "/metrics",
		args:    func(config string) []string { return []string{"serve", "-c", config} },
	}
	switch name {
	case Nginx:
		return program{
			find: func() (string, error) { return peers.Find(name) }, files: []string{"nginx.conf"}, version: "-v", metrics: "/stub_status",
			args: func(config string) []string { return []string{"-e", "stderr", "-c", config} },
			spec: process.Spec{EndsGently: true},
		}
	case HAProxy:
		return program{
			find: func() (string, error) { return peers.Find(name) }, files: []string{"haproxy.cfg", "haproxy.map"}, version: "-v", metrics: "/metrics",
			args: func(config string) []string { return []string{"-db", "-f", config} },
			spec: process.Spec{DiesOfTerm: true},
		}
	case Caddy:
		return program{
			find: func() (string, error) { return f.options.caddy(), nil }, files: []string{"Caddyfile"}, version: "version", metrics: "/metrics",
			args: func(config string) []string { return []string{"run", "--config", config, "--adapter", "caddyfile"} },
			// It notes things about itself where the user's data are.
			spec: process.Spec{Env: []string{"XDG_DATA_HOME=" + f.dir, "XDG_CONFIG_HOME=" + f.dir}},
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
	if p.version, err = peers.Version(ctx, path, how.version); err != nil {
		return nil, err
	}
	setup := f.setup
	setup.Engine, setup.Dir = how.engine, filepath.Join(f.dir, name)
	for _, address := range []*string{&setup.Listen, &setup.Admin} {
		if *address, _, err = process.FreeAddress(0); err != nil {
			return nil, err
		}
	}
	config, err := peers.Write(&setup, how.files)
	if err != nil {
		return nil, err
	}
	spec := how.spec
	spec.Name, spec.Path, spec.Args = name, path, how.args(config)
	if f.options.Pin {
		spec.CPUs = []int{proxyCPU}
	}
	p.address, p.metrics = setup.Listen, "http://"+setup.Listen+how.metrics
	if name == Weir || name == WeirGoroutine {
		p.metrics = "http://" + setup.Admin + how.metrics
	}
	if p.process, err = f.start(ctx, spec, p.address); err != nil {
		return nil, err
	}
	if f.quota != nil {
		err = f.quota.Add(p.process)
	}
	return p, err
}
