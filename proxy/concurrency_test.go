package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"weir/config"
	"weir/proxy/enginetest"
	"weir/proxy/queue"
)

// everyBound puts all there is about a request's turn in force.
func everyBound(tb testing.TB, p *Proxy) {
	tb.Helper()
	cfg := *p.Config()
	cfg.Routes = []config.Route{cfg.Routes[0]}
	cfg.Pools = append([]config.Pool(nil), cfg.Pools...)
	cfg.Routes[0].Timeouts.Idle += time.Second
	cfg.Routes[0].Concurrency = &config.Concurrency{Key: config.Source{Kind: config.AffinityClientIP}, Max: 10, Total: 20, Queue: config.Queue{Size: 10}}
	for i := range cfg.Pools {
		cfg.Pools[i].Concurrency = &config.Concurrency{
			Adaptive: &config.Adaptive{Min: 5, Max: 500, Percentile: 90, Tolerance: 100, Interval: 100 * time.Millisecond, Remeasure: time.Minute},
			Queue:    config.Queue{Size: 10},
		}
		cfg.Pools[i].CircuitBreaker = &config.CircuitBreaker{MaxRequests: 100, MaxPending: 100, MaxRetries: 10}
	}
	if _, _, err := p.Apply(&cfg); err != nil {
		tb.Fatal(err)
	}
	if p.table.Load().routes[0].permits.keys == nil || p.table.Load().pools[0].load.breaker == nil {
		tb.Fatal("not in force")
	}
}

func BenchmarkRequestBounded(b *testing.B) {
	p, _ := costProxy(b, costEndpoint(b, costAnswer), costEndpoint(b, costAnswer))
	everyBound(b, p)
	trip := roundTrips(b, p, "{\"prediction\":1}")
	trip()
	b.ReportAllocs()
	for b.Loop() {
		trip()
	}
}

// TestPanicInTheQueue: a request that panics while it waits leaves the queue, or the place that it was given just
// then.
func TestPanicInTheQueue(t *testing.T) {
	q := queue.New(queue.Settings{Limit: 1, Size: 2})
	r := &request{p: New(Options{}), in: &intake{}, start: time.Now()}
	for _, served := range []bool{false, true} {
		q.Enter()
		w := &queue.Waiter{Wake: func() {}}
		q.Join(w, 0)
		r.in.turn.waiter = w
		if served {
			q.Leave(0)
		}
		r.in.turn.release(r)
		if !served {
			q.Leave(0)
		}
		if f := q.Figures(); f.Under != 0 || f.Waiting != 0 || r.in.turn.waiter != nil {
			t.Errorf("served %v: %+v", served, f)
		}
	}
}

// TestBuiltIsNotInForce: a table that was built, and nothing more, changes nothing.
func TestBuiltIsNotInForce(t *testing.T) {
	p, _ := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
	everyBound(t, p)
	cfg := *p.Config()
	cfg.Routes = []config.Route{cfg.Routes[0]}
	cfg.Routes[0].Concurrency = &config.Concurrency{Key: config.Source{Kind: config.AffinityClientIP}, Max: 1, Total: 1}
	cfg.Pools = append([]config.Pool(nil), cfg.Pools...)
	cfg.Pools[0].Concurrency, cfg.Pools[0].CircuitBreaker = &config.Concurrency{Max: 1}, &config.CircuitBreaker{MaxRequests: 1}
	old := p.table.Load()
	next, _, err := build(&cfg, p.buildPools(&cfg, old, p.discoveries(&cfg, old)), old, "")
	if err != nil {
		t.Fatal(err)
	}
	now := old.routes[0].permits
	if next.routes[0].permits.keys != now.keys || next.routes[0].permits.total != now.total || next.pools[0].load.bound != old.pools[0].load.bound {
		t.Error("what the table before had is not taken over")
	}
	if f, _ := now.keys.keys.Figures(); f.Limit != 10 || now.total.queue.Figures().Limit != 20 || old.pools[0].load.bound.queue.Figures().Limit != 50 {
		t.Errorf("limits %+v, %+v, %+v", f, now.total.queue.Figures(), old.pools[0].load.bound.queue.Figures())
	}
	if n := old.pools[0].load.breaker.most(breakerRequests); n != 100 {
		t.Errorf("the breaker allows %d", n)
	}
}

// TestStopEndsQueue: what waits ends with the proxy.
func TestStopEndsQueue(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // takes connections and says nothing
	cfg, err := config.Parse("stop.yaml", []byte("engine: "+enginetest.Name()+"\nlisteners: [{address: \"127.0.0.1:0\"}]\npools: {blue: {probe: off, endpoints: [\""+ln.Addr().String()+"\"]}}\nroutes: [{name: all, split: {blue: 1}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 10}}
	p := New(Options{})
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(context.Background()) }()
	for range 5 {
		c, err := net.Dial("tcp", p.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	total := p.table.Load().routes[0].permits.total.queue
	for deadline := time.Now().Add(10 * time.Second); total.Figures().Waiting < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", total.Figures())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.Shutdown(ctx)
	select {
	case <-served:
	case <-time.After(10 * time.Second):
		t.Fatal("the proxy does not end")
	}
	if f := total.Figures(); f.Under != 0 || f.Waiting != 0 {
		t.Errorf("at the end %+v", f)
	}
}

func TestParseTimeout(t *testing.T) {
	for _, c := range []struct {
		text string
		d    time.Duration
		form timeForm
	}{
		{"2.5", 2500 * time.Millisecond, plain}, {"500ms", 500 * time.Millisecond, inMillis}, {"2s", 2 * time.Second, inSeconds},
		{"1m", time.Minute, inSeconds}, {"1.5h", 90 * time.Minute, inSeconds}, {"0.0005", 500 * time.Microsecond, plain}, {"7.", 7 * time.Second, plain},
		{"0", 0, plain}, {"-3", -1, plain}, {"99999999999999999999", 1 << 62, plain},
	} {
		if d, form, ok := parseTimeout([]byte(c.text)); !ok || d != c.d || form != c.form {
			t.Errorf("%q: %v, %d, %v; want %v, %d", c.text, d, form, ok, c.d, c.form)
		}
	}
	for _, text := range []string{"", "s", "ms", "-", "-s", ".", ".5", "1..2", "1e3", "inf", "nan", "0x1", "1_000", " 1", "1 ", "1us", "+1", "1d", "1234567890123456789012345"} {
		if d, _, ok := parseTimeout([]byte(text)); ok {
			t.Errorf("%q: %v, want nothing", text, d)
		}
	}
}
