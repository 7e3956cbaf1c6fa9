package compare

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weir/bench/peers"
	"weir/bench/process"
)

const (
	readyTimeout = 15 * time.Second
	stopGrace    = 10 * time.Second
)

// field is everything that runs during a comparison.
type field struct {
	group   *process.Group
	dir     string
	at      map[string]string // addresses in use, by those in the peers' configurations
	replace []string          // the same as pairs of old and new
	peers   []*peer
}

// peer is one side of the comparison.
type peer struct {
	name    string
	address string
	version string
	process *process.Process // nil for direct
}

func (p *peer) usage() (process.Usage, error) {
	if p.process == nil {
		return process.Usage{}, nil
	}
	return p.process.Usage()
}

// startField starts the endpoint and the peers, and waits until they answer. They all run all
// the time: an idle proxy costs next to nothing.
func startField(ctx context.Context, o *Options, dir string) (_ *field, err error) {
	f := &field{group: process.NewGroup(dir), dir: dir, at: map[string]string{}, replace: []string{peers.Dir, dir}}
	defer func() {
		if err != nil {
			_ = f.group.Stop(stopGrace) // the first error is the one to tell
		}
	}()
	for _, usual := range []string{peers.Blue, peers.Green, peers.Weir, peers.WeirAdmin, peers.Nginx, peers.HAProxy} {
		if f.at[usual], _, err = process.FreeAddress(0); err != nil {
			return nil, err
		}
		f.replace = append(f.replace, usual, f.at[usual])
	}
	loadCPUs, proxyCPUs := []int(nil), []int(nil)
	if o.Pin {
		loadCPUs, proxyCPUs = []int{loadCPU}, []int{proxyCPU}
	}
	endpoint := process.Spec{
		Name: "endpoint", Path: filepath.Join(o.Programs, "weir-bench"), CPUs: loadCPUs,
		Args: []string{"endpoint", "--listen", f.at[peers.Blue] + "," + f.at[peers.Green]},
	}
	if _, err := f.start(ctx, endpoint, f.at[peers.Blue]); err != nil {
		return nil, err
	}
	for _, name := range o.Peers {
		p, err := f.startPeer(ctx, o, name, proxyCPUs)
		if err != nil {
			return nil, err
		}
		f.peers = append(f.peers, p)
	}
	return f, nil
}

// startPeer starts the peer of that name.
func (f *field) startPeer(ctx context.Context, o *Options, name string, cpus []int) (*peer, error) {
	p := &peer{name: name}
	spec := process.Spec{Name: name, CPUs: cpus}
	var config string
	var err error
	switch name {
	case Direct:
		p.address = f.at[peers.Blue]
		return p, nil
	case Weir:
		p.address = f.at[peers.Weir]
		spec.Path = filepath.Join(o.Programs, "weir")
		if config, err = f.write("weir.yaml"); err == nil {
			p.version, err = versionOf(ctx, spec.Path, "version")
		}
		spec.Args = []string{"serve", "-c", config}
	case Nginx:
		p.address, spec.EndsGently = f.at[peers.Nginx], true
		if spec.Path, err = find(name); err == nil {
			config, err = f.write("nginx.conf")
		}
		if err == nil {
			p.version, err = versionOf(ctx, spec.Path, "-v")
		}
		spec.Args = []string{"-e", "stderr", "-c", config}
	case HAProxy:
		p.address, spec.DiesOfTerm = f.at[peers.HAProxy], true
		if spec.Path, err = find(name); err == nil {
			config, err = f.write("haproxy.cfg")
		}
		if err == nil {
			p.version, err = versionOf(ctx, spec.Path, "-v")
		}
		spec.Args = []string{"-db", "-f", config}
	default:
		err = fmt.Errorf("peer %q: must be one of %s", name, strings.Join(Peers(), ", "))
	}
	if err != nil {
		return nil, err
	}
	p.process, err = f.start(ctx, spec, p.address)
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

// write puts a peer's configuration with the addresses of this comparison into the folder.
func (f *field) write(name string) (path string, err error) {
	text, err := peers.Config(name, f.replace...)
	if err != nil {
		return "", err
	}
	path = filepath.Join(f.dir, name)
	return path, os.WriteFile(path, text, 0o644)
}

func (f *field) stop() error { return f.group.Stop(stopGrace) }

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
