package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/internal/dnstest"
	"weir/proxy"
)

// replica is a pod: an address of its own at the port that all of them have.
type replica struct {
	host string
	held atomic.Int64  // requests for /held that wait
	free chan struct{} // until it is closed
}

// replicas are servers at several addresses and one port. Each answers with its address.
func replicas(t *testing.T, hosts ...string) (port string, all map[string]*replica) {
	t.Helper()
	first, err := net.Listen("tcp", hosts[0]+":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(first.Addr().String())
	all = map[string]*replica{}
	for i, host := range hosts {
		ln := first
		if i > 0 {
			if ln, err = net.Listen("tcp", net.JoinHostPort(host, port)); err != nil {
				t.Fatal(err)
			}
		}
		r := &replica{host: host, free: make(chan struct{})}
		all[host] = r
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/held" {
				r.held.Add(1)
				<-r.free
			}
			_, _ = io.WriteString(w, r.host)
		})}
		go func() { _ = s.Serve(ln) }()
		t.Cleanup(func() { s.Close() })
	}
	return port, all
}

// discovering is a proxy whose pool finds its endpoints by a name.
func discovering(t *testing.T, server *dnstest.Server, name string) *running {
	t.Helper()
	return start(t, setup{endpoints: []string{"127.0.0.1:1"}, change: func(c *config.Config) { // which is taken away again
		p := &c.Pools[0]
		p.Endpoints, p.Discover = nil, &config.Discover{DNS: name, Interval: 50 * time.Millisecond, Server: server.Addr()}
	}})
}

// from asks until every one of these has answered, and no other among the last twenty answers.
func (r *running) from(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	c := r.dial(t)
	eventually(t, "answers of "+strings.Join(want, ", "), func() bool {
		var got []string
		for range 20 {
			m := c.get("/")
			if m.status() != 200 {
				t.Fatalf("%s %s", m.start, m.body)
			}
			got = append(got, string(m.body))
		}
		slices.Sort(got)
		return slices.Equal(slices.Compact(got), want)
	})
}

func (r *running) discovery(t *testing.T) proxy.PoolStatus {
	t.Helper()
	pool, ok := r.Pool("blue")
	if !ok || pool.Discovery == nil {
		t.Fatalf("status of the pool: %+v", pool)
	}
	return pool
}

func TestEdgeDiscoverReplicasThatComeAndGo(t *testing.T) {
	alongside(t)
	port, pods := replicas(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	names := dnstest.New(t)
	names.Answer("ml-api.test", "127.0.0.1", "127.0.0.2", "::1") // one pod, two kinds of address: one endpoint
	r := discovering(t, names, "ml-api.test:"+port)
	r.from(t, "127.0.0.1", "127.0.0.2")
	generation := r.Generation()

	// Load that no change may fail.
	ctx, stop := context.WithCancel(context.Background())
	loaded := make(chan error, 1)
	var answered atomic.Int64
	c := r.dial(t)
	go func() {
		for ctx.Err() == nil {
			c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			if m, _, err := c.readResponse("GET"); err != nil || m.status() != 200 {
				loaded <- fmt.Errorf("%+v: %w", m, err)
				return
			}
			answered.Add(1)
		}
		loaded <- nil
	}()

	names.Answer("ml-api.test", "127.0.0.3", "127.0.0.2", "127.0.0.1")
	r.from(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")

	// What a replica that goes has under way, it finishes.
	var held []*client
	for pods["127.0.0.2"].held.Load() == 0 {
		h := r.dial(t)
		h.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
		held = append(held, h)
		eventually(t, "a request at a replica", func() bool { return heldAt(pods) == int64(len(held)) })
	}
	names.Answer("ml-api.test", "127.0.0.1", "127.0.0.3")
	r.from(t, "127.0.0.1", "127.0.0.3")
	for _, p := range pods {
		close(p.free)
	}
	var last []string
	for _, h := range held {
		if m := h.answer("GET"); m.status() != 200 {
			t.Errorf("a request that was under way: %s", m.start)
		} else {
			last = append(last, string(m.body))
		}
	}
	if !slices.Contains(last, "127.0.0.2") {
		t.Errorf("answers %v, want one of the replica that went", last)
	}
	stop()
	if err := <-loaded; err != nil {
		t.Errorf("after %d answers: %v", answered.Load(), err)
	}
	if r.Generation() != generation {
		t.Errorf("generation %d, want %d as before: nobody changed the configuration", r.Generation(), generation)
	}
	pool := r.discovery(t)
	if d := pool.Discovery; d.DNS != "ml-api.test:"+port || d.Found != 2 || d.Error != "" || len(pool.Endpoints) != 2 {
		t.Errorf("status %+v of %d endpoints", d, len(pool.Endpoints))
	}
}

func heldAt(pods map[string]*replica) (n int64) {
	for _, p := range pods {
		n += p.held.Load()
	}
	return n
}

// TestEdgeDiscoverKeepsTheLastGoodAnswer: neither a server that fails nor an answer without an address takes endpoints away.
func TestEdgeDiscoverKeepsTheLastGoodAnswer(t *testing.T) {
	alongside(t)
	port, _ := replicas(t, "127.0.0.1", "127.0.0.2")
	names := dnstest.New(t)
	names.Answer("ml-api.test", "127.0.0.1")
	r := discovering(t, names, "ml-api.test:"+port)
	r.from(t, "127.0.0.1")
	for _, c := range []struct {
		name string
		bad  func()
		says string
	}{
		{"failing", func() { names.Refuse(true) }, "server misbehaving"},
		{"unknown", func() { names.Refuse(false); names.Answer("ml-api.test") }, "no such host"},
	} {
		c.bad()
		eventually(t, "the status to say so", func() bool { return strings.Contains(r.discovery(t).Discovery.Error, c.says) })
		asked := names.Questions("ml-api.test")
		eventually(t, "further look-ups", func() bool { return names.Questions("ml-api.test") > asked+2 })
		r.from(t, "127.0.0.1")
		if reasons := strings.Join(r.Status().Reasons, "\n"); !strings.Contains(reasons, "found before stay in use") {
			t.Errorf("%s: reasons %q", c.name, reasons)
		}
	}
	names.Answer("ml-api.test", "127.0.0.2")
	r.from(t, "127.0.0.2")
	if e := r.discovery(t).Discovery.Error; e != "" {
		t.Errorf("error %q after a good answer", e)
	}
	if n := strings.Count(r.logs.String(), "cannot be looked up"); n != 1 {
		t.Errorf("%d warnings, want one for all that failed in a row", n)
	}
}

// TestEdgeDiscoverLater: a name that is not known yet holds nothing up, and is used once it is.
func TestEdgeDiscoverLater(t *testing.T) {
	alongside(t)
	port, _ := replicas(t, "127.0.0.1")
	names := dnstest.New(t)
	r := discovering(t, names, "later.test:"+port)
	if m := r.dial(t).get("/"); m.status() != 503 {
		t.Errorf("%s without endpoints, want 503", m.start)
	}
	if pool := r.discovery(t); len(pool.Endpoints) != 0 || pool.Discovery.Error == "" {
		t.Errorf("status %+v", pool)
	}
	names.Answer("later.test", "127.0.0.1")
	eventually(t, "an endpoint", func() bool { return len(r.discovery(t).Endpoints) == 1 })
	r.from(t, "127.0.0.1")
}

// TestEdgeDiscoverServices: the records of the best priority, with ports and weights of their own; their targets are names.
func TestEdgeDiscoverServices(t *testing.T) {
	alongside(t)
	port, _ := replicas(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	var number uint16
	if _, err := fmt.Sscan(port, &number); err != nil {
		t.Fatal(err)
	}
	names := dnstest.New(t)
	for i := range 3 {
		names.Answer(fmt.Sprintf("pod-%d.ml-api.test", i), fmt.Sprintf("127.0.0.%d", i+1))
	}
	names.AnswerSRV("_http._tcp.ml-api.test",
		dnstest.SRV{Priority: 5, Weight: 3, Port: number, Target: "pod-0.ml-api.test"},
		dnstest.SRV{Priority: 5, Weight: 1, Port: number, Target: "pod-1.ml-api.test"},
		dnstest.SRV{Priority: 9, Weight: 9, Port: number, Target: "pod-2.ml-api.test"})
	r := discovering(t, names, "_http._tcp.ml-api.test")
	r.from(t, "127.0.0.1", "127.0.0.2")
	pool := r.discovery(t)
	got := map[string]float64{}
	for _, e := range pool.Endpoints {
		got[e.Address] = e.Weight
	}
	if len(got) != 2 || got["pod-0.ml-api.test:"+port] != 3 || got["pod-1.ml-api.test:"+port] != 1 {
		t.Errorf("endpoints %v", got)
	}
	names.AnswerSRV("_http._tcp.ml-api.test", dnstest.SRV{Priority: 9, Port: number, Target: "pod-2.ml-api.test"})
	r.from(t, "127.0.0.3")
}

// TestEdgeDiscoverReloads: a reload that does not concern the name asks for nothing and keeps what was found; one that takes
// it away ends the look-ups.
func TestEdgeDiscoverReloads(t *testing.T) {
	alongside(t)
	port, _ := replicas(t, "127.0.0.1", "127.0.0.2")
	names := dnstest.New(t)
	names.Answer("ml-api.test", "127.0.0.1")
	names.Answer("other.test", "127.0.0.2")
	r := discovering(t, names, "ml-api.test:"+port)
	r.from(t, "127.0.0.1")
	apply := func(change func(*config.Pool)) {
		t.Helper()
		cfg := parse(t, r.yaml)
		p := &cfg.Pools[0]
		p.Endpoints, p.Discover = nil, &config.Discover{DNS: "ml-api.test:" + port, Interval: 50 * time.Millisecond, Server: names.Addr()}
		change(p)
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	names.Refuse(true)
	apply(func(p *config.Pool) { p.Version = "v2" })
	if pool := r.discovery(t); len(pool.Endpoints) != 1 || pool.Version != "v2" {
		t.Errorf("after a reload: %+v", pool)
	}
	r.from(t, "127.0.0.1")
	names.Refuse(false)
	apply(func(p *config.Pool) { p.Discover.DNS = "other.test:" + port })
	r.from(t, "127.0.0.2")
	apply(func(p *config.Pool) {
		p.Endpoints, p.Discover = []config.Endpoint{{Address: "127.0.0.1:" + port, Weight: 1}}, nil
	})
	r.from(t, "127.0.0.1")
	asked := names.Questions("other.test")
	for range 4 {
		time.Sleep(50 * time.Millisecond) // as long as an interval: what is not asked for cannot be waited for
	}
	if n := names.Questions("other.test"); n > asked+2 {
		t.Errorf("%d questions after the name was gone", n-asked)
	}
}
