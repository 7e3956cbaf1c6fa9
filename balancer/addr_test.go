package balancer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"

	"weir/config"
)

// TestAddrIsOfPackageNet: what an Addr says is what package net makes a connection of.
func TestAddrIsOfPackageNet(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": t.TempDir() + "/s"} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a := Addr{Path: address}
		if network == "tcp" {
			a = Addr{AddrPort: netip.MustParseAddrPort(l.Addr().String())}
		}
		c, err := net.Dial(a.Network(), a.Target())
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		c.Close()
	}
}

// TestEndpointOnUnixSocket: it needs no lookup, and is called by a name that a Host may be.
func TestEndpointOnUnixSocket(t *testing.T) {
	c := config.Pool{Name: "blue", Policy: "round_robin", Endpoints: []config.Endpoint{{Address: "unix:/run/model.sock", Weight: 1}, {Address: "10.0.0.1:80", Weight: 1}}}
	p := NewPool(c, nil, PoolOptions{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		t.Error("a name was looked up")
		return nil, nil
	}})
	if err := p.Resolve(t.Context()); err != nil || !p.Resolved() {
		t.Fatalf("resolved %v: %v", p.Resolved(), err)
	}
	unix, tcp := p.Endpoints()[0], p.Endpoints()[1]
	if want := []Addr{{Path: "/run/model.sock"}}; !slices.Equal(unix.Addrs(), want) || unix.Addrs()[0].String() != unix.Address {
		t.Errorf("addresses %v of %s, want %v", unix.Addrs(), unix.Address, want)
	}
	if unix.Host() != "localhost" || tcp.Host() != "10.0.0.1:80" {
		t.Errorf("hosts %s and %s; want localhost and 10.0.0.1:80", unix.Host(), tcp.Host())
	}
}
