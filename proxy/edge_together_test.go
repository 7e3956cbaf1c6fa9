package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

// TestEdgeTogether has all that a route can do to a request at once, switched on and off by a reload each 50 ms, at
// endpoints that die, hang, fail and answer late, for clients of which some leave: who stays gets a whole answer, to
// what it has asked, and at the end nothing is left of any request. With WEIR_PROVE it takes a minute.
func TestEdgeTogether(t *testing.T) {
	lasts := 4 * time.Second
	if os.Getenv("WEIR_PROVE") != "" {
		lasts = time.Minute
	}
	s := &together{keys: file(t, "keys", "alice:key-alice\nbob:key-bob\n"), until: time.Now().Add(lasts)}
	for range 6 {
		s.endpoints = append(s.endpoints, newEndpoint(t, s.serve).addr)
	}
	gone := newEndpoint(t, func(v *served) { _ = v.Close() }) // closes at once
	s.endpoints = append(s.endpoints, gone.addr)
	r := start(t, setup{
		endpoints: s.endpoints[:2], top: "trusted_proxies: [127.0.0.0/8]\n", listener: "timeouts: {body: 2s}\n",
		pool: "connections: {max: 20, connect_timeout: 200ms}\n", route: "timeouts: {total: 4s, attempt: 300ms}\n", blocks: true,
	})
	proxy.GuardLoopsFor(t, r.Proxy, time.Second)
	var clients sync.WaitGroup
	for range 24 {
		clients.Go(func() {
			for time.Now().Before(s.until) {
				s.connection(t, r)
			}
		})
	}
	for time.Now().Before(s.until) {
		time.Sleep(50 * time.Millisecond)
		s.reload(t, r, func() bool { return rand.IntN(3) > 0 })
	}
	s.reload(t, r, func() bool { return true })
	clients.Wait()
	s.nothingLeft(t, r)
	t.Logf("%d answers, of them %d with 200; %d clients left; %v", s.answered.Load(), s.good.Load(), s.left.Load(), &s.statuses)
	if s.good.Load() < 100 || s.left.Load() < 20 {
		t.Error("that was no test")
	}
}

// longest is the time that the route gives a request.
const longest = 4 * time.Second

type together struct {
	endpoints            []string
	keys                 string
	until                time.Time
	answered, good, left atomic.Int32
	statuses             statusCounts
}

type statusCounts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *statusCounts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func (c *statusCounts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(maps.Clone(c.n))
}

// toldOf is what an answer says of its request; asked is the target as the client has sent it.
func toldOf(method, asked, key string, body []byte) string {
	return fmt.Sprintf("of %s %s %s %d %08x\n", method, asked, key, len(body), crc32.ChecksumIEEE(body))
}

// serve is the script of an endpoint.
func (s *together) serve(v *served) {
	for {
		_ = v.SetDeadline(time.Now().Add(patience))
		m := v.request()
		if m == nil {
			return
		}
		v.ep.mu.Lock()
		v.ep.requests = nil
		v.ep.mu.Unlock()
		switch rand.IntN(40) {
		case 0:
			return
		case 1:
			v.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nRetry-After: 0\r\n\r\nbusy")
			continue
		case 2:
			v.send("this is not HTTP\r\n\r\n")
			return
		case 3:
			time.Sleep(400 * time.Millisecond) // longer than an attempt may take
		case 4, 5, 6, 7, 8, 9, 10, 11:
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		case 12:
			v.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
		}
		method := m.method()
		if method == "HEAD" {
			method = "GET"
		}
		told := toldOf(method, strings.TrimPrefix(m.target(), "/added"), m.get("X-API-Key"), m.body)
		v.send(answerWith(m, told))
	}
}

// answerWith is an answer that begins with told and is of some length, in some framing.
func answerWith(m *message, told string) string {
	body := told + strings.Repeat("and so on, and so forth; ", []int{0, 10, 100, 1000, 20_000}[rand.IntN(5)]) + "\nend"
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"" + fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) + "\"\r\n"
	switch rand.IntN(8) {
	case 0:
		head += "Cache-Control: no-store\r\n"
	case 1:
		head += "Vary: X-Lang, Accept-Encoding\r\n"
	}
	if rand.IntN(2) == 0 {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
		if m.method() == "HEAD" {
			return head
		}
		return head + body
	}
	head += "Transfer-Encoding: chunked\r\n\r\n"
	if m.method() == "HEAD" {
		return head
	}
	half := len(body) / 2
	return head + fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", half, body[:half], len(body)-half, body[half:])
}

// connection is the life of a client.
func (s *together) connection(t *testing.T, r *running) {
	c := r.dial(t)
	defer c.Close()
	for n := rand.IntN(6); n >= 0; n-- {
		_ = c.SetDeadline(time.Now().Add(patience))
		asked := []asking{newAsking()}
		if rand.IntN(4) == 0 {
			asked = append(asked, newAsking())
		}
		leaves := rand.IntN(6) == 0
		bytes := asked[0].bytes
		if len(asked) > 1 {
			bytes += asked[1].bytes // pipelined
		}
		sent, began := make(chan struct{}), time.Now()
		go func() {
			defer close(sent)
			if leaves {
				c.send(bytes[:rand.IntN(len(bytes)+1)])
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				_ = c.Close()
				return
			}
			if rand.IntN(8) == 0 { // slowly
				half := len(bytes) / 2
				c.send(bytes[:half])
				time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
				bytes = bytes[half:]
			}
			c.send(bytes)
		}()
		if leaves {
			<-sent
			s.left.Add(1)
			return
		}
		for _, q := range asked {
			m, _, err := c.readResponse(q.method)
			if err != nil && m != nil && m.status() == 200 && (strings.Contains(q.bytes, "\r\nX-Request-Timeout: ") || time.Since(began) > longest) {
				s.statuses.add("cut, since its time was over")
				return
			}
			if err != nil {
				t.Errorf("no whole answer to %.400q after %v: %v (so far %+.200v)", q.bytes, time.Since(began), err, m)
				return
			}
			s.check(t, q, m)
			if strings.EqualFold(m.get("Connection"), "close") {
				return
			}
		}
		<-sent
	}
}

// asking is a request.
type asking struct {
	method, target, key, bytes string
	body                       []byte
}

func newAsking() asking {
	q := asking{method: []string{"GET", "GET", "HEAD", "POST", "POST", "POST"}[rand.IntN(6)], target: fmt.Sprintf("/t/%d/predict", rand.IntN(4))}
	head := q.method + " " + q.target + " HTTP/1.1\r\nHost: h\r\n"
	if q.key = []string{"", "key-alice", "key-alice", "key-alice", "key-bob"}[rand.IntN(5)]; q.key != "" {
		head += "X-API-Key: " + q.key + "\r\n"
	}
	for _, line := range []string{
		"Accept-Encoding: gzip\r\n", "X-Lang: en\r\n", "X-Request-Timeout: 1\r\n", "X-Request-Timeout: 30ms\r\n", "X-Priority: low\r\n",
		"Cache-Control: no-cache\r\n", "If-None-Match: \"x\"\r\n", "Origin: http://pages\r\n", "X-Forwarded-For: 10.66.0.1\r\n", "X-Forwarded-For: 10.1.1.1\r\n",
	} {
		if rand.IntN(8) == 0 && !strings.Contains(head, line[:strings.IndexByte(line, ':')]) {
			head += line
		}
	}
	if q.method != "POST" {
		q.bytes = head + "\r\n"
		return q
	}
	user := fmt.Sprintf(`{"user": "u%d", "features": [[1, 2], [3, 4]], "pad": "`, rand.IntN(5))
	q.body = []byte(user + strings.Repeat("pad ", []int{0, 20, 3000, 40_000, 300_000}[rand.IntN(5)*rand.IntN(2)]) + `"}`)
	head += "Content-Type: application/json\r\n"
	if rand.IntN(2) == 0 {
		q.bytes = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(q.body), q.body)
		return q
	}
	half := len(q.body) / 2
	q.bytes = fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, half, q.body[:half], len(q.body)-half, q.body[half:])
	return q
}

// check looks at an answer.
func (s *together) check(t *testing.T, q asking, m *message) {
	s.answered.Add(1)
	s.statuses.add(fmt.Sprint(m.status(), " ", m.get("X-Weir-Cache")))
	body := m.body
	if m.get("Content-Encoding") == "gzip" && q.method != "HEAD" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(z)
		}
		if err != nil {
			t.Errorf("gzip: %v", err)
			return
		}
	}
	switch status := m.status(); {
	case status == 200 && q.method == "HEAD":
		s.good.Add(1)
	case status == 200:
		s.good.Add(1)
		want := toldOf(q.method, q.target, q.key, q.body)
		if !bytes.HasPrefix(body, []byte(want)) || !bytes.HasSuffix(body, []byte("\nend")) {
			t.Errorf("%.150q (%d bytes), X-Weir-Cache %q, is no answer to %q", body, len(body), m.get("X-Weir-Cache"), want)
		}
	case q.method == "HEAD", string(body) == "busy" && status == 503:
	case status == 401, status == 403, status == 429, status >= 502:
		if !bytes.Contains(body, []byte(`"request_id":"`+m.get("X-Request-ID"))) {
			t.Errorf("%s %.200q", m.start, body)
		}
	default:
		t.Errorf("%s %.200q to %.100q", m.start, body, q.bytes)
	}
}

// reload puts a configuration in force in which on says what there is.
func (s *together) reload(t *testing.T, r *running, on func() bool) {
	cfg := parse(t, r.yaml)
	cfg.Listeners[0].Address = r.Config().Listeners[0].Address
	blue := &cfg.Pools[0]
	green, shadow := *blue, *blue
	green.Name, shadow.Name = "green", "shadow"
	blue.Endpoints, green.Endpoints, shadow.Endpoints = nil, nil, nil
	for i, a := range s.endpoints {
		e := config.Endpoint{Address: a, Weight: 1}
		switch {
		case i < 3 && (i == 0 || on()):
			blue.Endpoints = append(blue.Endpoints, e)
		case i >= 3 && i < 5 && (i == 3 || on()):
			green.Endpoints = append(green.Endpoints, e)
		case i == 5:
			shadow.Endpoints = append(shadow.Endpoints, e)
		case i == 6 && on():
			green.Endpoints = append(green.Endpoints, e)
		}
	}
	queue := config.Queue{Size: 5, Order: []string{config.QueueFIFO, config.QueueLIFO, config.QueueAdaptive}[rand.IntN(3)], Timeout: 200 * time.Millisecond}
	if on() {
		blue.Concurrency = &config.Concurrency{Max: 6, Queue: queue}
	}
	if on() {
		green.Concurrency = &config.Concurrency{Queue: queue, Adaptive: &config.Adaptive{Min: 2, Max: 10, Percentile: 90, Tolerance: 100, Interval: 100 * time.Millisecond, Remeasure: time.Minute}}
	}
	if on() {
		blue.CircuitBreaker = &config.CircuitBreaker{MaxRequests: 10, MaxPending: 2, MaxRetries: 1}
	}
	cfg.Pools = append(cfg.Pools, green, shadow)
	s.route(&cfg.Routes[0], queue, on)
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
}

func (s *together) route(c *config.Route, queue config.Queue, on func() bool) {
	c.Split = []config.Variant{{Pool: "blue", Weight: float64(rand.IntN(3))}, {Pool: "green", Weight: 1}}
	c.Timeouts.Idle = time.Minute + time.Duration(rand.IntN(1<<30)) // in any case something is new
	c.Retry.Status, c.Retry.On = []int{503}, []string{config.RetryConnect, config.RetryReset, config.RetryTimeout, config.RetryProtocol}
	for _, f := range []func(){
		func() {
			c.Hedge = &config.Hedge{Delay: time.Duration(1+rand.IntN(20)) * time.Millisecond, BudgetPercent: 100}
		},
		func() {
			c.Cache = aCache()
			c.Cache.TTL = []config.StatusTTL{{Status: 200, TTL: 100 * time.Millisecond}}
			c.Cache.StaleIfError, c.Cache.StaleWhileRevalidate = 100*time.Millisecond, 50*time.Millisecond
			c.Cache.MaxBytes, c.Cache.MaxObject, c.Cache.SharedByVariants = 1<<20, 100_000, rand.IntN(2) == 0
		},
		func() {
			c.Mirror = &config.Mirror{Pool: "shadow", Percent: 50, MaxActive: 8, MaxBody: 1 << 20, Timeout: time.Second, Compare: &config.Compare{Tolerance: 1e-6, Samples: 5}}
		},
		func() {
			c.Concurrency = &config.Concurrency{Max: 10, Total: 15, Queue: queue}
			if rand.IntN(2) == 0 {
				c.Concurrency.Key = config.Source{Kind: config.AffinityHeader, Name: "X-API-Key"}
			}
		},
		func() {
			c.RateLimit = &config.RateLimit{Source: config.AffinityHeader, Name: "x-api-key", Rate: 2000, Burst: 1000, MaxDelay: 50 * time.Millisecond, MaxKeys: 1 << 18, Cost: []string{config.CostRequests, config.CostRows, config.CostBytes}[rand.IntN(3)]}
			if c.RateLimit.Cost == config.CostBytes {
				c.RateLimit.Rate, c.RateLimit.Burst = 50e6, 5e6
			}
		},
		func() {
			c.Compress = &config.Compress{Encodings: []string{"gzip"}, Types: []string{"text/*"}, MinSize: 64}
		},
		func() {
			c.Headers.Request.Set = []config.Header{{Name: "X-Goes-To", Value: "{variant}"}}
			c.Headers.Response.Add = []config.Header{{Name: "X-Came-From", Value: "{variant}"}}
		},
		func() { c.Rewrite = &config.Rewrite{AddPrefix: "/added"} },
		func() {
			c.Affinity = &config.Affinity{Source: config.AffinityJSON, Name: "user", Fallback: config.FallbackRandom, Salt: "s"}
		},
		func() { c.Timeouts.Header = "X-Request-Timeout" },
		func() { c.Priority = config.Priority{Class: config.PriorityNormal, Header: "X-Priority"} },
		func() { c.Deny = []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")} },
		func() { c.CORS = &config.CORS{Origins: []string{"*"}, Methods: []string{"GET", "POST"}} },
		func() { c.Auth = &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: s.keys}} },
	} {
		if on() {
			f()
		}
	}
}

// nothingLeft checks that nothing holds what a request has held.
func (s *together) nothingLeft(t *testing.T, r *running) {
	eventually(t, "the end of all attempts", func() bool {
		for _, name := range []string{"blue", "green", "shadow"} {
			if p, ok := r.Pool(name); !ok || p.Inflight != 0 {
				return false
			}
		}
		return true
	})
	eventually(t, "the end of all flights", func() bool { return proxy.CacheFlights(r.Proxy) == 0 })
	eventually(t, "no request under way or waiting", func() bool {
		m := r.metrics(t)
		return sum(m, "weir_concurrency_inflight") == 0 && sum(m, "weir_concurrency_queued") == 0
	})
	eventually(t, "no connection of a client", func() bool { return sum(r.metrics(t), "weir_connections") == 0 })
	eventually(t, "no goroutine of a request", func() bool {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		for _, what := range []string{"(*hedge).run", "(*refreshing).run", "(*mirrorCopy).run", "(*Queue).work"} {
			if strings.Contains(b.String(), what) {
				return false
			}
		}
		return true
	})
	if err := proxy.Leftovers(r.Proxy); err != nil {
		t.Error(err)
	}
	if n := sum(r.metrics(t), "weir_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
}
