package compare

import (
	"context"
	"crypto/x509"
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
	setup    peers.Setup    // without what differs between peers
	roots    *x509.CertPool // of the peers' certificate
	engines  bool           // weir knows the key engine
	peers    []*peer
}

// peer is one side of the comparison.
type peer struct {
	name    string
	address string
	version string
	metrics string           // URL
	process *process.Process // nil for direct
	fresh   int64            // bytes resident before the first idle connection
}

func (p *peer) usage() (process.Usage, error) {
	if p.process == nil {
		return process.Usage{}, nil
	}
	return p.process.Usage()
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
	if f.setup.TLS {
		if f.roots, err = f.setup.MakeCertificate(dir); err != nil {
			return nil, err
		}
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
	s := peers.Setup{
		Dir: dir, Routes: w.paths(), Affinity: w.Users > 0, LargeBodies: w.Setup == setupBodies, Features: w.Setup == setupFeatures,
		Clients: max(w.Idle, w.Connections, 1000) + idleReserve,
		TLS:     w.TLS, HTTP2: w.HTTP2 || w.TLS, GRPC: w.GRPC, Events: w.Every > 0 && !w.GRPC,
	}
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

// start starts a program and waits until it accepts connections.
func (f *field) start(ctx context.Context, s process.Spec, address string) (*process.Process, error) {
	p, err := f.group.Start(s)
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx, readyTimeout, process.Accepts(address))
}

func (f *field) stop() error { return f.group.Stop(stopGrace) }

// knowsEngines reports whether this weir's configuration has the key engine.
func knowsEngines(ctx context.Context, weir string) bool {
	schema, err := exec.CommandContext(ctx, weir, "config", "schema").Output()
	return err == nil && strings.Contains(string(schema), `"engine"`)
}
