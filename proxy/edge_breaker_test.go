package proxy_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

func breaking(t *testing.T, ep *endpoint, c config.CircuitBreaker, more func(*config.Config)) *running {
	t.Helper()
	return bounded(t, setup{endpoints: []string{ep.addr}, options: oneLoop}, func(cfg *config.Config) {
		cfg.Pools[0].CircuitBreaker = &c
		if more != nil {
			more(cfg)
		}
	})
}

func (r *running) breaker(t *testing.T) proxy.BreakerStatus {
	t.Helper()
	p, _ := r.Pool("blue")
	if p.CircuitBreaker == nil {
		t.Fatal("the pool says nothing of its breaker")
	}
	return *p.CircuitBreaker
}

func TestEdgeBreakerRequests(t *testing.T) {
	alongside(t)
	ep, turns := reluctant(t)
	var mu sync.Mutex
	var told []bool
	r := bounded(t, setup{endpoints: []string{ep.addr}, options: func(o *proxy.Options) {
		o.Breaker = func(pool string, open bool, _ uint64) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, open)
		}
	}}, func(cfg *config.Config) { cfg.Pools[0].CircuitBreaker = &config.CircuitBreaker{MaxRequests: 2} })
	if b := r.breaker(t); b.Open {
		t.Errorf("at first %+v", b)
	}
	all := []*client{r.asked(t, "/", ""), r.asked(t, "/", "")}
	eventually(t, "the requests", func() bool { return len(ep.got()) == 2 })
	r.asked(t, "/", "").shed("as many requests under way as it may")
	if b := r.breaker(t); !b.Open || b.Requests != 2 || b.Refused != 1 {
		t.Errorf("%+v", b)
	}
	if s := r.Status(); !s.Degraded || !slices.Contains(s.Reasons, "pool blue: the circuit breaker is open") {
		t.Errorf("status: %v", s.Reasons)
	}
	m := r.metrics(t)
	if sum(m, "weir_circuit_breaker_open", `pool="blue"`) != 1 || sum(m, "weir_circuit_breaker_refused_total", `limit="requests"`) != 1 {
		t.Errorf("metrics %v", m)
	}
	for _, c := range all {
		turns <- struct{}{}
		defer c.ok()
	}
	events := func(want ...bool) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) == len(want) && told[0] == want[0] && told[len(told)-1] == want[len(want)-1]
		}
	}
	eventually(t, "the event", events(true))
	eventually(t, "the second event", events(true, false))
	if b := r.breaker(t); b.Open || b.Requests != 0 {
		t.Errorf("at the end %+v", b)
	}
}

func TestEdgeBreakerPending(t *testing.T) {
	ep, turns := reluctant(t)
	r := breaking(t, ep, config.CircuitBreaker{MaxPending: 1}, func(cfg *config.Config) {
		cfg.Pools[0].Connections.Max, cfg.Pools[0].Connections.ConnectTimeout = 1, 5*time.Second
	})
	first := r.asked(t, "/1", "")
	eventually(t, "the request", func() bool { return len(ep.got()) == 1 })
	second := r.asked(t, "/2", "")
	eventually(t, "one that waits for a connection", func() bool { return r.breaker(t).Pending == 1 })
	began := time.Now()
	r.asked(t, "/3", "").shed("wait for a connection")
	if d := time.Since(began); d > time.Second {
		t.Errorf("refused after %v", d)
	}
	turns <- struct{}{}
	turns <- struct{}{}
	first.ok()
	second.ok()
	if b := r.breaker(t); b.Pending != 0 || b.Refused != 1 || b.Requests != 0 {
		t.Errorf("at the end %+v", b)
	}
}

func TestEdgeBreakerRetries(t *testing.T) {
	turns := make(chan struct{}, 10)
	var mu sync.Mutex
	seen := map[string]int{}
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			mu.Lock()
			seen[m.target()]++
			n := seen[m.target()]
			mu.Unlock()
			if n == 1 {
				return
			}
			<-turns
			s.send(okResponse)
		}
	})
	t.Cleanup(func() { close(turns) })
	r := breaking(t, ep, config.CircuitBreaker{MaxRetries: 1}, func(cfg *config.Config) {
		cfg.Routes[0].Retry = config.Retry{Attempts: 3, On: []string{config.RetryReset}, Idempotent: config.IdempotentAlways, BudgetPercent: 100}
	})
	first := r.asked(t, "/1", "")
	eventually(t, "the retry", func() bool { mu.Lock(); defer mu.Unlock(); return seen["/1"] == 2 })
	second := r.asked(t, "/2", "")
	second.refused(second.answer("GET"), 502)
	if b := r.breaker(t); b.Retries != 1 || b.Requests != 1 || b.Refused != 1 || !b.Open {
		t.Errorf("%+v", b)
	}
	turns <- struct{}{}
	first.ok()
	if b := r.breaker(t); b.Retries != 0 || b.Requests != 0 {
		t.Errorf("at the end %+v", b)
	}
	turns <- struct{}{}
	r.asked(t, "/3", "").ok() // there is room for a retry again
	if mu.Lock(); seen["/2"] != 1 || seen["/3"] != 2 {
		t.Errorf("attempts %v", seen)
	}
	mu.Unlock()
}

// TestEdgeAdaptive: a backend that is slower the more it has to do. The limit comes to lie near the number from which on
// it is. A machine with other things to do is slow, too, for moments: by the median they are few, and what was measured
// during one is measured again, as there are more clients than any limit that follows from it.
func TestEdgeAdaptive(t *testing.T) {
	const knee, base = 4, 25 * time.Millisecond
	var mu sync.Mutex
	under := 0
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			mu.Lock()
			under++
			d := base * time.Duration(max(under, knee)) / knee
			mu.Unlock()
			time.Sleep(d)
			mu.Lock()
			under--
			mu.Unlock()
			s.send(okResponse)
		}
	})
	r := bounded(t, setup{endpoints: []string{ep.addr}}, func(cfg *config.Config) {
		cfg.Pools[0].Concurrency = &config.Concurrency{
			Adaptive: &config.Adaptive{Min: 2, Max: 200, Percentile: 50, Tolerance: 100, Interval: 100 * time.Millisecond, Remeasure: 3 * time.Second},
			Queue:    config.Queue{Size: 1000},
		}
	})
	p, _ := r.Pool("blue")
	if p.Concurrency.Limit != 20 || p.Concurrency.Adaptive == nil || p.Concurrency.Adaptive.LeastLatency != nil {
		t.Fatalf("begins with %+v", p.Concurrency)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	defer func() { close(stop); all.Wait() }()
	for range 120 {
		c := r.dial(t)
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.send(getting("/", ""))
				if m, _, err := c.readResponse("GET"); err != nil || m.status() != 200 {
					t.Errorf("answer %+v, %v", m, err)
					return
				}
			}
		})
	}
	near := func() bool {
		p, _ = r.Pool("blue")
		a := p.Concurrency.Adaptive
		return p.Concurrency.Limit >= knee && p.Concurrency.Limit <= 4*knee && a.LeastLatency != nil && *a.LeastLatency < 2*base.Seconds()*1000 && !a.Measuring
	}
	for until := time.Now().Add(2 * time.Minute); !near(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("limit %d, least %.1f ms, %+v; the knee is at %d, %v", p.Concurrency.Limit, *p.Concurrency.Adaptive.LeastLatency, p.Concurrency.Adaptive, knee, base)
		}
	}
	t.Logf("limit %d, least %.1f ms", p.Concurrency.Limit, *p.Concurrency.Adaptive.LeastLatency)
}

// TestEdgeBoundsOfTheFile: what the file says is what holds.
func TestEdgeBoundsOfTheFile(t *testing.T) {
	ep, turns := reluctant(t)
	r := start(t, setup{
		endpoints: []string{ep.addr},
		pool:      "concurrency: {adaptive: {min: 3, max: 3}, queue: {size: 1}}\ncircuit_breaker: {max_requests: 10}\n",
		route:     "concurrency: {key: \"header:X-Key\", max: 2, total: 5, queue: {size: 2, order: lifo, timeout: 8s}}\npriority: {class: low, header: X-Priority}\n",
	})
	key := func(key, more string) string { return "X-Key: " + key + "\r\n" + more }
	all := []*client{r.asked(t, "/1", key("a", "")), r.asked(t, "/2", key("a", "")), r.asked(t, "/3", key("b", ""))}
	eventually(t, "the requests", func() bool { return len(ep.got()) == 3 })
	state := func() (key, pool int) {
		s, _ := r.Route("all")
		p, _ := r.Pool("blue")
		return s.Concurrency.Key.Queued, p.Concurrency.Queued
	}
	waiting := func(key, pool int) {
		t.Helper()
		eventually(t, "who waits", func() bool { k, p := state(); return k == key && p == pool })
	}
	low := r.asked(t, "/4", key("a", "X-Priority: normal\r\n"))
	waiting(1, 0)
	lowest := r.asked(t, "/5", key("a", ""))
	waiting(2, 0)
	high := r.asked(t, "/6", key("a", "X-Priority: high\r\n"))
	lowest.shed("made room")
	last := r.asked(t, "/7", key("b", ""))
	waiting(2, 1) // at the pool, where 3 are under way
	r.asked(t, "/8", key("c", "")).shed("at this variant")
	for range 6 {
		turns <- struct{}{}
	}
	for _, c := range append(all, low, high, last) {
		c.ok()
	}
	if p, _ := r.Pool("blue"); p.Concurrency.Limit != 3 || p.Concurrency.Adaptive == nil || p.CircuitBreaker == nil || p.CircuitBreaker.Requests != 0 {
		t.Errorf("%+v, %+v", p.Concurrency, p.CircuitBreaker)
	}
	cl := r.asked(t, "/", "X-Request-Timeout: 0\r\n") // the default
	cl.late()
}
