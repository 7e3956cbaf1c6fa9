package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// model starts a model server that answers with its name, and /health by what healthy says, and returns
// its address.
func model(t *testing.T, name string, healthy func() bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && !healthy() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func always() bool { return true }

// site is a configuration that tests vary: the routes predict (blue, green, with affinity) and rank (green
// alone).
type site struct {
	blue, green string // endpoints, as a YAML list
	split       string
	top         string
	pool        string // of both pools
	noPredict   bool
}

func newSite(t *testing.T) site {
	return site{blue: "[" + quote(model(t, "blue", always)) + "]", green: "[" + quote(model(t, "green", always)) + "]", split: "blue: 90, green: 10"}
}

func quote(s string) string { return `"` + s + `"` }

func (s site) yaml() string {
	pool := s.pool
	if pool == "" {
		pool = "probe: off"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%slisteners: [{address: '127.0.0.1:0'}]\nlog: {access: {output: off}}\npools:\n  blue: {endpoints: %s, %s}\n  green: {endpoints: %s, %s}\nroutes:\n",
		s.top, s.blue, pool, s.green, pool)
	if !s.noPredict {
		fmt.Fprintf(&b, "  - {name: predict, match: {path: /predict}, split: {%s}, affinity: {key: 'header:X-User-ID'}}\n", s.split)
	}
	b.WriteString("  - {name: rank, match: {path: /rank}, split: {green: 1}}\n")
	return b.String()
}

func (s site) parse(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse("", []byte(s.yaml()))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.yaml())
	}
	return cfg
}

// weir is a Controller whose proxy serves.
type weir struct {
	*Controller
	t    *testing.T
	stop func()
}

// run starts weir with a configuration and what the store remembers.
func run(t *testing.T, store state.Store, cfg *config.Config) *weir {
	t.Helper()
	c, err := New(Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Apply(cfg, proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Proxy().Serve(ctx) }()
	w := &weir{Controller: c, t: t}
	w.stop = func() {
		w.stop = func() {}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { w.stop() })
	return w
}

// kept is a store that outlives Close, as a file does.
type kept struct{ *state.Memory }

func (kept) Close() error { return nil }

func newStore() state.Store { return kept{new(state.Memory)} }

func (w *weir) ask(path, user string) string {
	w.t.Helper()
	req, _ := http.NewRequest("GET", "http://"+w.Proxy().Addrs()[0].String()+path, nil)
	if user != "" {
		req.Header.Set("X-User-ID", user)
	}
	r, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.StatusCode != 200 {
		return fmt.Sprint(r.StatusCode)
	}
	return string(body)
}

// met is who answers 200 users.
func (w *weir) met() (who []string) {
	for i := range 200 {
		who = append(who, w.ask("/predict", fmt.Sprint("user", i)))
	}
	return who
}

// weights are those of the route predict.
func (w *weir) weights() string {
	r, ok := w.Route("predict")
	if !ok {
		return "gone"
	}
	var s []string
	for _, v := range r.Variants {
		s = append(s, fmt.Sprintf("%s=%v", v.Pool, v.Weight))
	}
	return strings.Join(s, " ")
}

func (w *weir) last() state.Change {
	h := w.History()
	return h[len(h)-1]
}

func (w *weir) draining() (names []string) {
	for _, p := range w.Status().Pools {
		if p.Draining {
			names = append(names, p.Name)
			continue
		}
		for _, e := range p.Endpoints {
			if e.Draining {
				names = append(names, p.Name+"/"+e.Address)
			}
		}
	}
	slices.Sort(names)
	return names
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not within 30 s: %s", what)
}

var by = Change{Cause: proxy.Cause{By: "tester", Reason: "a test"}}
