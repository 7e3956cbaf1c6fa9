package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/proxy"
)

// session is a client that keeps its tickets.
func (k *keeper) session(version uint16) *tls.Config {
	c := k.client()
	c.MinVersion, c.MaxVersion = version, version
	c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	return c
}

// resumes makes a request on a connection of its own and reports whether the session was resumed.
func (r *running) resumes(t *testing.T, c *tls.Config) bool {
	t.Helper()
	nc, err := r.tryTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	cl := &client{newWire(nc), t}
	defer cl.Close()
	if m := cl.get("/"); m.status() != 200 { // the tickets come with it
		t.Errorf("%s", m.start)
	}
	return nc.ConnectionState().DidResume
}

// TestEdgeTLSTickets: one ticket is good on every event loop, and over reloads of the listener's TLS; not at another
// listener, which may ask for more.
func TestEdgeTLSTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			k := newKeeper(t)
			ep := newEndpoint(t, serveOK)
			r := secured(t, k, "", setup{endpoints: []string{ep.addr}, options: func(o *proxy.Options) { o.Loops = 4 }})
			c := k.session(version)
			if r.resumes(t, c) {
				t.Error("the first is resumed")
			}
			for i := range 40 {
				if !r.resumes(t, c) {
					t.Fatalf("connection %d is not resumed", i+2)
				}
			}
			next := strings.Replace(r.yaml, "certificates: [", "certificates: ["+k.pair("second")+", ", 1)
			if _, _, err := r.Apply(parse(t, next)); err != nil {
				t.Fatal(err)
			}
			if !r.resumes(t, c) {
				t.Error("not resumed after the reload")
			}
			other := secured(t, k, "", setup{endpoints: []string{ep.addr}})
			if other.resumes(t, c) {
				t.Error("resumed at another listener")
			}
		})
	}
}

// TestEdgeTLSHandshakeFlood: clients whose handshake costs the most, a whole hello and never a word after it, are as
// many as limits.connections lets in and go with timeouts.header. Clients whose handshake is over go on meanwhile, and
// new ones come in as soon as there is room.
func TestEdgeTLSHandshakeFlood(t *testing.T) {
	const limit, clients = 60, 150
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}, listener: fmt.Sprintf("timeouts: {header: 2s}\nlimits: {connections: %d}\n", limit)})
	early := r.dialTLS(t, k.client())
	early.get("/")
	hello := helloOf(t, k)
	var flood sync.WaitGroup
	var met atomic.Int64 // with the server's part of the handshake
	for range clients {
		nc, err := net.DialTimeout("tcp", r.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := nc.Write(hello); err != nil {
			t.Fatal(err)
		}
		flood.Go(func() {
			_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
			b, err := io.ReadAll(nc)
			if late, ok := err.(net.Error); ok && late.Timeout() {
				t.Errorf("a half-open handshake has no end; %d bytes came", len(b))
			}
			if len(b) > 0 {
				met.Add(1)
			}
		})
	}
	eventually(t, "a full listener", func() bool { return r.Status().Connections == limit })
	for range 20 {
		if m := early.get("/"); m.status() != 200 {
			t.Fatalf("the client from before: %s", m.start)
		}
		if n := r.Status().Connections; n > limit {
			t.Fatalf("%d connections, the limit is %d", n, limit)
		}
	}
	flood.Wait()
	if m := r.dialTLS(t, k.client()).get("/"); m.status() != 200 {
		t.Errorf("after it: %s", m.start)
	}
	eventually(t, "the count", func() bool {
		return sum(r.metrics(t), "weir_tls_handshakes_failed_total", `"timeout"`) >= float64(met.Load()) && met.Load() > 0
	})
	if n := sum(r.metrics(t), "weir_requests_total", `code="200"`); n < 22 {
		t.Errorf("%v requests", n)
	}
}

// helloOf is what a client of TLS sends first.
func helloOf(t *testing.T, k *keeper) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(theirs, k.client()).Handshake() }()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
