package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// overLimit sends a request in the background, reads the answer meanwhile, and checks that the
// connection ends and the endpoint saw no whole request.
func overLimit(t *testing.T, r *running, ep *endpoint, request io.Reader, statuses ...int) {
	t.Helper()
	before := len(ep.got())
	c := r.dial(t)
	go io.Copy(c.Conn, request)
	c.refused(c.answer("POST"), statuses...)
	c.closed()
	c.Close()
	ep.quiet(t)
	if got := ep.got()[before:]; len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

func TestEdgeOversizeHead(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	const line = "GET / HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct {
		name     string
		request  io.Reader
		statuses []int
	}{
		{"a target of 1 MiB", strings.NewReader("GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: h\r\n\r\n"), []int{414}},
		{"an endless target", io.MultiReader(strings.NewReader("GET /"), repeated("a")), []int{414}},
		{"an endless method", repeated("A"), []int{400, 414, 431, 501}},
		{"a field of 1 MiB", strings.NewReader(line + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), []int{431}},
		{"100,000 fields", strings.NewReader(line + strings.Repeat("X: y\r\n", 100_000) + "\r\n"), []int{431}},
		{"an endless head", io.MultiReader(strings.NewReader(line), repeated("X-Y: z\r\n")), []int{431}},
		{"an endless field", io.MultiReader(strings.NewReader(line+"X: "), repeated("z")), []int{431}},
		{"an endless name", io.MultiReader(strings.NewReader(line), repeated("Z")), []int{400, 431}},
	} {
		t.Run(c.name, func(t *testing.T) { overLimit(t, r, ep, c.request, c.statuses...) })
	}
	t.Run("endless empty lines", func(t *testing.T) {
		c := r.dial(t)
		_, err := io.Copy(c.Conn, repeated("\r\n"))
		if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() {
			t.Errorf("%v; want the connection cut off", err)
		}
	})
}

// TestEdgeLimitsAreExact: what is exactly as large as a limit passes, one byte more does not.
func TestEdgeLimitsAreExact(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "limits: {header: 4KiB, uri: 1KiB, body: 100KiB}", route: "limits: {body: 64KiB}"})
	head := func(n int) string {
		const h = "GET /first HTTP/1.1\r\nHost: h\r\nX: "
		return h + strings.Repeat("x", n-len(h)-4) + "\r\n\r\n"
	}
	sized := func(n int) string {
		return fmt.Sprintf("POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("b", n))
	}
	chunks := func(n int) string {
		return chunkedPost("/first", fmt.Sprintf("%x\r\n%s\r\n1\r\nb\r\n0\r\n\r\n", n-1, strings.Repeat("b", n-1)))
	}
	uri := func(n int) string { return "GET /" + strings.Repeat("u", n-1) + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	for _, c := range []struct {
		name, fits, over string
		status           int
	}{
		{"target", uri(1 << 10), uri(1<<10 + 1), 414},
		{"head", head(4 << 10), head(4<<10 + 1), 431},
		{"sized body", sized(64 << 10), sized(64<<10 + 1), 413},
		{"chunked body", chunks(64 << 10), chunks(64<<10 + 1), 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := r.dial(t)
			cl.send(c.fits)
			if m := cl.answer("GET"); m.status() != 200 {
				t.Errorf("what just fits was answered with %q", m.start)
			}
			if c.status != 414 {
				overLimit(t, r, ep, strings.NewReader(c.over), c.status)
				return
			}
			cl.send(c.over) // its framing is whole: the connection may stay
			cl.refused(cl.answer("GET"), c.status)
			cl.send("GET /after HTTP/1.1\r\nHost: h\r\n\r\n")
			if m, _, err := cl.readResponse("GET"); err == nil && m.status() != 200 {
				t.Errorf("the next request: %q", m.start)
			}
		})
	}
}

// TestEdgeOversizeBody: the error comes although the body is never sent, and the body is not read.
func TestEdgeOversizeBody(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "limits: {body: 256KiB}"})
	const head = "POST /first HTTP/1.1\r\nHost: h\r\n"
	for name, request := range map[string]io.Reader{
		"1 TiB announced":             strings.NewReader(head + "Content-Length: 1099511627776\r\n\r\n"),
		"1 TiB announced, and begun":  io.MultiReader(strings.NewReader(head+"Content-Length: 1099511627776\r\n\r\n"), repeated("x")),
		"expecting 100-continue":      strings.NewReader(head + "Content-Length: 1099511627776\r\nExpect: 100-continue\r\n\r\n"),
		"a chunk of 1 TiB":            io.MultiReader(strings.NewReader(head+"Transfer-Encoding: chunked\r\n\r\n10000000000\r\n"), repeated("x")),
		"endless chunks":              io.MultiReader(strings.NewReader(head+"Transfer-Encoding: chunked\r\n\r\n"), repeated("5\r\nhello\r\n")),
		"endless chunk of legal size": io.MultiReader(strings.NewReader(head+"Transfer-Encoding: chunked\r\n\r\n"), repeated("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n")),
	} {
		t.Run(name, func(t *testing.T) { overLimit(t, r, ep, request, 413) })
	}
}

// notBefore checks that what has just happened was given its time. That it happens at all, and by this timeout and no
// longer one, the patience of the test's own connections says: how soon after is for the machine to say. A third is for
// the coarse clock of deadlines, which is behind on a busy machine: a deadline is then as much too early.
func notBefore(t *testing.T, began time.Time, timeout time.Duration) {
	t.Helper()
	if took := time.Since(began); took < timeout*2/3 {
		t.Errorf("took %v at a timeout of %v", took, timeout)
	}
}

// drip sends s in pieces of n bytes with a pause between them until the connection fails.
func drip(nc net.Conn, s string, n int, pause time.Duration) {
	for ; len(s) > 0; time.Sleep(pause) {
		piece := s[:min(n, len(s))]
		if _, err := io.WriteString(nc, piece); err != nil {
			return
		}
		s = s[len(piece):]
	}
}

func TestEdgeSlowHead(t *testing.T) {
	t.Parallel()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {header: 400ms, keep_alive: 5s}"})
	for name, begin := range map[string]func(*client){
		"a line now and then": func(c *client) {
			go drip(c.Conn, "GET / HTTP/1.1\r\n"+strings.Repeat("X: y\r\n", 1000), 6, 40*time.Millisecond) // for longer than patience
		},
		"a byte now and then": func(c *client) {
			go drip(c.Conn, "GET / HTTP/1.1\r\nHost: h\r\n"+strings.Repeat("X", 2000), 1, 15*time.Millisecond)
		},
		"half a line":        func(c *client) { c.send("GET / HT") },
		"no last line":       func(c *client) { c.send("GET / HTTP/1.1\r\nHost: h\r\n") },
		"the second request": func(c *client) { c.get("/one"); c.send("G") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := r.dial(t)
			began := time.Now()
			begin(c)
			if m, _, err := c.readResponse("GET"); err == nil {
				c.refused(m, 408)
			}
			c.closed()
			notBefore(t, began, 400*time.Millisecond)
		})
	}
}

func TestEdgeSlowBody(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 400ms}"})
	const head = "POST /stall HTTP/1.1\r\nHost: h\r\n"
	for name, request := range map[string]string{
		"sized":         head + "Content-Length: 100\r\n\r\nhello",
		"sized, large":  head + "Content-Length: 10000000\r\n\r\n" + strings.Repeat("x", 300_000),
		"nothing of it": head + "Content-Length: 100\r\n\r\n",
		"chunked":       head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhel",
		"no last chunk": head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t)
			began := time.Now()
			c.send(request)
			if m, _, err := c.readResponse("POST"); err == nil {
				c.refused(m, 408)
			}
			c.closed()
			notBefore(t, began, 400*time.Millisecond)
			ep.quiet(t)
		})
	}
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeSlowBodyIsNotStalled: the timeout is between two reads.
func TestEdgeSlowBodyIsNotStalled(t *testing.T) {
	t.Parallel()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 2s}"})
	c := r.dial(t)
	c.send("POST /stall HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n")
	drip(c.Conn, strings.Repeat("x", 60), 5, 200*time.Millisecond)
	if m := c.answer("POST"); m.status() != 200 {
		t.Errorf("a slow body was answered with %q", m.start)
	}
}

func TestEdgeIdleClientConnection(t *testing.T) {
	t.Parallel()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {keep_alive: 300ms}"})
	fresh, used := r.dial(t), r.dial(t)
	began := time.Now()
	used.get("/")
	used.closed()
	notBefore(t, began, 300*time.Millisecond)
	fresh.closed()
}

// TestEdgeSlowReader: a client that reads nothing is given up after the body timeout, and holds
// the endpoint back meanwhile.
func TestEdgeSlowReader(t *testing.T) {
	t.Parallel()
	took := make(chan int64, 1)
	ep := newEndpoint(t, func(s *served) {
		if s.request() == nil {
			return
		}
		s.send("HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")
		n, _ := io.Copy(s.Conn, io.LimitReader(repeated("x"), 256<<20))
		took <- n
	})
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 500ms}"})
	c := r.dial(t)
	c.Conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	began := time.Now()
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	n := <-took
	notBefore(t, began, 500*time.Millisecond)
	if n > 64<<20 {
		t.Errorf("weir took %d MiB from the endpoint for a client that reads nothing", n>>20)
	}
	if m, _, err := c.readResponse("GET"); err == nil {
		t.Errorf("the client got a whole answer of %d bytes", m.size)
	}
}

func TestEdgeEndpointTimeouts(t *testing.T) {
	alongside(t)
	for _, c := range []struct {
		name, timeouts, begin string
		status                int
		after                 time.Duration
	}{
		{"attempt", "timeouts: {attempt: 300ms}", "", 504, 300 * time.Millisecond},
		{"attempt, half a head", "timeouts: {attempt: 300ms}", "HTTP/1.1 200 OK\r\nX", 504, 300 * time.Millisecond},
		{"attempt, interim only", "timeouts: {attempt: 300ms}", "HTTP/1.1 103 Early Hints\r\n\r\n", 504, 300 * time.Millisecond},
		{"total", "timeouts: {total: 300ms, attempt: 300ms, idle: 300ms}", "", 504, 300 * time.Millisecond},
		{"idle", "timeouts: {idle: 300ms}", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 0, 300 * time.Millisecond},
		{"total in a body", "timeouts: {total: 300ms, attempt: 300ms, idle: 300ms}", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0, 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				if s.request() != nil {
					s.send(c.begin)
					io.Copy(io.Discard, s.br)
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}, route: c.timeouts})
			cl := r.dial(t)
			began := time.Now()
			cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			m, _, err := cl.readResponse("GET")
			notBefore(t, began, c.after)
			switch {
			case err == nil && m.status() == 504:
				cl.refused(m, 504)
				if !strings.Contains(string(m.body), `"timeout"`) || m.get("X-Weir-Variant") != "blue" {
					t.Errorf("variant %q, body %s", m.get("X-Weir-Variant"), m.body)
				}
			case err == nil:
				t.Errorf("a whole answer %q", m.start)
			case c.status != 0:
				t.Errorf("no answer: %v", err)
			}
			ep.noneOpen(t)
			if n := sum(r.metrics(t), "weir_attempts_total", `outcome="timeout"`); n != 1 {
				t.Errorf("%v attempts with outcome timeout, want 1", n)
			}
		})
	}
}

// TestEdgeConnectionLimit: beyond limits.connections a client waits in the backlog until another leaves.
func TestEdgeConnectionLimit(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "limits: {connections: 2}"})
	first, second, third := r.dial(t), r.dial(t), r.dial(t)
	first.get("/1")
	second.get("/2")
	third.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
	third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if m, _, err := third.readResponse("GET"); err == nil {
		t.Errorf("the third of two connections was answered with %q", m.start)
	}
	const warning = `"a listener is full: further clients wait in the backlog"`
	full := func() float64 { return sum(r.metrics(t), "weir_listener_full_total", `listener="127.0.0.1:0"`) }
	if n, logs := full(), r.logs.String(); n != 1 || strings.Count(logs, warning) != 1 || !strings.Contains(logs, `"connections":2,"configured":2,`) {
		t.Errorf("counted %v times as full, want 1; log:\n%s", n, logs)
	}
	third.SetReadDeadline(time.Now().Add(patience))
	first.Close()
	if m := third.answer("GET"); m.status() != 200 {
		t.Errorf("the waiting client was answered with %q", m.start)
	}
	eventually(t, "the count of the second time", func() bool { return full() == 2 })
	second.Close()
	r.dial(t).get("/4")
	if logs := r.logs.String(); strings.Count(logs, warning) != 1 {
		t.Errorf("more than one warning within a minute:\n%s", logs)
	}
}

// TestEdgeEndpointConnectionLimit: a request waits connect_timeout for one of connections.max, no longer.
func TestEdgeEndpointConnectionLimit(t *testing.T) {
	arrived, release := make(chan bool, 3), make(chan bool)
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			arrived <- true
			<-release
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, pool: "connections: {max: 1, idle: 1, connect_timeout: 900ms}", options: oneLoop})
	one, two := r.dial(t), r.dial(t)
	one.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	began := time.Now()
	m := two.get("/2")
	two.refused(m, 503)
	notBefore(t, began, 900*time.Millisecond)
	if !strings.Contains(string(m.body), `"overloaded"`) {
		t.Errorf("body %s", m.body)
	}
	two.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n") // waits, and gets the connection when it comes free
	release <- true
	if m := one.answer("GET"); m.status() != 200 {
		t.Errorf("the first: %q", m.start)
	}
	<-arrived
	release <- true
	if m := two.answer("GET"); m.status() != 200 {
		t.Errorf("the one that waited: %q", m.start)
	}
	if n, _, _ := ep.counts(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
