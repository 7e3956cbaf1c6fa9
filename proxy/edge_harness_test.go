package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/backend/backendtest"
	"weir/config"
	"weir/internal/telemetry"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// The edge tests are the HTTP/1.1 rows of the table of fault classes: raw clients and scripted
// endpoints around a proxy in this process, and every byte on both sides is checked.

// setup describes the proxy of a test; the zero value of a field is the plainest choice.
type setup struct {
	endpoints []string // of pool blue, the only one
	listener  string   // lines of the listener, "timeouts: {header: 1s}" for one
	pool      string   // lines of the pool
	route     string   // lines of the only route, which matches everything
	top       string   // top-level lines
	address   string   // of the listener; "": 127.0.0.1:0
	log       io.Writer
	options   func(*proxy.Options)
	blocks    bool                 // the test itself blocks event loops
	change    func(*config.Config) // what the lines do not say
}

// running is a proxy that serves.
type running struct {
	*proxy.Proxy
	addr string
	yaml string
	logs *lockedBuffer
}

// start runs a proxy until the end of the test.
func start(t testing.TB, s setup) *running {
	t.Helper()
	if overTLS != nil {
		s.listener += fmt.Sprintf("\ntls:\n  certificates: [%s]\n", overTLS.pair("server"))
		s.pool += "\n" + overTLS.trusting("")
	}
	if overUnix && s.address == "" {
		s.address = "unix:" + backendtest.SocketPath(t)
	}
	logs := &lockedBuffer{}
	r := &running{yaml: s.render(), logs: logs}
	log, _, err := telemetry.NewLogger("debug", logs)
	if err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{Log: log, Version: "test"}
	if s.log != nil {
		o.AccessLog = telemetry.NewAccessLog(s.log, 1<<20)
		t.Cleanup(func() { o.AccessLog.Close() })
	}
	if s.options != nil {
		s.options(&o)
	}
	r.Proxy = proxy.New(o)
	cfg := parse(t, r.yaml)
	if s.change != nil {
		s.change(cfg)
	}
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := r.stop(); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		if t.Failed() {
			t.Log(logs.String())
		}
	})
	eventually(t, "the listener", func() bool { return len(r.Addrs()) == 1 })
	if !s.blocks {
		proxy.GuardLoops(t, r.Proxy)
	}
	r.addr = r.Addrs()[0].String()
	return r
}

// oneLoop is for tests that count connections to endpoints, which loops do not share.
func oneLoop(o *proxy.Options) { o.Loops = 1 }

// stop ends the proxy within a second, whatever still runs.
func (r *running) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// parse reads a configuration. A pool that says nothing of how long it may take to connect is patient: a machine with
// other things to do may stall for longer than the second that is the default.
func parse(t testing.TB, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("edge.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("configuration: %v\n%s", err, yaml)
	}
	for i := range cfg.Pools {
		if c := &cfg.Pools[i].Connections; c.ConnectTimeout == config.DefaultPool().Connections.ConnectTimeout {
			c.ConnectTimeout = patience
		}
	}
	return cfg
}

func (s *setup) render() string {
	quoted := make([]string, len(s.endpoints))
	for i, e := range s.endpoints {
		quoted[i] = fmt.Sprintf("%q", e)
	}
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "engine: %s\nlisteners:\n  - address: %q\n%s", enginetest.Name(), address, indented(s.listener))
	fmt.Fprintf(&b, "log: {access: {output: \"off\"}}\n%s\n", s.top)
	fmt.Fprintf(&b, "pools:\n  blue:\n    endpoints: [%s]\n    probe: off\n    policy: round_robin\n%s", strings.Join(quoted, ", "), indented(s.pool))
	fmt.Fprintf(&b, "routes:\n  - name: all\n    split: {blue: 1}\n%s", indented(s.route))
	return b.String()
}

func indented(lines string) (s string) {
	for l := range strings.Lines(lines) {
		s += "    " + strings.TrimRight(l, "\n") + "\n"
	}
	return s
}

// client is a raw connection to the proxy.
type client struct {
	*wire
	t testing.TB
}

// connect makes a connection to HOST:PORT, or to a Unix socket at unix:PATH.
func connect(addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", addr)
}

func (r *running) dial(t testing.TB) *client {
	t.Helper()
	nc, err := connect(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	if overTLS != nil {
		c := tls.Client(nc, overTLS.client())
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		nc = c
	}
	t.Cleanup(func() { nc.Close() })
	return &client{newWire(nc), t}
}

// answer reads the final response to a request with this method.
func (c *client) answer(method string) *message {
	c.t.Helper()
	m, _, err := c.readResponse(method)
	if err != nil {
		c.t.Fatalf("no whole answer: %v (so far %+v)", err, m)
	}
	return m
}

// get sends a plain GET for target and reads the answer.
func (c *client) get(target string) *message {
	c.t.Helper()
	c.send("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
	return c.answer("GET")
}

// closed checks that weir closes the connection and sends nothing more.
func (c *client) closed() {
	c.t.Helper()
	if err := c.readEnd(); err != nil {
		c.t.Error(err)
	}
}

// refused checks for one of weir's own errors, in the one shape it has.
func (c *client) refused(m *message, statuses ...int) {
	c.t.Helper()
	if !slices.Contains(statuses, m.status()) {
		c.t.Errorf("status line %q, want one of %v; body %q", m.start, statuses, m.body)
		return
	}
	if ct := m.get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		c.t.Errorf("Content-Type %q of an error, want application/json", ct)
	}
	var shape struct {
		Error     string `json:"error"`
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	d := json.NewDecoder(bytes.NewReader(m.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&shape); err != nil || shape.Error == "" || shape.Code == "" || shape.RequestID == "" {
		c.t.Errorf("error body %q (%v), want {\"error\", \"code\", \"request_id\"}", m.body, err)
	}
	if id := m.get("X-Request-ID"); id != shape.RequestID {
		c.t.Errorf("X-Request-ID %q, but request_id %q in the body", id, shape.RequestID)
	}
}

// endpoint is a scripted server; it keeps every whole request it got.
type endpoint struct {
	addr string

	mu       sync.Mutex
	requests []*message
	faults   []error
	conns    int // accepted so far
	open     int // of them now
	partial  int // of them in the middle of a request
}

// served is one connection to an endpoint.
type served struct {
	*wire
	ep      *endpoint
	n       int  // 1 for the endpoint's first connection
	partial bool // in the middle of a request
}

// newEndpoint runs script for each connection and closes the connection when it returns. A
// malformed request from weir fails the test.
func newEndpoint(t testing.TB, script func(*served)) *endpoint {
	if overTLS != nil {
		return newTLSEndpoint(t, overTLS.server(), script)
	}
	return newEndpointOver(t, func(nc net.Conn) net.Conn { return nc }, script)
}

// newEndpointOver is newEndpoint for what over makes of a connection.
func newEndpointOver(t testing.TB, over func(net.Conn) net.Conn, script func(*served)) *endpoint {
	ep := &endpoint{}
	t.Cleanup(func() {
		ep.mu.Lock()
		defer ep.mu.Unlock()
		for _, err := range ep.faults {
			t.Errorf("weir sent to the endpoint: %v", err)
		}
	})
	listen := backendtest.Raw
	if overUnix {
		listen = backendtest.RawUnix
	}
	ep.addr = listen(t, func(nc net.Conn) {
		ep.mu.Lock()
		ep.conns++
		ep.open++
		s := &served{wire: newWire(over(nc)), ep: ep, n: ep.conns}
		ep.mu.Unlock()
		script(s)
		s.setPartial(false)
		if c, ok := s.Conn.(*tls.Conn); ok {
			_ = c.Close() // which says that this is the end
		}
		ep.mu.Lock()
		ep.open--
		ep.mu.Unlock()
	})
	return ep
}

// head reads the head of the next request; nil when the connection ended instead.
func (s *served) head() *message {
	s.wait()
	if _, err := s.br.Peek(1); err != nil {
		return nil
	}
	s.setPartial(true)
	m, err := s.readHead()
	return s.checked(m, err)
}

func (s *served) setPartial(partial bool) {
	s.ep.mu.Lock()
	defer s.ep.mu.Unlock()
	if s.partial != partial {
		s.partial = partial
		s.ep.partial += map[bool]int{true: 1, false: -1}[partial]
	}
}

// rest reads the body of a request whose head was read; nil when it ended early.
func (s *served) rest(m *message, sink io.Writer) *message {
	if s.checked(m, s.readRequestBody(m, sink)) == nil {
		return nil
	}
	s.ep.mu.Lock()
	s.ep.requests = append(s.ep.requests, m)
	s.ep.mu.Unlock()
	s.setPartial(false)
	return m
}

// request reads a whole request and records it; nil when the connection ended before its end.
func (s *served) request() *message {
	m := s.head()
	if m == nil {
		return nil
	}
	return s.rest(m, nil)
}

func (s *served) checked(m *message, err error) *message {
	if err == nil {
		return m
	}
	if _, malformed := errors.AsType[malformedError](err); malformed {
		s.fault(err)
	}
	return nil
}

// fault fails the test.
func (s *served) fault(err error) {
	s.ep.mu.Lock()
	defer s.ep.mu.Unlock()
	s.ep.faults = append(s.ep.faults, err)
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// serveOK answers every request with 200 and "ok".
func serveOK(s *served) {
	for m := s.request(); m != nil; m = s.request() {
		s.send(okResponse[:len(okResponse)-bodyless(m)])
	}
}

// bodyless is how much to cut off an "ok" for a request without a body in its answer.
func bodyless(m *message) int {
	if m.method() == "HEAD" {
		return len("ok")
	}
	return 0
}

// serveBytes answers every request with the same bytes.
func serveBytes(response string) func(*served) {
	return func(s *served) {
		for s.request() != nil {
			s.send(response)
		}
	}
}

// got returns the first lines of the whole requests so far.
func (ep *endpoint) got() (lines []string) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for _, m := range ep.requests {
		lines = append(lines, m.method()+" "+m.target())
	}
	return lines
}

// last returns the latest whole request.
func (ep *endpoint) last(t testing.TB) *message {
	t.Helper()
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if len(ep.requests) == 0 {
		t.Fatal("the endpoint got no whole request")
	}
	return ep.requests[len(ep.requests)-1]
}

// counts returns how many connections weir has opened so far, how many are open, and how many of
// them are in the middle of a request.
func (ep *endpoint) counts() (accepted, open, partial int) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.conns, ep.open, ep.partial
}

// quiet waits until no connection to the endpoint is in the middle of a request.
func (ep *endpoint) quiet(t testing.TB) {
	t.Helper()
	eventually(t, "the end of all attempts", func() bool { _, _, partial := ep.counts(); return partial == 0 })
}

// noneOpen waits until weir has closed all connections to the endpoint.
func (ep *endpoint) noneOpen(t testing.TB) {
	t.Helper()
	eventually(t, "the end of all connections to the endpoint", func() bool { _, open, _ := ep.counts(); return open == 0 })
}

// eventually polls until ok: at first each millisecond, and then, as gathering metrics costs more than what is waited for,
// when another twentieth of the wait has passed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); {
		waited := time.Since(began)
		if waited > patience {
			t.Fatalf("%s: waited %v in vain", what, patience)
		}
		time.Sleep(max(time.Millisecond, min(waited/20, 50*time.Millisecond)))
	}
}

// metrics gathers weir's metrics: the value (a histogram's count) by name and labels, as in
// `weir_requests_total{code="200",…}`, labels sorted.
func (r *running) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(r.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			values[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// sum adds up the metrics of a family whose labels contain all the parts.
func sum(values map[string]float64, family string, parts ...string) (total float64) {
	for key, v := range values {
		ok := strings.HasPrefix(key, family+"{")
		for _, p := range parts {
			ok = ok && strings.Contains(key, p)
		}
		if ok {
			total += v
		}
	}
	return total
}

// lockedBuffer is a bytes.Buffer for several writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
