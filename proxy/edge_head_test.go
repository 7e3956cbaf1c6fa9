package proxy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// headCase is a request head (its lines without CRLF at the ends) and the statuses it may get. With 200
// the endpoint's parser has seen to it that nothing odd was passed on.
type headCase struct {
	head string
	want []int
}

// runHeads sends each head on a connection of its own. After an error the connection ends and the
// endpoint has seen nothing.
func runHeads(t *testing.T, cases []headCase) {
	t.Helper()
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, c := range cases {
		t.Run(fmt.Sprintf("%.60q", c.head), func(t *testing.T) {
			before := len(ep.got())
			cl := r.dial(t)
			cl.send(c.head + "\r\n\r\n")
			method, _, _ := strings.Cut(c.head, " ")
			m := cl.answer(method)
			switch {
			case !slices.Contains(c.want, m.status()):
				t.Errorf("answered with %q, want one of %v", m.start, c.want)
			case m.status() != 200:
				if method != "HEAD" {
					cl.refused(m, c.want...)
				}
				cl.closed()
				if got := ep.got()[before:]; len(got) > 0 {
					t.Errorf("the endpoint got %q", got)
				}
			}
		})
	}
}

func TestEdgeFieldSyntax(t *testing.T) {
	bad, lenient := []int{400}, []int{400, 200}
	var cases []headCase
	for _, f := range []struct {
		lines string
		want  []int
	}{
		{"X-A : b", bad},
		{"X-A\t: b", bad},
		{"X A: b", bad},
		{"X-A", bad},
		{": b", bad},
		{"X-A\x00: b", bad},
		{"X-\x01A: b", bad},
		{"X-\x7fA: b", bad},
		{"X-(A): b", bad},
		{"X-\u00e9: b", bad},
		{"X\rA: b", bad},
		{"X-A: b\x00c", lenient},
		{"X-A: b\rc", lenient},
		{"X-A: b\r\rc", lenient},
		{"X-A: b\x01c", lenient},
		{"X-A: b\x7fc", lenient},
		{"X-A: b\nX-B: c", lenient},
		{"X-A: b\n", lenient},
		{"X-A: b\r\n c", lenient},
		{"X-A: b\r\n\tc", lenient},
		{"X-A:\r\n c", lenient},
		{"X-A: \u00e9 \xff", []int{200, 400}},
		{"X-A:", []int{200}},
		{"X-A:b", []int{200}},
		{"X-A: \t b \t ", []int{200}},
		{"x!#$%&'*+-.^_`|~9: b", []int{200}},
	} {
		cases = append(cases, headCase{"GET / HTTP/1.1\r\nHost: h\r\n" + f.lines, f.want})
	}
	cases = append(cases,
		headCase{"GET / HTTP/1.1\r\n Host: h", bad},
		headCase{"GET / HTTP/1.1\r\n X: y\r\nHost: h", bad},
		headCase{"GET / HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\nContent-Type: b", []int{200, 400}},
	)
	runHeads(t, cases)
}

func TestEdgeRequestLine(t *testing.T) {
	const host = "\r\nHost: h"
	bad, version := []int{400}, []int{400, 505}
	runHeads(t, []headCase{
		{"GET /a\tHTTP/1.1" + host, bad},
		{"GET\t/a HTTP/1.1" + host, bad},
		{"GET /a b HTTP/1.1" + host, bad},
		{"GET  /a HTTP/1.1" + host, bad},
		{"GET /a  HTTP/1.1" + host, bad},
		{"GET /a HTTP/1.1 " + host, bad},
		{" GET /a HTTP/1.1" + host, bad},
		{"GET /a\x00 HTTP/1.1" + host, bad},
		{"GET /a\x01 HTTP/1.1" + host, bad},
		{"GET /a\x7f HTTP/1.1" + host, bad},
		{"GET /a\r/b HTTP/1.1" + host, bad},
		{"GET /a?b\x0bc HTTP/1.1" + host, bad},
		{"GET a HTTP/1.1" + host, bad},
		{"GET ?a HTTP/1.1" + host, bad},
		{"GET * HTTP/1.1" + host, bad},
		{"GET h:80 HTTP/1.1" + host, bad},
		{"GET  HTTP/1.1" + host, bad},
		{"GET" + host, bad},
		{"G@T / HTTP/1.1" + host, bad},
		{"GE(T / HTTP/1.1" + host, bad},
		{"G\x00T / HTTP/1.1" + host, bad},
		{"GET /a#b HTTP/1.1" + host, bad},
		{"GET /.. HTTP/1.1" + host, bad},
		{"GET /a/../../b HTTP/1.1" + host, bad},
		{"GET /%2e%2e/a HTTP/1.1" + host, bad},
		{"GET /%zz HTTP/1.1" + host, bad},
		{"GET /%00 HTTP/1.1" + host, bad},
		{"GET / HTTP/9.9" + host, []int{505}},
		{"GET / HTTP/2.0" + host, []int{505}},
		{"GET / HTTP/3" + host, version},
		{"GET / HTTP/0.9" + host, version},
		{"GET / HTTP/1.2" + host, []int{505, 200}},
		{"GET / HTTP/1.10" + host, version},
		{"GET / HTTP/1." + host, version},
		{"GET / HTTP/11" + host, version},
		{"GET / http/1.1" + host, version},
		{"GET / HTTPS/1.1" + host, version},
		{"GET / ICY" + host, version},
		{"GET /", version},                     // HTTP/0.9
		{"PRI * HTTP/2.0\r\nHost: h", version}, // without a field it is the beginning of HTTP/2
		{"get / HTTP/1.1" + host, []int{200}},  // methods are case-sensitive tokens
		{"PURGE / HTTP/1.1" + host, []int{200}},
		{"\r\nGET / HTTP/1.1" + host, []int{200}}, // RFC 9112, 2.2: an empty line before it is ignored
	})
}

func TestEdgeHost(t *testing.T) {
	bad := []int{400}
	cases := []headCase{
		{"GET / HTTP/1.1", bad},
		{"GET / HTTP/1.1\r\nX: y", bad},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b", bad},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: a", bad},
		{"GET / HTTP/1.1\r\nHost: a\r\nhost: b", bad},
		{"GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: b", bad},
		{"GET / HTTP/1.0\r\nHost: a\r\nHost: b", bad},
	}
	for _, host := range []string{"", "a b", "a/b", "x@h", "u:p@h", "h\x00", "h\x01", "a\\b", "a,b c", "h?q", "h#f", "h:80:80", "h:port", "h:99999", ":80", "[::1", "::1", "[h]", "\"h\"", "<h>", "h\u00e9"} {
		cases = append(cases, headCase{"GET / HTTP/1.1\r\nHost: " + host, bad})
	}
	for _, host := range []string{"h", "h:80", "h.", "A-b_c.d:8080", "127.0.0.1", "[::1]:80"} {
		cases = append(cases, headCase{"GET / HTTP/1.1\r\nHost: " + host, []int{200}})
	}
	runHeads(t, cases)
}

func TestEdgeHostIsKept(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, c := range []struct{ request, host, target string }{
		{"GET /a?b=%2f&c=//../%zz HTTP/1.1\r\nHost: ML.Example.com:8080\r\n\r\n", "ML.Example.com:8080", "/a?b=%2f&c=//../%zz"},
		{"GET //a/./b/../%7Ec%2fd; HTTP/1.1\r\nHost: h\r\n\r\n", "h", "//a/./b/../%7Ec%2fd;"},
		{"GET http://h.example/x?y HTTP/1.1\r\nHost: evil\r\n\r\n", "h.example", "/x?y"},
		{"GET HTTP://h:81 HTTP/1.1\r\nHost: h:81\r\n\r\n", "h:81", "/"},
		{"GET https://h?q HTTP/1.1\r\nHost: h\r\n\r\n", "h", "/?q"},
	} {
		cl := r.dial(t)
		cl.send(c.request)
		if m := cl.answer("GET"); m.status() != 200 {
			t.Errorf("%.40q was answered with %q", c.request, m.start)
			continue
		}
		m := ep.last(t)
		// An absolute-form target may stay one, if it agrees with the Host field.
		target := m.target()
		if _, rest, ok := strings.Cut(target, "://"+c.host); ok && strings.HasPrefix(c.target, rest) {
			target = c.target
		}
		if m.get("Host") != c.host || target != c.target {
			t.Errorf("%.40q went on as %q, Host %q", c.request, m.target(), m.get("Host"))
		}
		if fh := m.get("X-Forwarded-Host"); fh != c.host && fh != "evil" {
			t.Errorf("%.40q: X-Forwarded-Host %q", c.request, fh)
		}
	}
}

// TestEdgeAbsoluteFormDecidesTheRoute: the Host field beside it must not choose.
func TestEdgeAbsoluteFormDecidesTheRoute(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "match: {host: good.example}"})
	for request, want := range map[string]int{
		"GET http://good.example/ HTTP/1.1\r\nHost: evil\r\n\r\n":                                                     200,
		"GET http://evil/ HTTP/1.1\r\nHost: good.example\r\n\r\n":                                                     404,
		"GET / HTTP/1.1\r\nHost: evil\r\nX-Forwarded-Host: good.example\r\n\r\n":                                      404,
		"GET / HTTP/1.1\r\nHost: evil\r\nX-Host: good.example\r\nX-Original-URL: http://good.example/\r\n\r\n":        404,
		"GET / HTTP/1.1\r\nHost: evil\r\nForwarded: host=good.example\r\nX-Rewrite-URL: http://good.example/\r\n\r\n": 404,
	} {
		cl := r.dial(t)
		cl.send(request)
		m := cl.answer("GET")
		if m.status() != want {
			t.Errorf("%q was answered with %q", request, m.start)
		} else if want == 404 {
			cl.refused(m, 404)
			if !strings.Contains(string(m.body), `"no_route"`) || m.get("X-Weir-Variant") != "" {
				t.Errorf("%q: variant %q, body %s", request, m.get("X-Weir-Variant"), m.body)
			}
		}
	}
}

func TestEdgeConnectAndTrace(t *testing.T) {
	refused := []int{405, 501}
	runHeads(t, []headCase{
		{"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22", []int{405, 501, 400}},
		{"CONNECT h:443 HTTP/1.0", []int{405, 501, 400}},
		{"CONNECT / HTTP/1.1\r\nHost: h", []int{405, 501, 400}},
		{"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0", refused},
		{"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 5\r\nCookie: secret=1", refused},
		{"TRACE / HTTP/1.1\r\nHost: h", refused},
	})
}

func TestEdgeHopByHop(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("POST /first HTTP/1.1\r\nHost: h\r\nConnection: X-One, keep-alive,Content-Length, host , X-Forwarded-For,, x-request-id, traceparent\r\n" +
		"X-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nConnection: x-TWO\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n" +
		"TE: trailers, gzip\r\nTrailer: X-Sum\r\nUpgrade: h2c, foo\r\nHTTP2-Settings: AAMAAABkAAQAAP\r\nProxy-Authorization: Basic Zm9v\r\n" +
		"Proxy-Authenticate: x\r\nX-Request-ID: mine\r\nContent-Length: 5\r\n\r\nhello")
	if m := c.answer("POST"); m.status() != 200 {
		t.Fatalf("answered with %q", m.start)
	}
	m := ep.last(t)
	for name, want := range map[string]string{
		"Host": "h", "Content-Length": "5", "X-Forwarded-For": "127.0.0.1", "X-Request-ID": "mine", "X-Three": "3",
		"X-One": "", "X-Two": "", "Keep-Alive": "", "Proxy-Connection": "", "TE": "", "Trailer": "", "Upgrade": "",
		"HTTP2-Settings": "", "Proxy-Authorization": "", "Proxy-Authenticate": "", "Transfer-Encoding": "",
	} {
		if got := m.get(name); got != want {
			t.Errorf("%s: %q at the endpoint, want %q", name, got, want)
		}
	}
	if v := strings.ToLower(m.get("Connection")); v != "" && v != "keep-alive" {
		t.Errorf("Connection: %q at the endpoint", v)
	}
	if m.get("traceparent") == "" {
		t.Error("nomination removed traceparent")
	}
	many := "Connection: X-0"
	for i := range 20 {
		many += fmt.Sprintf(", X-%d\r\nX-%d: y\r\nConnection: X-%d", i, i, i+1)
	}
	c.send("GET /many HTTP/1.1\r\nHost: h\r\n" + many + "\r\n\r\n")
	if m := c.answer("GET"); m.status() == 200 {
		for _, f := range ep.last(t).fields {
			if f.value == "y" {
				t.Errorf("of many nominated fields %s is left", f.name)
			}
		}
	} else {
		c.refused(m, 400, 431)
	}
	c = r.dial(t)
	c.send("GET /close HTTP/1.1\r\nHost: h\r\nConnection: close, X-Forwarded-For, Host, Content-Length\r\n\r\n")
	if m := c.answer("GET"); m.status() != 200 {
		t.Errorf("answered with %q", m.start)
	}
	c.closed()
	if m := ep.last(t); m.get("X-Forwarded-For") != "127.0.0.1" || strings.Contains(m.get("Connection"), "close") {
		t.Errorf("at the endpoint: %v", m.fields)
	}
}

func TestEdgeHopByHopInResponses(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive, Content-Length, X-Request-ID\r\nConnection: x-other\r\nX-Secret: 1\r\nX-Other: 2\r\n"+
		"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Weir-Variant: evil\r\nX-Request-ID: evil\r\nX-Kept: yes\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"))
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n\r\n")
	m := c.answer("GET")
	for name, want := range map[string]string{
		"X-Secret": "", "X-Other": "", "Keep-Alive": "", "Proxy-Connection": "", "Upgrade": "", "Content-Length": "2",
		"X-Kept": "yes", "X-Weir-Variant": "blue", "X-Request-ID": "mine", "Set-Cookie": "a | b",
	} {
		if got := m.get(name); got != want {
			t.Errorf("%s: %q at the client, want %q", name, got, want)
		}
	}
	if v := strings.ToLower(m.get("Connection")); v != "" && v != "keep-alive" {
		t.Errorf("Connection: %q at the client", v)
	}
}

func TestEdgeForwardedFields(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	for _, c := range []struct {
		top, fields                string
		xff, realIP, proto, fwHost string
	}{
		{"", "", "127.0.0.1", "127.0.0.1", "http", "h"},
		{"", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Real-IP: 6.6.6.6\r\nX-Real-Ip: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n", "127.0.0.1", "127.0.0.1", "http", "h"},
		{"trusted_proxies: [10.0.0.0/8]", "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n", "127.0.0.1", "127.0.0.1", "http", "h"},
		{"trusted_proxies: [127.0.0.0/8]", "", "127.0.0.1", "127.0.0.1", "http", "h"},
		{"trusted_proxies: [127.0.0.0/8]", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front\r\nX-Real-IP: 9.9.9.9\r\n", "6.6.6.6, 127.0.0.1", "6.6.6.6", "https", "front"},
		{"trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]", "X-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nX-Forwarded-For: 10.0.0.1\r\n", "6.6.6.6, 7.7.7.7, 10.0.0.1, 127.0.0.1", "7.7.7.7", "http", "h"},
		{"trusted_proxies: [127.0.0.0/8]", "x-forwarded-FOR: 2001:db8::1\r\n", "2001:db8::1, 127.0.0.1", "2001:db8::1", "http", "h"},
	} {
		t.Run(c.top+" "+c.fields, func(t *testing.T) {
			r := start(t, setup{endpoints: []string{ep.addr}, top: c.top})
			cl := r.dial(t)
			cl.send("GET / HTTP/1.1\r\nHost: h\r\n" + c.fields + "\r\n")
			cl.answer("GET")
			m := ep.last(t)
			xff := strings.ReplaceAll(m.get("X-Forwarded-For"), " | ", ", ")
			if xff != c.xff || m.get("X-Real-IP") != c.realIP || m.get("X-Forwarded-Proto") != c.proto || m.get("X-Forwarded-Host") != c.fwHost {
				t.Errorf("For %q, X-Real-IP %q, Proto %q, Host %q; want %q, %q, %q, %q", xff, m.get("X-Real-IP"), m.get("X-Forwarded-Proto"), m.get("X-Forwarded-Host"), c.xff, c.realIP, c.proto, c.fwHost)
			}
		})
	}
}

// TestEdgeRequestIdentity covers X-Request-ID and traceparent: kept when valid, else made anew.
func TestEdgeRequestIdentity(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		id, trace string
		kept      bool
	}{
		{"Az09._:-", trace, true},
		{strings.Repeat("a", 128), trace, true},
		{strings.Repeat("a", 129), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		{"", "", false},
		{"a b", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		{"a\"b", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false},
		{"a/b", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
		{"caf\u00e9", "x", false},
	} {
		cl := r.dial(t)
		cl.send("GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: " + c.id + "\r\ntraceparent: " + c.trace + "\r\n\r\n")
		answered, m := cl.answer("GET").get("X-Request-ID"), ep.last(t)
		if id := m.get("X-Request-ID"); id == "" || len(id) > 128 || id != answered || (id == c.id) != c.kept {
			t.Errorf("X-Request-ID %q became %q at the endpoint, %q at the client", c.id, id, answered)
		}
		got := m.get("traceparent")
		if len(got) != len(trace) || !strings.HasPrefix(got, "00-") || strings.HasPrefix(got, "00-00000000000000000000000000000000") {
			t.Errorf("traceparent %q became %q", c.trace, got)
		}
		if c.kept && !strings.Contains(got, "4bf92f3577b34da6a3ce929d0e0e4736") || !c.kept && got == c.trace {
			t.Errorf("traceparent %q became %q; kept: want %v", c.trace, got, c.kept)
		}
	}
}

// TestEdgeLogInjection: whatever a client sends, each request is one line of valid JSON.
func TestEdgeLogInjection(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	log := &lockedBuffer{}
	r := start(t, setup{endpoints: []string{ep.addr}, log: log})
	requests := []string{
		"GET /a%0d%0a%7b%22status%22:200%7d?%0a HTTP/1.1\r\nHost: h\r\nUser-Agent: a\x1b[31m\"},{\"x\":\"\r\n\r\n",
		"GET /\"}\\u0000{'<script> HTTP/1.1\r\nHost: h\r\nUser-Agent: \xff\xfe\u2028\\\r\nX-User-ID: \"\r\n\r\n",
		"GE\"T / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a\rb\nc\r\n\r\n",
	}
	for _, request := range requests {
		c := r.dial(t)
		c.send(request)
		c.answer("GET")
	}
	c := r.dial(t)
	c.get("/last")
	eventually(t, "the access log", func() bool { return strings.Contains(log.String(), `/last`) })
	lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
	if len(lines) > len(requests)+1 {
		t.Errorf("%d lines for %d requests", len(lines), len(requests)+1)
	}
	for _, line := range lines {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) || !json.Valid([]byte(line)) {
			t.Errorf("access log line %q", line)
		}
	}
}

// TestEdgeMetricCardinality: nothing a client makes up becomes a label.
func TestEdgeMetricCardinality(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, route: "match: {path_prefix: /known}"})
	c := r.dial(t)
	some := func(i int) {
		for _, path := range []string{"/known", "/unknown"} {
			c.send(fmt.Sprintf("M%d %s/%d HTTP/1.1\r\nHost: h%d\r\nX-User-ID: u%d\r\nX-Request-ID: r%d\r\n\r\n", i, path, i, i, i, i))
			c.answer("GET")
		}
	}
	some(0)
	before := r.metrics(t)
	for i := range 200 {
		some(1 + i)
	}
	after := r.metrics(t)
	for key := range after {
		if _, ok := before[key]; !ok {
			t.Errorf("new series %s", key)
		}
	}
	if n := sum(after, "weir_requests_total", `method="OTHER"`); n != 402 {
		t.Errorf("%v requests of method OTHER, want 402", n)
	}
}
