package proxy_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

// byJSON has the bodies of a route looked into.
func byJSON(c *config.Config) {
	c.Routes[0].Affinity = &config.Affinity{Source: config.AffinityJSON, Name: "parameters.user_id", Fallback: "random", Salt: "all"}
}

// inChunks is s in chunks of n bytes, without the end.
func inChunks(s string, n int) string {
	var b strings.Builder
	for len(s) > 0 {
		k := min(n, len(s))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", k, s[:k])
		s = s[k:]
	}
	return b.String()
}

const inspected = 1 << 20

// TestEdgeInspectedChunks: a chunked body that fits goes on with its length, a longer one as chunks, and one with
// trailers keeps them; the connection stays in step, also where the next request came with it.
func TestEdgeInspectedChunks(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: byJSON})
	for _, c := range []struct {
		name          string
		size, piece   int
		fields, end   string
		length        string
		trailer, more bool
	}{
		{name: "empty", piece: 1, length: "0"},
		{name: "small", size: 300, piece: 7, length: "300"},
		{name: "of some buffers", size: 200_000, piece: 65_536, length: "200000"},
		{name: "as large as may be", size: inspected, piece: 50_000, length: "1048576"},
		{name: "one byte more", size: inspected + 1, piece: 50_000},
		{name: "twice as large", size: 2 * inspected, piece: 100_000},
		{name: "trailers", size: 5000, piece: 1000, fields: "Trailer: X-Sum\r\n", end: "X-Sum: 7\r\n", trailer: true},
		{name: "trailers, empty", piece: 1, fields: "Trailer: X-Sum\r\n", end: "X-Sum: 7\r\n", trailer: true},
		{name: "trailers that do not come", size: 5000, piece: 1000, fields: "Trailer: X-Sum\r\n"},
		{name: "trailers, large", size: 2 * inspected, piece: 100_000, fields: "Trailer: X-Sum\r\n", end: "X-Sum: 7\r\n", trailer: true},
		{name: "expected", size: 300, piece: 300, fields: "Expect: 100-continue\r\n", length: "300"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := r.dial(t)
			body := strings.Repeat("0123456789abcdef", c.size/16+1)[:c.size]
			go cl.send("POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + c.fields + "\r\n" + inChunks(body, c.piece) + "0\r\n" + c.end + "\r\n" +
				"POST /next HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
			for range 2 {
				if m := cl.answer("POST"); m.status() != 200 {
					t.Fatalf("answer %q", m.start)
				}
			}
			ep.mu.Lock()
			got := ep.requests[len(ep.requests)-2:]
			ep.mu.Unlock()
			m := got[0]
			if string(m.body) != body || m.get("Content-Length") != c.length {
				t.Errorf("%d bytes with Content-Length %q, want %d and %q", len(m.body), m.get("Content-Length"), len(body), c.length)
			}
			if chunked := m.get("Transfer-Encoding") == "chunked"; chunked != (c.length == "") {
				t.Errorf("Transfer-Encoding %q", m.get("Transfer-Encoding"))
			}
			if sums := valuesOf(m.trailers, "X-Sum"); c.trailer != (len(sums) == 1) {
				t.Errorf("trailers %q", m.trailers)
			}
			if m := got[1]; m.target() != "/next" || string(m.body) != "abc" {
				t.Errorf("the next request: %q with %q", m.start, m.body)
			}
		})
	}
}

// TestEdgeInspectedSized: a sized body up to the bound is read before the endpoint hears of the request, a longer
// one is not.
func TestEdgeInspectedSized(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: byJSON})
	for _, size := range []int{100, 16 << 10, 16<<10 + 1, 100_000, inspected, inspected + 1, 3 * inspected} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			_, _, before := ep.counts()
			cl := r.dial(t)
			body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			cl.send(fmt.Sprintf("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", size, body[:size/2]))
			begun := func() bool { _, _, n := ep.counts(); return n > before }
			if size > inspected {
				eventually(t, "the head at the endpoint", begun)
			} else if time.Sleep(50 * time.Millisecond); begun() {
				t.Error("the endpoint waits for a slow client")
			}
			cl.send(body[size/2:])
			if m := cl.answer("POST"); m.status() != 200 {
				t.Fatalf("answer %q", m.start)
			}
			if m := ep.last(t); string(m.body) != body {
				t.Errorf("%d bytes came, want %d", len(m.body), size)
			}
		})
	}
}

// TestEdgeInspectedIsRefused: what is wrong with a body ends the request as it does elsewhere.
func TestEdgeInspectedIsRefused(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: byJSON, listener: "timeouts: {body: 300ms}", route: "limits: {body: 100KiB}"})
	const head = "POST /first HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"chunks beyond the limit", head + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(strings.Repeat("x", 100<<10+1), 9999) + "0\r\n\r\n", 413},
		{"a chunk beyond the limit, announced", head + "Transfer-Encoding: chunked\r\n\r\n10000000\r\n" + strings.Repeat("x", 100<<10+1), 413},
		{"broken framing", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n", 400},
		{"stalled chunks", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 408},
		{"stalled", head + "Content-Length: 50000\r\n\r\nhello", 408},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := r.dial(t)
			cl.send(c.request)
			cl.refused(cl.answer("POST"), c.status)
			cl.closed()
		})
	}
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
	cl := r.dial(t)
	cl.send(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	cl.Close()
	eventually(t, "the end of a request whose client left", func() bool {
		return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1
	})
}

// TestEdgeInspectedIsSentAgain: a body that was read whole can be replayed, however it came.
func TestEdgeInspectedIsSentAgain(t *testing.T) {
	down := newEndpoint(t, func(s *served) { s.request() })
	up := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{down.addr, up.addr}, change: byJSON, route: "retry: {attempts: 2, on: [reset]}"})
	body := strings.Repeat("0123456789abcdef", 25_000)
	for range 4 {
		for _, request := range []string{
			fmt.Sprintf("POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
			chunkedPost("/predict", inChunks(body, 30_000)+"0\r\n\r\n"),
			"POST /predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + inChunks(body, 30_000) + "0\r\nX-Sum: 7\r\n\r\n",
		} {
			cl := r.dial(t)
			go cl.send(request)
			if m := cl.answer("POST"); m.status() != 200 || string(up.last(t).body) != body {
				t.Fatalf("answer %q, %d bytes at the endpoint", m.start, len(up.last(t).body))
			}
		}
	}
	if n := sum(r.metrics(t), "weir_retries_total", `reason="reset"`); n == 0 {
		t.Error("nothing was sent again")
	}
}

// TestEdgeAffinityByJSON: a user of the body stays on one of two variants, in whatever form the body comes.
func TestEdgeAffinityByJSON(t *testing.T) {
	blue, green := newEndpoint(t, serveOK), newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{blue.addr}, change: func(c *config.Config) {
		byJSON(c)
		other := c.Pools[0]
		other.Name, other.Endpoints = "green", []config.Endpoint{{Address: green.addr, Weight: 1}}
		c.Pools = append(c.Pools, other)
		c.Routes[0].Split = append(c.Routes[0].Split, config.Variant{Pool: "green", Weight: 1})
	}})
	cl := r.dial(t)
	variant := func(request string) string {
		t.Helper()
		cl.send(request)
		m := cl.answer("POST")
		if m.status() != 200 {
			t.Fatalf("answer %q", m.start)
		}
		return m.get("X-Weir-Variant")
	}
	sized := func(fields, body string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(body), body)
	}
	seen := map[string]int{}
	for user := range 20 {
		doc := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,2],"data":[0.1,0.2]}],"parameters":{"user_id":"user\u002d%d"}}`, user)
		same := fmt.Sprintf(`{"parameters":{"user_id":"user-%d"}}`, user)
		padded := fmt.Sprintf(`{"x":"%s","parameters":{"user_id":"user-%d"}}`, strings.Repeat("p", 500_000), user)
		binary := fmt.Sprintf("Inference-Header-Content-Length: %d\r\n", len(same))
		want := variant(sized("", doc))
		seen[want]++
		for name, request := range map[string]string{
			"sized": sized("", same), "chunked": chunkedPost("/", inChunks(same, 3)+"0\r\n\r\n"), "large": sized("", padded),
			"binary": sized(binary, same+`{"parameters":{"user_id":"another"}}`+"\x00\xff"),
			"trailers": "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
				inChunks(same, 30_000) + "0\r\nX-Sum: 7\r\n\r\n",
		} {
			if got := variant(request); got != want {
				t.Errorf("user %d, %s: %s, want %s", user, name, got, want)
			}
		}
	}
	if seen["blue"] == 0 || seen["green"] == 0 {
		t.Errorf("users went to %v", seen)
	}
	// Without a subject it is the fallback: by chance.
	for name, request := range map[string]string{
		"no field":   sized("", `{"parameters":{}}`),
		"null":       sized("", `{"parameters":{"user_id":null}}`),
		"no JSON":    sized("", "hello"),
		"no body":    "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
		"compressed": sized("Content-Encoding: gzip\r\n", `{"parameters":{"user_id":"user-1"}}`),
		"cut short":  sized("Inference-Header-Content-Length: 9000\r\n", `{"parameters":{"user_id":"user-1"}}`),
		"too large":  sized("", fmt.Sprintf(`{"parameters":{"user_id":"user-1"},"x":"%s"}`, strings.Repeat("p", inspected))),
	} {
		seen := map[string]int{}
		for range 40 {
			seen[variant(request)]++
		}
		if seen["blue"] == 0 || seen["green"] == 0 {
			t.Errorf("%s: all went to one variant: %v", name, seen)
		}
	}
}

// TestEdgeInspectedEarlyAnswer: an endpoint that answers before it has all of a body that was too long to be looked
// into is heard, and the client gets its answer.
func TestEdgeInspectedEarlyAnswer(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		if s.head() != nil {
			s.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			time.Sleep(100 * time.Millisecond)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, change: byJSON})
	for name, head := range map[string]string{
		"chunked": "Transfer-Encoding: chunked\r\n\r\n" + inChunks(strings.Repeat("x", inspected+100), 50_000),
		"sized":   fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 3*inspected, strings.Repeat("x", inspected+100)),
	} {
		cl := r.dial(t)
		go cl.send("POST /first HTTP/1.1\r\nHost: h\r\n" + head) // and no more of it
		if m := cl.answer("POST"); m.status() != 403 || string(m.body) != "no" {
			t.Errorf("%s: %q, %q", name, m.start, m.body)
		}
		cl.closed()
	}
}

// TestEdgeInspectedHoldsWhatCame: a body that is announced takes no memory before it comes.
func TestEdgeInspectedHoldsWhatCame(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	var admitted atomic.Int32
	r := start(t, setup{endpoints: []string{ep.addr}, change: byJSON, options: func(o *proxy.Options) {
		proxy.SetHook(o, func() { admitted.Add(1) })
	}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients = 100
	for n := range clients {
		cl := r.dial(t)
		if n%2 == 0 {
			cl.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n{", inspected))
		} else {
			cl.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{")
		}
	}
	eventually(t, "requests under way", func() bool { return admitted.Load() == clients })
	time.Sleep(50 * time.Millisecond) // each reads what there is of its body
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / clients; each > 160<<10 {
		t.Errorf("%d bytes each", each)
	}
}
