package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"weir/config"
	"weir/internal/telemetry"
	"weir/proxy/enginetest"
)

// What one proxied request costs is exact, so it is asserted: allocations, and system calls on
// sockets. Client and endpoint are raw loops over fixed buffers, so that all that is counted is weir's.

const costRequest = "POST /predict HTTP/1.1\r\nHost: ml.example.com\r\nUser-Agent: cost\r\nContent-Type: application/json\r\n" +
	"X-User-ID: user-4711\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789"

// costEndpoint answers each request of a fixed size with a fixed answer.
func costEndpoint(tb testing.TB, answer string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	go costServe(ln, answer)
	return ln.Addr().String()
}

// costServe is costEndpoint's loop on a listener. It returns when that is closed.
func costServe(ln net.Listener, answer string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf, n, reply := make([]byte, 4096), 0, []byte(answer)
			for {
				m, err := c.Read(buf[n:])
				if err != nil {
					return
				}
				n += m
				if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end < 0 || n < end+4+40 {
					continue
				}
				n = 0
				if _, err := c.Write(reply); err != nil {
					return
				}
			}
		}()
	}
}

// costProxy is weir with everything that is on by default, affinity and the access log.
func costProxy(tb testing.TB, endpoints ...string) (*Proxy, *SocketOps) {
	return changedProxy(tb, func(*config.Route) {}, endpoints...)
}

// changedProxy is costProxy whose route is changed.
func changedProxy(tb testing.TB, change func(*config.Route), endpoints ...string) (*Proxy, *SocketOps) {
	tb.Helper()
	return changedConfigProxy(tb, func(c *config.Config) { change(&c.Routes[0]) }, endpoints...)
}

// changedConfigProxy is costProxy whose configuration is changed.
func changedConfigProxy(tb testing.TB, change func(*config.Config), endpoints ...string) (*Proxy, *SocketOps) {
	tb.Helper()
	yaml := "engine: " + enginetest.Name() + "\nlisteners: [{address: \"127.0.0.1:0\"}]\npools:\n"
	split := ""
	for i, e := range endpoints {
		yaml += fmt.Sprintf("  p%d: {version: v%d, endpoints: [%q], probe: off}\n", i, i, e)
		split += fmt.Sprintf("p%d: %d, ", i, 90-80*i)
	}
	yaml += "routes:\n  - {name: predict, match: {path: /predict, methods: [POST]}, split: {" + split + "}, affinity: {key: \"header:X-User-ID\"}}\n"
	cfg, err := config.Parse("cost.yaml", []byte(yaml))
	if err != nil {
		tb.Fatal(err)
	}
	change(cfg)
	ops := &SocketOps{}
	access := telemetry.NewAccessLog(io.Discard, 0)
	p := New(Options{Ops: ops, AccessLog: access})
	if _, _, err := p.Apply(cfg); err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(context.Background()) }()
	tb.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
		<-done
		_ = access.Close()
	})
	return p, ops
}

// roundTrips returns a function that sends one request and reads its answer over one connection.
func roundTrips(tb testing.TB, p *Proxy, body string) func() {
	return tripsOf(tb, p, []byte(costRequest), body)
}

// tripsOf is roundTrips of another request.
func tripsOf(tb testing.TB, p *Proxy, request []byte, body string) func() {
	tb.Helper()
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	buf := make([]byte, 64<<10)
	end := []byte(body)
	return func() {
		if _, err := c.Write(request); err != nil {
			tb.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(buf[:n], end); {
			m, err := c.Read(buf[n:])
			if err != nil {
				tb.Fatalf("%v after %q", err, buf[:n])
			}
			n += m
		}
	}
}

const costAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"prediction\":1}"

func TestSystemCallsPerRequest(t *testing.T) {
	p, ops := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	trip := roundTrips(t, p, "{\"prediction\":1}")
	trip()
	trip()
	const n = 500
	reads, writes, peeks := ops.Reads.Load(), ops.Writes.Load(), ops.Peeks.Load()
	for range n {
		trip()
	}
	reads, writes, peeks = ops.Reads.Load()-reads, ops.Writes.Load()-writes, ops.Peeks.Load()-peeks
	t.Logf("per request: %.2f reads, %.2f writes, %.2f peeks", float64(reads)/n, float64(writes)/n, float64(peeks)/n)
	looks, tries := uint64(n), uint64(3*n)
	if enginetest.Name() != config.EngineGoroutine {
		looks, tries = 0, 2*n // events say what there is to read, and what there is not
	}
	// Client: a read that finds nothing yet, and the read; endpoint: only the read, since sending
	// and waiting are one step. One write and one look before reuse. Reads may rise when
	// the endpoint's answer comes in pieces, which here it does not.
	if writes != 2*n || peeks != looks || reads > tries {
		t.Errorf("%d reads, %d writes, %d peeks for %d requests; want at most %d, %d, %d", reads, writes, peeks, n, tries, 2*n, looks)
	}
}

func BenchmarkRequest(b *testing.B) {
	p, _ := costProxy(b, costEndpoint(b, costAnswer), costEndpoint(b, costAnswer))
	trip := roundTrips(b, p, "{\"prediction\":1}")
	trip()
	b.ReportAllocs()
	for b.Loop() {
		trip()
	}
}
