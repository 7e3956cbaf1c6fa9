package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/config"
	"weir/internal/state"
)

// twoPools is a configuration with a route over two pools, one endpoint each.
type twoPools struct {
	listen, blue, green, split, top string
}

func (c twoPools) parse(t *testing.T) *config.Config {
	t.Helper()
	if c.listen == "" {
		c.listen = `[{address: "127.0.0.1:0"}]`
	}
	cfg, err := config.Parse("weir.yaml", fmt.Appendf(nil, `
listeners: %s
pools:
  blue: {version: v1, endpoints: [%q], probe: off}
  green: {version: v2, endpoints: [%q], probe: off}
routes:
  - {name: predict, match: {path_prefix: /}, split: {%s}, affinity: {key: "header:X-User-ID"}}
%s`, c.listen, c.blue, c.green, c.split, c.top))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// running applies cfg and serves until the end of the test.
func running(t *testing.T, cfg *config.Config) *Proxy {
	t.Helper()
	p := New(Options{})
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
	return p
}

// serveHTTP is an endpoint that answers with its name.
func serveHTTP(t *testing.T, name string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) })}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

// ask sends a request of a user over a connection of its own and returns the variant.
func ask(t *testing.T, addr net.Addr, user string) string {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+addr.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if user != "" {
		req.Header.Set("X-User-ID", user)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get("X-Weir-Variant")
}

func weights(s RouteStatus) (w []float64) {
	for _, v := range s.Variants {
		w = append(w, v.Weight)
	}
	return w
}

// setWeights sets weights whatever the health of the endpoints.
func setWeights(p *Proxy, route string, to map[string]float64) (RouteStatus, error) {
	_, err := p.Update(Update{Kind: state.KindWeights, Weights: map[string]map[string]float64{route: to}, Force: true})
	s, _ := p.Route(route)
	return s, err
}

func TestSetWeightsHoldsForTheNextRequest(t *testing.T) {
	p := running(t, twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 100, green: 0"}.parse(t))
	for i := range 20 {
		to, want := map[string]float64{"blue": 0, "green": 7}, "green"
		if i%2 == 0 {
			to, want = map[string]float64{"blue": 0.5, "green": 0}, "blue"
		}
		s, err := setWeights(p, "predict", to)
		if err != nil {
			t.Fatal(err)
		}
		if got := weights(s); got[0] != to["blue"] || got[1] != to["green"] || !s.Overlay || s.Generation != p.Generation() {
			t.Errorf("set %v, got back %+v", to, s)
		}
		for _, user := range []string{"", "u1", "u2"} {
			if got := ask(t, p.Addrs()[0], user); got != want {
				t.Fatalf("after %v user %q met %q", to, user, got)
			}
		}
	}
}

func TestSetWeightsRefuses(t *testing.T) {
	p := running(t, twoPools{blue: "127.0.0.1:1", green: "127.0.0.1:2", split: "blue: 90, green: 10"}.parse(t))
	f := func(route string, w map[string]float64, status int, message string) {
		t.Helper()
		_, err := setWeights(p, route, w)
		var refused *ControlError
		if !errors.As(err, &refused) || refused.Status != status || refused.Message != message {
			t.Errorf("%v: %v, want %d %q", w, err, status, message)
		}
	}
	f("predikt", map[string]float64{"blue": 1}, 404, `unknown route "predikt" (have predict)`)
	f("predict", map[string]float64{"blue": 1}, 422, `route predict: no weight for variant "green": every variant needs one, 0 for no new requests`)
	f("predict", map[string]float64{"blue": 1, "green": 1, "red": 1}, 422, `route predict: unknown variant "red" (have blue, green)`)
	f("predict", map[string]float64{"blue": 2, "green": -1}, 422, `route predict: weight -1 of variant "green": want a number from 0 up`)
	f("predict", map[string]float64{"blue": 0, "green": 0}, 422, `route predict: the weights sum to 0: at least one must be above 0`)
	if g := p.Generation(); g != 1 {
		t.Errorf("generation %d after nothing but refusals, want 1", g)
	}
}

func TestOverlayRule(t *testing.T) {
	base := twoPools{blue: "127.0.0.1:1", green: "127.0.0.1:2", split: "blue: 90, green: 10"}
	p := running(t, base.parse(t))
	if _, err := setWeights(p, "predict", map[string]float64{"blue": 50, "green": 50}); err != nil {
		t.Fatal(err)
	}
	status := func() RouteStatus {
		s, _ := p.Route("predict")
		return s
	}

	same := base
	same.top = "trusted_proxies: [10.0.0.0/8]\n"
	gen, changes, err := p.Apply(same.parse(t))
	if err != nil || gen != 3 || !slices.Equal(changes, []string{"trusted_proxies: added (10.0.0.0/8)"}) {
		t.Errorf("a change of the trusted proxies: generation %d, %q, %v", gen, changes, err)
	}
	if s := status(); !slices.Equal(weights(s), []float64{50, 50}) || !s.Overlay || s.Generation != 2 {
		t.Errorf("a reload that leaves the split alone: %+v", s)
	}

	if gen, changes, err := p.Apply(same.parse(t)); err != nil || gen != 3 || changes != nil {
		t.Errorf("the same again: generation %d, %q, %v", gen, changes, err)
	}

	other := same
	other.split = "blue: 80, green: 20"
	_, changes, err = p.Apply(other.parse(t))
	if s := status(); err != nil || !slices.Equal(weights(s), []float64{80, 20}) || s.Overlay || s.Generation != 4 {
		t.Errorf("a reload that changes the split: %+v, %v", s, err)
	}
	want := []string{
		"route predict: the new split of the file replaces the weights set through the API",
		"routes.predict.split.blue: 90 → 80", "routes.predict.split.green: 10 → 20",
	}
	if !slices.Equal(changes, want) {
		t.Errorf("and says %q, want %q", changes, want)
	}
}

// TestApplySaysWhatChanges: of the first configuration how large it is, of one in another order that
// nothing has changed.
func TestApplySaysWhatChanges(t *testing.T) {
	c := twoPools{blue: "127.0.0.1:1", green: "127.0.0.1:2", split: "blue: 90, green: 10"}
	p := New(Options{})
	defer stopPools(p)
	_, changes, err := p.Apply(c.parse(t))
	if want := []string{"1 listener, 1 route, 2 pools with 2 endpoints"}; err != nil || !slices.Equal(changes, want) {
		t.Errorf("the first: %q, %v; want %q", changes, err, want)
	}
	moved := c.parse(t)
	slices.Reverse(moved.Pools)
	if gen, changes, err := p.Apply(moved); err != nil || gen != 1 || changes != nil {
		t.Errorf("pools in another order: generation %d, %q, %v", gen, changes, err)
	}
	c.top = "log: {level: error}\n"
	if gen, changes, err := p.Apply(c.parse(t)); err != nil || gen != 2 || !slices.Equal(changes, []string{"log.level: info → error"}) {
		t.Errorf("what the proxy has no use for: generation %d, %q, %v", gen, changes, err)
	}
}

func TestApplyLeavesTheOldInForceOnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0"}
	p := running(t, c.parse(t))
	before := p.Status()
	c.split = "blue: 0, green: 1"
	c.listen = fmt.Sprintf(`[{address: "127.0.0.1:0"}, {address: %q}]`, taken.Addr())
	if _, _, err := p.Apply(c.parse(t)); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Fatalf("listening on a taken address: %v", err)
	}
	after := p.Status()
	if after.Generation != before.Generation || len(p.Addrs()) != 1 || !after.Degraded {
		t.Errorf("after a failed reload: %+v", after)
	}
	if got := ask(t, p.Addrs()[0], ""); got != "blue" {
		t.Errorf("a failed reload changed where requests go: %q", got)
	}
}

func TestListenersComeAndGo(t *testing.T) {
	c := twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0", listen: `[{address: "127.0.0.1:0"}]`}
	p := running(t, c.parse(t))
	first := p.Addrs()[0]
	held, err := net.Dial("tcp", first.String())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	c.listen = `[{address: "localhost:0"}]`
	if _, _, err := p.Apply(c.parse(t)); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, p.Addrs()[0], ""); got != "blue" {
		t.Errorf("over the new listener: %q", got)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		nc, err := net.Dial("tcp", first.String())
		if err != nil {
			break
		}
		_ = nc.Close()
		if time.Now().After(deadline) {
			t.Fatal("the old listener still accepts")
		}
	}
	// A connection that the old listener accepted goes on.
	if _, err := io.WriteString(held, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(held); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("over a connection of the old listener: %q, %v", b, err)
	}
}

// TestSpillover: a variant without a usable endpoint gets no new requests, and that is counted.
func TestSpillover(t *testing.T) {
	c := twoPools{blue: serveHTTP(t, "b"), green: "no-such-host.invalid:80", split: "blue: 10, green: 90"}
	cfg := c.parse(t)
	p := running(t, cfg)
	for i := range 50 {
		if got := ask(t, p.Addrs()[0], fmt.Sprint("user", i)); got != "blue" {
			t.Fatalf("user %d met %q", i, got)
		}
	}
	s := p.Status()
	if !s.Degraded || s.Routes[0].Variants[1].Usable {
		t.Errorf("status %+v", s)
	}
	if n := p.table.Load().routes[0].variants[1].live.spilled.Load(); n < 30 {
		t.Errorf("%d spilled requests counted of about 45", n)
	}
}

func TestShareCountsFromTheLastChangeOfWeights(t *testing.T) {
	p := running(t, twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0"}.parse(t))
	for range 5 {
		ask(t, p.Addrs()[0], "")
	}
	if s, _ := p.Route("predict"); s.Variants[0].Share != 1 || s.Variants[0].Requests != 5 {
		t.Errorf("%+v", s.Variants)
	}
	if s, err := setWeights(p, "predict", map[string]float64{"blue": 0, "green": 1}); err != nil || s.Variants[0].Share != 0 || s.Variants[0].Requests != 5 {
		t.Errorf("right after the change: %+v, %v", s.Variants, err)
	}
	ask(t, p.Addrs()[0], "")
	if s, _ := p.Route("predict"); s.Variants[1].Share != 1 {
		t.Errorf("%+v", s.Variants)
	}
}

// TestReloadBeforeServe: a listener is bound as soon as a configuration is applied. Who connected then
// is served, even if a reload takes the listener away before Serve runs.
func TestReloadBeforeServe(t *testing.T) {
	c := twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0"}
	p := New(Options{})
	if _, _, err := p.Apply(c.parse(t)); err != nil {
		t.Fatal(err)
	}
	early, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	c.listen = `[{address: "localhost:0"}]`
	if _, _, err := p.Apply(c.parse(t)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(context.Background()) }()
	defer func() {
		if err := p.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
	}()
	if _, err := io.WriteString(early, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(early); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("%q, %v", b, err)
	}
}

// TestSlowNamesHoldNobodyUp: while a reload waits for a name server, weir begins to serve, says how it
// is and takes weights, and the reload does not lose them.
func TestSlowNamesHoldNobodyUp(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p := New(Options{Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
		once.Do(func() { close(asked) })
		<-answer
		return nil, errors.New("no such host")
	}})
	c := twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0"}
	if _, _, err := p.Apply(c.parse(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	defer func() { cancel(); <-served }()
	c.green = "slow.example:80"
	applied := make(chan error, 1)
	go func() {
		_, _, err := p.Apply(c.parse(t))
		applied <- err
	}()
	<-asked
	told := make(chan bool, 1)
	go func() {
		p.Addrs()
		p.Status()
		p.ReloadFailed()
		if _, err := setWeights(p, "predict", map[string]float64{"blue": 3, "green": 0}); err != nil {
			t.Error(err)
		}
		for !p.Ready() {
			runtime.Gosched()
		}
		told <- true
	}()
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		close(answer)
		t.Fatal("weir waits for the name server")
	}
	if got := ask(t, p.Addrs()[0], ""); got != "blue" {
		t.Errorf("meanwhile requests go to %q", got)
	}
	close(answer)
	if err := <-applied; err != nil {
		t.Error(err)
	}
	if s, _ := p.Route("predict"); !slices.Equal(weights(s), []float64{3, 0}) || !s.Overlay || p.Generation() != 3 {
		t.Errorf("after the reload: generation %d, %+v", p.Generation(), s)
	}
}

// TestServeEndsWithItsContext: without a Shutdown, listeners are closed and connections broken off.
func TestServeEndsWithItsContext(t *testing.T) {
	p := New(Options{})
	if _, _, err := p.Apply(twoPools{blue: serveHTTP(t, "b"), green: serveHTTP(t, "g"), split: "blue: 1, green: 0"}.parse(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	ask(t, p.Addrs()[0], "")
	idle, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-served:
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on")
	}
	_ = idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection is still open: %v", err)
	}
}
