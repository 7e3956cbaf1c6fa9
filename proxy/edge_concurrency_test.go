package proxy_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

// bounded runs a proxy whose configuration was changed in code.
func bounded(t *testing.T, s setup, change func(*config.Config)) *running {
	t.Helper()
	r := start(t, s)
	r.change(t, change)
	return r
}

// change reloads with a changed configuration.
func (r *running) change(t *testing.T, change func(*config.Config)) {
	t.Helper()
	cfg := parse(t, r.yaml)
	change(cfg)
	cfg.Routes[0].Timeouts.Idle = r.Config().Routes[0].Timeouts.Idle + time.Second // in any case something is new
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
}

// reluctant is an endpoint that answers a request for each value from the channel.
func reluctant(t *testing.T) (*endpoint, chan struct{}) {
	turns := make(chan struct{}, 100)
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			<-turns
			s.send(okResponse)
		}
	})
	t.Cleanup(func() { close(turns) })
	return ep, turns
}

func getting(target, more string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n"
}

// asked sends a request on a connection of its own.
func (r *running) asked(t *testing.T, target, more string) *client {
	t.Helper()
	c := r.dial(t)
	c.send(getting(target, more))
	return c
}

// total is the state of the route's bound on all requests.
func (r *running) total(t *testing.T) proxy.BoundStatus {
	t.Helper()
	s, _ := r.Route("all")
	if s.Concurrency == nil || s.Concurrency.Total == nil {
		t.Fatal("the route says nothing of its bound")
	}
	return *s.Concurrency.Total
}

func (r *running) queued(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " requests in the queue"), func() bool { return r.total(t).Queued == n })
}

// shed reads an answer that refuses a request as one too many.
func (c *client) shed(why string) {
	c.t.Helper()
	m := c.answer("GET")
	c.refused(m, 503)
	if !strings.Contains(string(m.body), `"overloaded"`) || !strings.Contains(string(m.body), why) {
		c.t.Errorf("refused with %s, want code overloaded and %q", m.body, why)
	}
	if n, err := strconv.Atoi(m.get("Retry-After")); err != nil || n < 1 {
		c.t.Errorf("Retry-After %q", m.get("Retry-After"))
	}
}

func (c *client) ok() {
	c.t.Helper()
	if m := c.answer("GET"); m.status() != 200 {
		c.t.Errorf("answer %q %s", m.start, m.body)
	}
}

func targets(ep *endpoint) (all []string) {
	for _, line := range ep.got() {
		all = append(all, strings.TrimPrefix(line, "GET /"))
	}
	return all
}

func TestEdgeConcurrencyQueue(t *testing.T) {
	for _, c := range []struct {
		order string
		want  []string
	}{
		{config.QueueFIFO, []string{"a", "b", "c", "d"}},
		{config.QueueLIFO, []string{"a", "d", "c", "b"}},
		{config.QueueAdaptive, []string{"a", "d", "b", "c"}}, // of a queue of 4, 3 are more than half
	} {
		ep, turns := reluctant(t)
		r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
			size := 3
			if c.order == config.QueueAdaptive {
				size = 4
			}
			cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: size, Order: c.order}}
		})
		var all []*client
		for i, target := range []string{"/a", "/b", "/c", "/d"} {
			all = append(all, r.asked(t, target, ""))
			eventually(t, "the first request", func() bool { return len(ep.got()) == 1 })
			r.queued(t, i)
		}
		if c.order == config.QueueFIFO {
			one := r.asked(t, "/too-many", "")
			one.shed("on this route")
			one.send(getting("/again", "")) // on the same connection
			one.shed("on this route")
			if n := sum(r.metrics(t), "weir_overloaded_total", `limit="route"`, `reason="full"`, `route="all"`); n != 2 {
				t.Errorf("weir_overloaded_total: %v", n)
			}
			m := r.metrics(t)
			if sum(m, "weir_concurrency_inflight") != 1 || sum(m, "weir_concurrency_queued") != 3 || sum(m, "weir_concurrency_limit") != 1 {
				t.Errorf("metrics %v", m)
			}
		}
		for range all {
			turns <- struct{}{}
		}
		for _, c := range all {
			c.ok()
		}
		if got := targets(ep); !slices.Equal(got, c.want) {
			t.Errorf("%s: served %v, want %v", c.order, got, c.want)
		}
		if s := r.total(t); s.InUse != 0 || s.Queued != 0 {
			t.Errorf("at the end %+v", s)
		}
		if n := sum(r.metrics(t), "weir_queue_duration_seconds"); n != 3 {
			t.Errorf("%v waits are in the histogram", n)
		}
	}
}

func TestEdgePriority(t *testing.T) {
	ep, turns := reluctant(t)
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 4, Order: config.QueueFIFO}}
		cfg.Routes[0].Priority = config.Priority{Class: config.PriorityNormal, Header: "X-Priority"}
	})
	first := r.asked(t, "/first", "")
	eventually(t, "the first request", func() bool { return len(ep.got()) == 1 })
	var all []*client
	for i, class := range []string{"low", "LOW", "", "nonsense"} {
		all = append(all, r.asked(t, "/"+strconv.Itoa(i), "x-priority: "+class+"\r\n"))
		r.queued(t, i+1)
	}
	high := r.asked(t, "/high", "X-Priority: high\r\n")
	all[1].shed("made room")
	higher := r.asked(t, "/higher", "X-Priority: high\r\n")
	all[0].shed("made room")
	r.asked(t, "/normal", "").shed("on this route")
	for range 5 {
		turns <- struct{}{}
	}
	for _, c := range []*client{first, high, higher, all[2], all[3]} {
		c.ok()
	}
	if got, want := targets(ep), []string{"first", "high", "higher", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
	if n := sum(r.metrics(t), "weir_overloaded_total", `reason="shed"`); n != 2 {
		t.Errorf("%v were shed", n)
	}
}

// TestEdgeQueueEnds: what ends a wait leaves the queue, and takes no place along.
func TestEdgeQueueEnds(t *testing.T) {
	ep, turns := reluctant(t)
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 4, Order: config.QueueFIFO, Timeout: 700 * time.Millisecond}}
		cfg.Routes[0].Timeouts.Header = "X-Request-Timeout"
	})
	first := r.asked(t, "/first", "")
	eventually(t, "the first request", func() bool { return len(ep.got()) == 1 })

	gone := r.asked(t, "/gone", "")
	r.queued(t, 1)
	gone.Close()
	r.queued(t, 0)
	eventually(t, "the client is accounted for", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })

	began := time.Now()
	r.asked(t, "/late", "X-Request-Timeout: 0.2\r\n").late()
	if d := time.Since(began); d < 150*time.Millisecond || d > 650*time.Millisecond {
		t.Errorf("a deadline in 200 ms ended the wait after %v", d)
	}
	began = time.Now()
	r.asked(t, "/slow", "").shed("waited for its turn")
	if d := time.Since(began); d < 650*time.Millisecond || d > 2*time.Second {
		t.Errorf("a timeout of 700 ms ended the wait after %v", d)
	}
	next := r.asked(t, "/next", "")
	r.queued(t, 1)
	turns <- struct{}{}
	turns <- struct{}{}
	first.ok()
	next.ok()
	if got, want := targets(ep), []string{"first", "next"}; !slices.Equal(got, want) {
		t.Errorf("served %v, want %v", got, want)
	}
	if s := r.total(t); s.InUse != 0 || s.Queued != 0 {
		t.Errorf("at the end %+v", s)
	}
}

func (c *client) late() {
	c.t.Helper()
	m := c.answer("GET")
	c.refused(m, 504)
}

// TestEdgeQueueTotal: the route's own timeout ends a wait, too, with a body that was not read yet.
func TestEdgeQueueTotal(t *testing.T) {
	ep, _ := reluctant(t)
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 4}}
		cfg.Routes[0].Timeouts.Total = 300 * time.Millisecond
	})
	first := r.asked(t, "/first", "")
	c := r.dial(t)
	r.queued(t, 0)
	c.send("POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nbegin")
	m := c.answer("POST")
	c.refused(m, 504)
	c.closed()
	first.late()
}

// TestEdgeQueueDeadline: who could not be served in time is not kept waiting.
func TestEdgeQueueDeadline(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			time.Sleep(400 * time.Millisecond)
			s.send(okResponse)
		}
	})
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Max: 1, Queue: config.Queue{Size: 4}}
		cfg.Routes[0].Timeouts.Header = "X-Request-Timeout"
	})
	r.asked(t, "/known", "").ok()
	first := r.asked(t, "/first", "")
	eventually(t, "the first request", func() bool { return r.total(t).InUse == 1 })
	second := r.asked(t, "/second", "X-Request-Timeout: 10\r\n")
	r.queued(t, 1)
	began := time.Now()
	r.asked(t, "/third", "X-Request-Timeout: 0.6\r\n").shed("after its deadline") // 0.8 s is its turn
	if d := time.Since(began); d >= 600*time.Millisecond {                        // its deadline
		t.Errorf("refused after %v", d)
	}
	first.ok()
	second.ok()
	if n := sum(r.metrics(t), "weir_overloaded_total", `reason="deadline"`); n != 1 {
		t.Errorf("%v refused for their deadline", n)
	}
}

func TestEdgeConcurrencyByKey(t *testing.T) {
	ep, turns := reluctant(t)
	for _, source := range []config.Source{{Kind: config.AffinityClientIP}, {Kind: config.AffinityHeader, Name: "X-Key"}} {
		r := bounded(t, setup{endpoints: []string{ep.addr}, top: "trusted_proxies: [127.0.0.0/8]\n"}, func(cfg *config.Config) {
			cfg.Routes[0].Concurrency = &config.Concurrency{Key: source, Max: 2, Total: 5}
		})
		key := func(address, key string) string {
			if source.Kind == config.AffinityHeader && key != "" {
				return "X-Key: " + key + "\r\n"
			}
			return "X-Forwarded-For: " + address + "\r\n"
		}
		began := len(ep.got())
		all := []*client{
			r.asked(t, "/1", key("192.0.2.1", "a")), r.asked(t, "/2", key("192.0.2.1", "a")),
			r.asked(t, "/3", key("2001:db8::1", "")), r.asked(t, "/4", key("2001:db8::2:1", "")),
		}
		eventually(t, "the requests", func() bool { return len(ep.got()) == began+4 })
		r.asked(t, "/5", key("192.0.2.1", "a")).shed("of this client")
		r.asked(t, "/6", key("2001:db8::3:1", "")).shed("of this client")
		all = append(all, r.asked(t, "/7", key("192.0.2.2", "b")))
		eventually(t, "the requests", func() bool { return len(ep.got()) == began+5 })
		r.asked(t, "/8", key("192.0.2.2", "b")).shed("on this route")
		s, _ := r.Route("all")
		if k := s.Concurrency.Key; k == nil || k.Keys != 3 || k.InUse != 5 || k.Limit != 2 || k.Refused != 2 {
			t.Errorf("keys: %+v", k)
		}
		for range all {
			turns <- struct{}{}
		}
		for _, c := range all {
			c.ok()
		}
		if s, _ := r.Route("all"); s.Concurrency.Key.Keys != 0 || s.Concurrency.Total.InUse != 0 {
			t.Errorf("at the end %+v %+v", s.Concurrency.Key, s.Concurrency.Total)
		}
	}
}

// TestEdgeConcurrencyReload: a reload changes limits under those that wait, and takes them away.
func TestEdgeConcurrencyReload(t *testing.T) {
	ep, turns := reluctant(t)
	bound := func(limit int) func(*config.Config) {
		return func(cfg *config.Config) {
			cfg.Routes[0].Concurrency = &config.Concurrency{Max: limit, Queue: config.Queue{Size: 9}}
			cfg.Pools[0].Concurrency = &config.Concurrency{Max: limit, Queue: config.Queue{Size: 9}}
		}
	}
	r := bounded(t, setup{endpoints: []string{ep.addr}}, bound(1))
	var all []*client
	for range 5 {
		all = append(all, r.asked(t, "/", ""))
	}
	r.queued(t, 4)
	r.change(t, bound(3))
	r.queued(t, 2)
	eventually(t, "three requests", func() bool { return len(ep.got()) == 3 })
	r.change(t, bound(2)) // of those under way none is ended
	if s := r.total(t); s.InUse != 3 || s.Queued != 2 {
		t.Errorf("%+v", s)
	}
	r.change(t, func(*config.Config) {})
	eventually(t, "five requests", func() bool { return len(ep.got()) == 5 })
	for range all {
		turns <- struct{}{}
	}
	for _, c := range all {
		c.ok()
	}
	r.change(t, bound(1))
	turns <- struct{}{}
	r.asked(t, "/", "").ok()
	if s := r.total(t); s.InUse != 0 {
		t.Errorf("at the end %+v", s)
	}
}

// TestEdgeConcurrencyCrowd has many clients come, wait and go away: no place is lost, and no more are given than
// there are.
func TestEdgeConcurrencyCrowd(t *testing.T) {
	const limit = 3
	var mu sync.Mutex
	under, most := 0, 0
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			stays := 1 // who leaves is not under way any more, though it is here
			if m.target() == "/leaves" {
				stays = 0
			}
			mu.Lock()
			under += stays
			most = max(most, under)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			under -= stays
			mu.Unlock()
			s.send(okResponse)
		}
	})
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Max: 2 * limit, Queue: config.Queue{Size: 4, Order: config.QueueAdaptive, Timeout: 50 * time.Millisecond}}
		cfg.Routes[0].Priority = config.Priority{Class: config.PriorityNormal, Header: "X-Priority"}
		cfg.Pools[0].Concurrency = &config.Concurrency{Max: limit, Queue: config.Queue{Size: 2, Timeout: 20 * time.Millisecond}}
	})
	var all sync.WaitGroup
	var ok, refused, left int
	for g := range 24 {
		all.Go(func() {
			for n := range 40 {
				nc, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				leaves, target := (g+n)%5 == 0, "/"
				if leaves {
					target = "/leaves"
				}
				fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: h\r\nX-Priority: %s\r\nConnection: close\r\n\r\n", target, config.Priorities()[(g+n)%3])
				if leaves {
					time.Sleep(time.Duration(n%4) * time.Millisecond)
					nc.Close()
					mu.Lock()
					left++
					mu.Unlock()
					continue
				}
				b, err := io.ReadAll(nc)
				mu.Lock()
				switch {
				case strings.HasPrefix(string(b), "HTTP/1.1 200"):
					ok++
				case strings.HasPrefix(string(b), "HTTP/1.1 503"):
					refused++
				default:
					t.Errorf("answer %q, %v", b, err)
				}
				mu.Unlock()
				nc.Close()
			}
		})
	}
	all.Wait()
	t.Logf("%d served, %d refused, %d left; at most %d at the endpoint", ok, refused, left, most)
	if most > limit || ok == 0 || refused == 0 {
		t.Errorf("at most %d at the endpoint, want up to %d; %d served, %d refused", most, limit, ok, refused)
	}
	eventually(t, "all places are free", func() bool {
		p, _ := r.Pool("blue")
		s := r.total(t)
		return s.InUse == 0 && s.Queued == 0 && p.Concurrency.InUse == 0 && p.Concurrency.Queued == 0
	})
}

// TestEdgeConcurrencyPanic: a request that panics with places in its hands loses none.
func TestEdgeConcurrencyPanic(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := bounded(t, setup{endpoints: []string{ep.addr}, options: func(o *proxy.Options) { proxy.SetHook(o, func() { panic("a bug") }) }}, func(cfg *config.Config) {
		cfg.Routes[0].Concurrency = &config.Concurrency{Key: config.Source{Kind: config.AffinityClientIP}, Max: 2, Total: 2}
	})
	for range 5 { // more than there are places
		cl := r.asked(t, "/", "")
		cl.refused(cl.answer("GET"), 500)
	}
	if s, _ := r.Route("all"); s.Concurrency.Key.InUse != 0 || s.Concurrency.Total.InUse != 0 {
		t.Errorf("%+v, %+v", s.Concurrency.Key, s.Concurrency.Total)
	}
}
