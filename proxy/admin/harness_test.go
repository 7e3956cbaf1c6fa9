package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/control"
)

// site has the routes predict (blue, green) and rank (green alone). Nothing is sent to the endpoints.
const site = `
listeners: [{address: '127.0.0.1:0'}]
log: {access: {output: off}}
pools:
  blue: {version: v1, endpoints: ['127.0.0.1:8001', '[::1]:8001'], probe: off}
  green: {version: v2, endpoints: ['127.0.0.1:8002'], probe: off}
routes:
  - {name: predict, match: {path: /predict}, split: {blue: 90, green: 10}}
  - {name: rank, match: {path: /rank}, split: {green: 1}}
`

// api is the API of a real Controller.
type api struct {
	*control.Controller
	t      *testing.T
	url    string
	server *Server
	logs   *observer.ObservedLogs
	store  *store
	stop   func() // shuts the server down, once

	mu       sync.Mutex // over what the functions of Options answer
	cfg      *config.Config
	reload   func(by string) (uint64, []string, error)
	notReady []string
	started  bool
}

// store is one in memory that can be full.
type store struct {
	state.Memory
	full atomic.Bool
}

func (s *store) Save(d *state.Document) error {
	if s.full.Load() {
		return errors.New(`cannot write "weir.state.json": no space left`)
	}
	return s.Memory.Save(d)
}

func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Routes {
		if cfg.Routes[i].Name == "predict" {
			cfg.Routes[i].Cache = &config.Cache{MaxBytes: 1 << 20, MaxObject: 1 << 10, Methods: []string{"GET"}}
			e := config.DefaultExperiment()
			e.Outcomes = []config.ExperimentOutcome{{Name: "bought", From: config.OutcomeAPI, Goal: config.GoalIncrease}}
			cfg.Routes[i].Experiment = &e
		}
	}
	return cfg
}

func newController(t testing.TB, s state.Store) *control.Controller {
	t.Helper()
	c, err := control.New(control.Options{Store: s, Proxy: proxy.Options{Version: "v9.9.9"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Apply(parse(t, site), proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Proxy().Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// start serves the API on a port of its own.
func start(t *testing.T, more ...func(*Options, *Server)) *api {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	a := &api{t: t, logs: logs, store: new(store)}
	a.Controller = newController(t, a.store)
	a.cfg = parse(t, site)
	a.reload = func(by string) (uint64, []string, error) {
		return a.Apply(parse(t, site), proxy.Cause{By: by})
	}
	o := Options{
		Address:    "weir.internal:9901",
		Control:    a.Controller,
		Config:     func() (*config.Config, uint64) { a.mu.Lock(); defer a.mu.Unlock(); return a.cfg, 1 },
		Reload:     func(by string) (uint64, []string, error) { a.mu.Lock(); defer a.mu.Unlock(); return a.reload(by) },
		Started:    func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.started },
		Ready:      func() []string { a.mu.Lock(); defer a.mu.Unlock(); return a.notReady },
		Collectors: []prometheus.Collector{prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_test", Help: "A test."})},
		Log:        zap.New(core),
	}
	for _, f := range more {
		f(&o, nil)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more {
		f(&o, s)
	}
	a.server = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.url = "http://" + l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	a.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

// set changes what the functions of Options answer.
func (a *api) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// apply puts another configuration in force.
func (a *api) apply(text string) {
	a.t.Helper()
	if _, _, err := a.Apply(parse(a.t, text), proxy.Cause{By: "file"}); err != nil {
		a.t.Fatal(err)
	}
}

type call struct {
	method, path, body string
	header             map[string]string
}

// send makes a request and returns its answer, which the caller reads and closes.
func send(t testing.TB, base string, c call) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func do(t testing.TB, base string, c call) (*http.Response, string) {
	t.Helper()
	resp := send(t, base, c)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// write makes a request with a JSON body, or with none, and the header fields given by name and value.
func (a *api) write(method, path, body string, header ...string) (*http.Response, string) {
	a.t.Helper()
	h := map[string]string{}
	if body != "" {
		h["Content-Type"] = "application/json"
	}
	for i := 0; i < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return do(a.t, a.url, call{method, path, body, h})
}

// must is a write that succeeds; it decodes the answer.
func must[T any](a *api, method, path, body string, header ...string) (v T, resp *http.Response) {
	a.t.Helper()
	resp, text := a.write(method, path, body, header...)
	if resp.StatusCode/100 != 2 || resp.Header.Get("Content-Type") != "application/json" {
		a.t.Fatalf("%s %s %s: %d %s", method, path, body, resp.StatusCode, text)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		a.t.Fatalf("%v in %s", err, text)
	}
	return v, resp
}

func (a *api) lastChange() state.Change {
	h := a.History()
	return h[len(h)-1]
}

func checkFailure(t *testing.T, resp *http.Response, body string, status int, code, says string) {
	t.Helper()
	var got failure
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d with a body that is no JSON: %q", resp.StatusCode, body)
	}
	if resp.StatusCode != status || got.Code != code || !strings.Contains(got.Error, says) {
		t.Errorf("got %d %s, want %d %s with %q", resp.StatusCode, body, status, code, says)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

var jsonType = map[string]string{"Content-Type": "application/json"}
