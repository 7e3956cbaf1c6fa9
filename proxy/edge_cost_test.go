package proxy_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/config"
)

// perMinute is a limit of so many tokens a minute and at once.
func perMinute(rate float64, burst int) *config.RateLimit {
	return &config.RateLimit{Source: config.AffinityClientIP, Rate: config.Rate(rate / 60), Burst: burst, Cost: config.CostRequests, MaxKeys: 1 << 18}
}

// withBody is a request with this body.
func withBody(lines, body string) string {
	return fmt.Sprintf("POST /predict HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%s", lines, len(body), body)
}

// statuses sends requests one after the other, each on a connection of its own, and says what they were answered.
func statuses(t *testing.T, r *running, requests ...string) (got []int) {
	t.Helper()
	for _, request := range requests {
		cl := r.dial(t)
		go cl.send(request)
		got = append(got, cl.answer("POST").status())
		cl.Close()
	}
	return got
}

func same(t *testing.T, what string, got, want []int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestEdgeRateLimitOfBytes(t *testing.T) {
	r, _ := gated(t, func(c *config.Route) {
		c.RateLimit = perMinute(60, 10_000)
		c.RateLimit.Cost = config.CostBytes
	})
	by := func(ip string) string { return "X-Forwarded-For: " + ip + "\r\n" }
	body := strings.Repeat("x", 4000)
	same(t, "4000 bytes of 10,000", statuses(t, r, withBody(by("10.0.0.1"), body), withBody(by("10.0.0.1"), body), withBody(by("10.0.0.1"), body),
		withBody(by("10.0.0.1"), body[:1900])), []int{200, 200, 429, 200})
	same(t, "requests without a body", statuses(t, r, withBody(by("10.0.0.1"), "")), []int{200})
	// What a body is worth whose length is not announced is known at its end, and owed then.
	chunks := func(ip string, n int) string {
		return "POST /predict HTTP/1.1\r\nHost: h\r\n" + by(ip) + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(strings.Repeat("x", n), 999) + "0\r\n\r\n"
	}
	same(t, "chunks", statuses(t, r, chunks("10.0.0.2", 9000), withBody(by("10.0.0.2"), body), withBody(by("10.0.0.2"), body[:900])), []int{200, 429, 200})
	same(t, "chunks beyond the bucket", statuses(t, r, chunks("10.0.0.3", 70_000), withBody(by("10.0.0.3"), "x")), []int{200, 429})
	cl := r.dial(t)
	cl.send(withBody(by("10.0.0.3"), "x"))
	m := cl.answer("POST")
	if s, _ := strconv.Atoi(m.get("Retry-After")); s < 59_990 || s > 60_001 { // a byte a second, 60,000 owed
		t.Errorf("Retry-After %q, want the time that the debt lasts", m.get("Retry-After"))
	}
	if p, want := m.get("RateLimit-Policy"), `"default";q=10000;qu="content-bytes";w=10000`; p != want {
		t.Errorf("RateLimit-Policy %q, want %q", p, want)
	}
	// One that costs more than the bucket holds is let in when that is full.
	same(t, "a large body", statuses(t, r, withBody(by("10.0.0.4"), strings.Repeat("x", 50_000)), withBody(by("10.0.0.4"), "x"),
		withBody(by("10.0.0.5"), "x"), withBody(by("10.0.0.5"), strings.Repeat("x", 50_000)), withBody(by("10.0.0.5"), "x")), []int{200, 429, 200, 429, 200})
}

func TestEdgeRateLimitOfRows(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		c.RateLimit = perMinute(1, 10)
		c.RateLimit.Cost = config.CostRows
	})
	client := 0
	v2 := `{"inputs":[{"name":"x","shape":[%d,2],"datatype":"FP32","data":[1,2,3,4,5,6,7,8,9,10,11,12]}]}`
	rows := func(lines, body string) string { // of a new client
		client++
		return withBody(fmt.Sprintf("X-Forwarded-For: 10.1.0.%d\r\n%s", client, lines), body)
	}
	again := func(body string) string { return withBody(fmt.Sprintf("X-Forwarded-For: 10.1.0.%d\r\n", client), body) }
	one := `{"features":[1,2]}`
	for _, c := range []struct {
		name, lines, body string
		left              int // of 10
	}{
		{"V2", "", fmt.Sprintf(v2, 6), 4},
		{"V2 without a body to speak of", "", fmt.Sprintf(v2, 0), 9},
		{"one of the guide's", "", one, 9},
		{"a batch of the guide's", "", `{"features":[[1,2],[3,4],[5,6]]}`, 7},
		{"instances", "", `{"instances":[1,2,3,4,5]}`, 5},
		{"binary", fmt.Sprintf("Inference-Header-Content-Length: %d\r\n", len(fmt.Sprintf(v2, 8))), fmt.Sprintf(v2, 8) + strings.Repeat("\x00", 64), 2},
		{"not known, small", "", `{"text":"hello"}`, 9},
		{"not known", "", strings.Repeat("x", 2500), 7},
		{"compressed", "Content-Encoding: gzip\r\n", strings.Repeat("x", 3*1024), 7},
		{"a batch beyond the bucket", "", fmt.Sprintf(v2, 50), 0},
		{"a large one", "", strings.Repeat("x", 2<<20), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, "the first", statuses(t, r, rows(c.lines, c.body)), []int{200})
			if m := ep.last(t); string(m.body) != c.body {
				t.Errorf("%d bytes came through of %d", len(m.body), len(c.body))
			}
			want, requests := []int{}, []string{}
			for n := range c.left + 1 {
				status := 200
				if n == c.left {
					status = 429
				}
				want, requests = append(want, status), append(requests, again(one))
			}
			same(t, "then rows", statuses(t, r, requests...), want)
		})
	}
	// A shape that lies costs no more rows than the body has bytes: 98 owed, a minute each.
	lie := fmt.Sprintf(v2, 1_000_000_000)
	same(t, "a lie", statuses(t, r, rows("", lie)), []int{200})
	cl := r.dial(t)
	cl.send(again(one))
	if s, _ := strconv.Atoi(cl.answer("POST").get("Retry-After")); s > (len(lie)-9)*60 || s < (len(lie)-10)*60 {
		t.Errorf("Retry-After %d s after %d bytes", s, len(lie))
	}
	// Chunks that are longer than what is looked into: what was read at first, and the rest as a debt.
	client++
	same(t, "long chunks", statuses(t, r, fmt.Sprintf("POST /predict HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.1.0.%d\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n",
		client, inChunks(strings.Repeat("x", 3<<20), 60_000))), []int{200})
	cl.send(again(one))
	if s, _ := strconv.Atoi(cl.answer("POST").get("Retry-After")); (s-(3<<10-9)*60)/60 != 0 {
		t.Errorf("Retry-After %d s after 3072 KiB, want %d", s, (3<<10-9)*60)
	}
}

// TestEdgeRateLimitWithPatience: requests beyond the rate wait for their turns, in the order in which they came.
func TestEdgeRateLimitWithPatience(t *testing.T) {
	var mu sync.Mutex
	var order []string
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			mu.Lock()
			order = append(order, m.target())
			mu.Unlock()
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, change: func(c *config.Config) {
		c.Routes[0].RateLimit = perMinute(20*60, 2)
		c.Routes[0].RateLimit.MaxDelay = 500 * time.Millisecond
	}})
	began := time.Now()
	got := make([]int, 20)
	var wg sync.WaitGroup
	waiting := func() float64 { return sum(r.metrics(t), "weir_rate_limit_delayed_total") }
	for n := range got {
		cl, before := r.dial(t), waiting()
		answered := make(chan struct{})
		cl.send(fmt.Sprintf("GET /%02d HTTP/1.1\r\nHost: h\r\n\r\n", n))
		wg.Go(func() {
			defer close(answered)
			m, _, err := cl.readResponse("GET")
			if err != nil {
				t.Error(err)
				return
			}
			got[n] = m.status()
		})
		eventually(t, "that it waits, or has its answer", func() bool { // so that they come in this order
			select {
			case <-answered:
				return true
			default:
				return waiting() > before
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	admitted := 0
	for n, status := range got {
		if status == 200 {
			admitted++
		} else if n < 10 {
			t.Errorf("request %d was answered %d, want those refused that came last", n, status)
		}
	}
	// 2 at once and those of half a second; the time in which they come makes for more.
	if most := 3 + int(20*took.Seconds()); admitted < 12 || admitted > most {
		t.Errorf("%d of 20 were admitted in %v, want the burst and half a second's: 12", admitted, took)
	}
	if took < 480*time.Millisecond {
		t.Errorf("the last had its turn after %v, want half a second", took)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.IsSorted(order) {
		t.Errorf("turns in the order %v", order)
	}
	values := r.metrics(t)
	delayed, refused := sum(values, "weir_rate_limit_delayed_total", `route="all"`), sum(values, "weir_rate_limited_total", `route="all"`)
	if int(delayed) != admitted-2 || int(refused) != 20-admitted {
		t.Errorf("%v delayed, %v refused of which %d were admitted", delayed, refused, admitted)
	}
}

// TestEdgeRateLimitWaitEnds: the client leaves, or there is no time.
func TestEdgeRateLimitWaitEnds(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "timeouts: {total: 1s, attempt: 1s, idle: 1s}", change: func(c *config.Config) {
		c.Routes[0].RateLimit = perMinute(60, 1)
		c.Routes[0].RateLimit.MaxDelay = time.Minute
		c.Routes[0].Timeouts.Header = "X-Request-Timeout"
	}})
	get := "GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"
	cl, other, third := r.dial(t), r.dial(t), r.dial(t)
	cl.send(fmt.Sprintf(get, "first"))
	if m := cl.answer("GET"); m.status() != 200 {
		t.Fatalf("the first: %q", m.start)
	}
	cl.send("GET /hasty HTTP/1.1\r\nHost: h\r\nX-Request-Timeout: 500ms\r\n\r\n") // the client has no time for its turn
	cl.refused(cl.answer("GET"), 429)
	other.send(fmt.Sprintf(get, "gone")) // for a second, nearly
	eventually(t, "a request that waits", func() bool { return sum(r.metrics(t), "weir_rate_limit_delayed_total") == 1 })
	third.send(fmt.Sprintf(get, "late")) // its turn comes after the total timeout: it is told so at once
	began := time.Now()
	m := third.answer("GET")
	third.refused(m, 429)
	if took := time.Since(began); took >= 900*time.Millisecond || m.get("Retry-After") == "" {
		t.Errorf("refused after %v, Retry-After %q", took, m.get("Retry-After"))
	}
	other.Close()
	eventually(t, "the end of the request whose client left", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
	if took := time.Since(began); took >= 900*time.Millisecond { // its turn
		t.Errorf("noticed after %v", took)
	}
	if got := ep.got(); len(got) != 1 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeRateLimitWaitsWithBody: a request that waits keeps its body, and the next one on its connection.
func TestEdgeRateLimitWaitsWithBody(t *testing.T) {
	alongside(t)
	for _, cost := range []string{config.CostRequests, config.CostBytes, config.CostRows} {
		ep := newEndpoint(t, serveOK)
		r := start(t, setup{endpoints: []string{ep.addr}, change: func(c *config.Config) {
			c.Routes[0].RateLimit = perMinute(600, 1)
			c.Routes[0].RateLimit.MaxDelay, c.Routes[0].RateLimit.Cost = time.Minute, cost
		}})
		cl := r.dial(t)
		body := `{"features":[1,2]}`
		head := "POST /predict HTTP/1.1\r\nHost: h\r\n"
		cl.send(withBody("", body) + withBody("", body) + head + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body, 4) + "0\r\n\r\n" +
			fmt.Sprintf("%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body))
		for n := range 4 {
			if m := cl.answer("POST"); m.status() != 200 || string(ep.last(t).body) != body {
				t.Errorf("%s: answer %d: %q; the endpoint got %q", cost, n, m.start, ep.last(t).body)
			}
		}
		if n := sum(r.metrics(t), "weir_rate_limit_delayed_total"); n < 2 {
			t.Errorf("%s: %v waited", cost, n)
		}
	}
}

// TestEdgeRateLimitWaitIsBrokenOff: weir does not stay for those that wait for a turn.
func TestEdgeRateLimitWaitIsBrokenOff(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: func(c *config.Config) {
		c.Routes[0].RateLimit = perMinute(1, 1)
		c.Routes[0].RateLimit.MaxDelay = time.Hour
	}})
	for range 4 {
		r.dial(t).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	eventually(t, "requests that wait", func() bool { return sum(r.metrics(t), "weir_rate_limit_delayed_total") == 3 })
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("stopped after %v", took)
	}
	if got := ep.got(); len(got) != 1 {
		t.Errorf("the endpoint got %q", got)
	}
}
