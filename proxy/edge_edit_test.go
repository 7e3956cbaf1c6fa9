package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"weir/backend/backendtest"
	"weir/config"
)

// startRoute is start with a change of the only route's configuration.
func startRoute(t testing.TB, s setup, change func(*config.Route)) *running {
	t.Helper()
	s.change = func(c *config.Config) { change(&c.Routes[0]) }
	return start(t, s)
}

func pairs(s ...string) (h []config.Header) {
	for i := 0; i < len(s); i += 2 {
		h = append(h, config.Header{Name: s[i], Value: s[i+1]})
	}
	return h
}

func TestEdgeRequestHeaders(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := startRoute(t, setup{endpoints: []string{ep.addr}, pool: "version: v7", top: "trusted_proxies: [127.0.0.0/8]"}, func(c *config.Route) {
		c.Headers.Request = config.HeaderChange{
			Remove: []string{"x-debug", "Cookie"},
			Set: pairs("X-Env", "prod", "X-Who", "{client_ip} {request_id} {host} {method} {path}", "X-To", "{route}/{variant}/{version}",
				"X-User", "{header:X-User-ID}", "X-Verified", "{user}{jwt:sub}", "X-Brace", `{{"a":1}}`, "X-Real-IP", "10.0.0.1"),
			Add: pairs("X-Tag", "one", "X-Tag", "two {header:x-tag}"),
		}
	})
	cl := r.dial(t)
	cl.send("POST /a/b?c=d HTTP/1.1\r\nHost: ml.example.com\r\nX-Debug: 1\r\nX-DEBUG: 2\r\ncookie: a=b\r\nX-Env: dev\r\nx-env: test\r\nX-Tag: zero\r\n" +
		"X-User-ID: u1\r\nX-Verified: admin\r\nX-To: evil\r\nX-Request-ID: id-1\r\nX-Forwarded-For: 192.0.2.9\r\nContent-Length: 4\r\n\r\nbody")
	if m := cl.answer("POST"); m.status() != 200 {
		t.Fatalf("%q", m.start)
	}
	m := ep.last(t)
	for name, want := range map[string]string{
		"X-Debug": "", "Cookie": "", "X-Env": "prod", "X-Who": "192.0.2.9 id-1 ml.example.com POST /a/b", "X-To": "all/blue/v7", "X-User": "u1",
		"X-Verified": "", "X-Brace": `{"a":1}`, "X-Real-IP": "10.0.0.1", "X-Tag": "zero | one | two zero", "Host": "ml.example.com",
		"X-Forwarded-Host": "ml.example.com", "X-Request-ID": "id-1", "Content-Length": "4",
	} {
		if got := m.get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if string(m.body) != "body" || m.target() != "/a/b?c=d" {
		t.Errorf("target %q, body %q", m.target(), m.body)
	}
}

// TestEdgeRequestHost: the endpoint has another Host, one, and learns what the client asked.
func TestEdgeRequestHost(t *testing.T) {
	for value, want := range map[string]string{
		"internal.example.com": "internal.example.com",
		"{variant}.pools:80":   "blue.pools:80",
		"{header:X-Host}":      "ml.example.com", // has a space: the client's stays
		"{user}":               "ml.example.com",
	} {
		ep := newEndpoint(t, serveOK)
		r := startRoute(t, setup{endpoints: []string{ep.addr}, route: "match: {host: ml.example.com}"}, func(c *config.Route) {
			c.Headers.Request.Set = pairs("host", value)
		})
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: ml.example.com\r\nX-Host: a b\r\n\r\n",
			"GET http://ml.example.com/ HTTP/1.1\r\nHost: other.example.com\r\nX-Host: a b\r\n\r\n",
			"GET / HTTP/1.0\r\nHOST: ml.example.com\r\nX-Host: a b\r\n\r\n",
		} {
			cl := r.dial(t)
			cl.send(request)
			if m := cl.answer("GET"); m.status() != 200 {
				t.Fatalf("%q: %q", request, m.start)
			}
			if got := ep.last(t).get("Host"); got != want {
				t.Errorf("%q with %q: Host %q, want %q", value, request, got, want)
			}
			if got := ep.last(t).get("X-Forwarded-Host"); !strings.Contains(request, "http://") && got != "ml.example.com" {
				t.Errorf("%q with %q: X-Forwarded-Host %q", value, request, got)
			}
		}
	}
}

// TestEdgeHostOfNoHost: a request of HTTP/1.0 without a Host gets the one that is set, or one all the same.
func TestEdgeHostOfNoHost(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	for value, want := range map[string]string{"set.example.com": "set.example.com", "{host}": ""} {
		r := startRoute(t, setup{endpoints: []string{ep.addr}}, func(c *config.Route) { c.Headers.Request.Set = pairs("Host", value) })
		cl := r.dial(t)
		cl.send("GET / HTTP/1.0\r\n\r\n")
		cl.answer("GET")
		if want == "" {
			want = r.addr
		}
		if got := ep.last(t).get("Host"); got != want {
			t.Errorf("%q: Host %q, want %q", value, got, want)
		}
	}
}

// TestEdgeHeaderInjection: nothing that a client writes becomes a line of its own, towards the endpoint (whose
// reader refuses control characters) or back.
func TestEdgeHeaderInjection(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := startRoute(t, setup{endpoints: []string{ep.addr}}, func(c *config.Route) {
		h := pairs("X-Copy", "<{header:X-In}>", "X-Path", "{path}", "X-Host", "{host}", "X-Method", "{method}")
		c.Headers.Request.Set, c.Headers.Response.Set = h, h
	})
	for _, bad := range []string{
		"a\rX-Evil: 1", "a\x00b", "a\r\n X-Evil: 1", "a\r\n\tX-Evil: 1", "a\x0bb", "a\x1b[31mb", "a\x7fb", "a\x85b", "%0d%0aX-Evil: 1", "\\r\\nX-Evil: 1",
	} {
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: h\r\nX-In: " + bad + "\r\n\r\n",
			"GET /" + bad + " HTTP/1.1\r\nHost: h\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: " + bad + "\r\n\r\n",
			"G" + bad + " / HTTP/1.1\r\nHost: h\r\n\r\n",
		} {
			cl := r.dial(t)
			cl.send(request)
			m := cl.answer("GET")
			if len(m.values("X-Evil")) > 0 || m.status() != 200 && m.status() != 400 && m.status() != 405 {
				t.Errorf("%q: %q %v", request, m.start, m.fields)
			}
			if m.status() != 200 {
				continue
			}
			sent := ep.last(t)
			for _, m := range []*message{m, sent} {
				if len(m.values("X-Evil")) > 0 || len(m.values("X-Copy")) != 1 {
					t.Errorf("%q: %v", request, m.fields)
				}
				for _, f := range m.fields {
					if strings.ContainsFunc(f.value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
						t.Errorf("%q: %q", request, f)
					}
				}
			}
		}
	}
}

// TestEdgeHeadersNearTheBuffer: heads around the size of a buffer, with bodies, and their copies by variables.
func TestEdgeHeadersNearTheBuffer(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := startRoute(t, setup{endpoints: []string{ep.addr}}, func(c *config.Route) {
		c.Headers.Request = config.HeaderChange{Set: pairs("X-Copy", "{header:X-In}{header:X-In}", "X-To", "{variant}"), Remove: []string{"x-gone"}}
		c.Headers.Response.Set = pairs("X-Back", "{header:X-In}")
	})
	cl := r.dial(t)
	for _, n := range []int{1, 4000, 8000, 15_800, 15_900, 16_000, 16_100, 16_300, 16_384, 16_500, 30_000} {
		in, body := strings.Repeat("v", n), strings.Repeat("b", 16<<10)
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), "Transfer-Encoding: chunked\r\n\r\n4000\r\n" + body + "\r\n0\r\n\r\n"} {
			cl.send("POST / HTTP/1.1\r\nHost: h\r\nX-Gone: 1\r\nX-In: " + in + "\r\nX-Gone: 2\r\nX-To: 0\r\n" + framing)
			m := cl.answer("POST")
			if m.status() != 200 || string(m.body) != "ok" || m.get("X-Back") != in {
				t.Fatalf("%d: %q, body %q, %d bytes back", n, m.start, m.body, len(m.get("X-Back")))
			}
			sent := ep.last(t)
			if sent.get("X-In") != in || sent.get("X-Copy") != in+in || sent.get("X-To") != "blue" || sent.get("X-Gone") != "" || string(sent.body) != body {
				t.Errorf("%d: the endpoint got %d + %d bytes, to %q, a body of %d", n, len(sent.get("X-In")), len(sent.get("X-Copy")), sent.get("X-To"), len(sent.body))
			}
		}
	}
}

// TestEdgeHeadersOfRetries: another attempt has the same head.
func TestEdgeHeadersOfRetries(t *testing.T) {
	for name, framing := range map[string]string{
		"small": "Content-Length: 5\r\n\r\nhello", "chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"large": "Content-Length: 40000\r\n\r\n" + strings.Repeat("x", 40_000), "none": "\r\n",
	} {
		bad := newEndpoint(t, func(s *served) { s.request() })
		good := newEndpoint(t, serveOK)
		r := startRoute(t, setup{endpoints: []string{bad.addr, good.addr}, route: "retry: {attempts: 2, on: [reset], idempotent: always}"}, func(c *config.Route) {
			c.Headers.Request.Set = pairs("X-To", "{variant}", "X-Id", "{request_id}")
			c.Rewrite = &config.Rewrite{StripPrefix: "/in", AddPrefix: "/out"}
		})
		for range 2 {
			cl := r.dial(t)
			cl.send("POST /in/x HTTP/1.1\r\nHost: h\r\nX-Request-ID: one\r\n" + framing)
			if m := cl.answer("POST"); m.status() != 200 {
				t.Fatalf("%s: %q", name, m.start)
			}
		}
		for _, m := range []*message{bad.last(t), good.last(t)} {
			if m.get("X-To") != "blue" || m.get("X-Id") != "one" || m.target() != "/out/x" {
				t.Errorf("%s: %q %v", name, m.start, m.fields)
			}
		}
	}
}

func TestEdgeResponseHeaders(t *testing.T) {
	const lines = "Server: uvicorn\r\nX-Frame-Options: ALLOWALL\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-Keep: 1\r\n"
	for framing, body := range map[string]string{
		"Content-Length: 2\r\n\r\nok": "ok", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n": "ok", "Connection: close\r\n\r\nok": "ok",
	} {
		ep := newEndpoint(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				s.send("HTTP/1.1 103 Early Hints\r\nServer: early\r\n\r\nHTTP/1.1 200 OK\r\n" + lines + framing)
				if strings.HasPrefix(framing, "Connection") {
					return
				}
			}
		})
		r := startRoute(t, setup{endpoints: []string{ep.addr}, pool: "version: v7"}, func(c *config.Route) {
			c.Headers = config.Headers{Security: true, Response: config.HeaderChange{
				Remove: []string{"server"}, Set: pairs("SET-COOKIE", "only=1", "X-Served-By", "{endpoint} {version}", "X-Content-Type-Options", "off"), Add: pairs("X-Keep", "2"),
			}}
		})
		cl := r.dial(t)
		m := cl.get("/")
		want := map[string]string{
			"Server": "", "X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "off", "X-XSS-Protection": "1; mode=block",
			"Referrer-Policy": "strict-origin-when-cross-origin", "Strict-Transport-Security": "", "Set-Cookie": "only=1", "X-Keep": "1 | 2",
			"X-Served-By": ep.addr + " v7", "X-Weir-Variant": "blue", "Vary": "",
		}
		for name, v := range want {
			if got := m.get(name); got != v {
				t.Errorf("%q: %s is %q, want %q", framing, name, got, v)
			}
		}
		if string(m.body) != body {
			t.Errorf("%q: body %q", framing, m.body)
		}
	}
}

// TestEdgeResponseHeadersOfErrors: weir's own answers on a route have them too, like nginx's add_header with always.
func TestEdgeResponseHeadersOfErrors(t *testing.T) {
	dead := backendtest.Refused(t)
	r := startRoute(t, setup{endpoints: []string{dead}, route: "match: {path_prefix: /here}\nlimits: {body: 1KiB}"}, func(c *config.Route) {
		c.Headers = config.Headers{Security: true, Response: config.HeaderChange{Set: pairs("X-A", "{route}{variant}"), Add: pairs("Content-Language", "en")}}
	})
	for request, c := range map[string]struct {
		status int
		a      string
		frame  string
	}{
		"GET /here HTTP/1.1\r\nHost: h\r\n\r\n":                                 {502, "allblue", "SAMEORIGIN"},
		"POST /here HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n":       {413, "all", "SAMEORIGIN"},
		"GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n":                            {404, "", ""},
		"GET /here HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n":      {501, "", ""},
		"HEAD /here HTTP/1.1\r\nHost: h\r\n\r\n":                                {502, "allblue", "SAMEORIGIN"},
		"GET /here HTTP/1.1\r\nHost: h\r\nX-Request-ID: evil\r\nX-A: b\r\n\r\n": {502, "allblue", "SAMEORIGIN"},
	} {
		cl := r.dial(t)
		cl.send(request)
		method, _, _ := strings.Cut(request, " ")
		m := cl.answer(method)
		if method != "HEAD" {
			cl.refused(m, c.status)
		}
		if m.get("X-A") != c.a || m.get("X-Frame-Options") != c.frame || c.frame != "" && m.get("Content-Language") != "en" {
			t.Errorf("%q: %q %v", request, m.start, m.fields)
		}
	}
}

func TestEdgeRewrite(t *testing.T) {
	logs := &lockedBuffer{}
	ep := newEndpoint(t, serveOK)
	r := startRoute(t, setup{endpoints: []string{ep.addr}, log: logs}, func(c *config.Route) {
		c.Rewrite = &config.Rewrite{StripPrefix: "/api/v1", AddPrefix: "/m"}
	})
	cl := r.dial(t)
	for target, want := range map[string]string{
		"/api/v1/predict?a=%2F&b": "/m/predict?a=%2F&b", "/%61pi/v1//x%20y": "/m/x%20y", "/api/v1": "/m", "/other/./x": "/m/other/./x",
		"http://h/api/v1/abs?x": "/m/abs?x", "http://h": "/m/", "http://h?q": "/m/?q",
	} {
		if m := cl.get(target); m.status() != 200 {
			t.Errorf("%q: %q", target, m.start)
		}
		if got := ep.last(t).target(); got != want {
			t.Errorf("%q went as %q, want %q", target, got, want)
		}
	}
	cl.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
	cl.answer("OPTIONS")
	if got := ep.last(t).target(); got != "*" {
		t.Errorf("* went as %q", got)
	}
	eventually(t, "the log", func() bool { return strings.Contains(logs.String(), `"path":"/api/v1/predict"`) })
	if strings.Contains(logs.String(), `"path":"/m`) {
		t.Errorf("the log has the endpoint's path: %s", logs.String())
	}
}

// TestEdgeRewriteSaysWhatIsPure: whether a POST is inference is told by the path that the endpoint sees.
func TestEdgeRewriteSaysWhatIsPure(t *testing.T) {
	for _, c := range []struct {
		target  string
		rewrite config.Rewrite
		status  int
	}{
		{"/score", config.Rewrite{Path: "/predict"}, 200},
		{"/models/m/predict", config.Rewrite{Regex: &config.Regexp{Regexp: regexp.MustCompile("predict$")}, Replacement: "train"}, 502},
		{"/api/predict", config.Rewrite{StripPrefix: "/api"}, 200},
		{"/x/v2/models/m/infer", config.Rewrite{StripPrefix: "/x"}, 200},
	} {
		bad := newEndpoint(t, func(s *served) { s.request() })
		good := newEndpoint(t, serveOK)
		r := startRoute(t, setup{endpoints: []string{bad.addr, good.addr}}, func(rc *config.Route) { rc.Rewrite = &c.rewrite })
		statuses := map[int]bool{}
		for range 2 {
			cl := r.dial(t)
			cl.send("POST " + c.target + " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
			statuses[cl.answer("POST").status()] = true
		}
		if !statuses[200] || statuses[502] != (c.status == 502) {
			t.Errorf("%s with %+v: %v", c.target, c.rewrite, statuses)
		}
	}
}

func TestEdgeAccessLogOfARoute(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if strings.Contains(m.target(), "fail") {
				s.send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
			} else {
				s.send(okResponse)
			}
		}
	})
	const n = 400
	for _, c := range []struct {
		log                config.RouteLog
		least, most, fails int
	}{
		{config.RouteLog{Percent: 100}, n, n, n}, {config.RouteLog{Percent: 0}, 0, 0, n}, {config.RouteLog{Percent: 25}, n / 8, n / 2, n}, {config.RouteLog{Percent: 100, Off: true}, 0, 0, 0},
	} {
		logs := &lockedBuffer{}
		r := startRoute(t, setup{endpoints: []string{ep.addr}, log: logs, route: "match: {path_prefix: /r}"}, func(rc *config.Route) { rc.Log = c.log })
		cl := r.dial(t)
		for range n {
			cl.get("/r/fine")
			cl.get("/r/fail")
		}
		cl.get("/elsewhere")
		eventually(t, "the log", func() bool { return strings.Contains(logs.String(), "/elsewhere") })
		fine, fails := strings.Count(logs.String(), `"path":"/r/fine"`), strings.Count(logs.String(), `"path":"/r/fail"`)
		if fine < c.least || fine > c.most || fails != c.fails {
			t.Errorf("%+v: %d and %d lines of %d each", c.log, fine, fails, n)
		}
		if got := sum(r.metrics(t), "weir_requests_total", `route="all"`); got != 2*n {
			t.Errorf("%+v: %v requests were counted", c.log, got)
		}
	}
}

// TestEdgeNothingToEdit: without changes every byte goes on as it came, in both directions.
func TestEdgeNothingToEdit(t *testing.T) {
	got := make(chan string, 1)
	addr := backendtest.Raw(t, func(nc net.Conn) {
		b := make([]byte, 4096)
		n, _ := nc.Read(b)
		got <- string(b[:n])
		_, _ = nc.Write([]byte("HTTP/1.1 200 Fine\r\nx-a:1\r\nX-A:  2 \r\nVARY: *\r\nEtag: \"x\"\r\nAccept-Ranges: bytes\r\nContent-Length: 2\r\n\r\nok"))
	})
	r := start(t, setup{endpoints: []string{addr}})
	cl := r.dial(t)
	cl.send("GET //a/../b%20?c HTTP/1.1\r\nhost:h\r\nx-b:  1\r\nACCEPT-ENCODING: gzip\r\nX-Request-ID: i\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n")
	b := make([]byte, 4096)
	n, _ := cl.Conn.Read(b)
	if want := "HTTP/1.1 200 Fine\r\nx-a:1\r\nX-A:  2 \r\nVARY: *\r\nEtag: \"x\"\r\nAccept-Ranges: bytes\r\nContent-Length: 2\r\nX-Weir-Variant: blue\r\nX-Request-ID: i\r\n\r\nok"; string(b[:n]) != want {
		t.Errorf("the client got %q, want %q", b[:n], want)
	}
	if want := "GET //a/../b%20?c HTTP/1.1\r\nhost:h\r\nx-b:  1\r\nACCEPT-ENCODING: gzip\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Real-IP: 127.0.0.1\r\nX-Request-ID: i\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"; <-got != want {
		t.Errorf("the endpoint got something else than %q", want)
	}
}

// TestEdgeHeadersOfGatheredBodies: the head that says where a request goes leaves the body, which was read to choose
// that, as it is, and the framing that it was given.
func TestEdgeHeadersOfGatheredBodies(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := startRoute(t, setup{endpoints: []string{ep.addr}, pool: "version: v7"}, func(c *config.Route) {
		c.Headers.Request.Set = pairs("X-To", "{variant} {version}", "X-Copy", "{header:X-In}")
		c.Cache = aCache()
	})
	for _, n := range []int{0, 1, 100, 16_000, 16 << 10, 100_000, 1 << 20} {
		for _, in := range []string{"", strings.Repeat("v", 15_000)} {
			body := strings.Repeat("b", n)
			for name, framing := range map[string]string{
				"sized":    fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body),
				"chunked":  "Transfer-Encoding: chunked\r\n\r\n" + chunk(body) + "0\r\n\r\n",
				"trailers": "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(body) + "0\r\nX-Sum: 1\r\n\r\n",
			} {
				before := len(ep.got())
				cl := r.dial(t)
				for range 2 {
					cl.send(fmt.Sprintf("POST /%s/%d HTTP/1.1", name, len(in)) + "\r\nHost: h\r\nX-In: " + in + "\r\n" + framing)
					if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "ok" {
						t.Fatalf("%s, %d: %q", name, n, m.start)
					}
				}
				m := ep.last(t)
				if m.get("X-To") != "blue v7" || m.get("X-Copy") != in || string(m.body) != body || len(ep.got()) == before {
					t.Errorf("%s, %d: to %q, a body of %d bytes", name, n, m.get("X-To"), len(m.body))
				}
			}
		}
	}
	if hits := sum(r.metrics(t), "weir_cache_requests_total", `result="hit"`); hits == 0 {
		t.Error("nothing came from the cache")
	}
}

func chunk(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%x\r\n%s\r\n", len(s), s)
}

// TestEdgeHeadersAndCache: what the cache takes out of a head stays out of one that is made anew.
func TestEdgeHeadersAndCache(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\nX-Frame-Options: ALLOW\r\nContent-Length: 2\r\n\r\nok"))
	r := startRoute(t, setup{endpoints: []string{ep.addr}}, func(c *config.Route) {
		c.Headers = config.Headers{Security: true, Request: config.HeaderChange{Set: pairs("X-To", "{variant}")}, Response: config.HeaderChange{Set: pairs("X-By", "{variant}")}}
		c.Cache = aCache()
	})
	cl := r.dial(t)
	for i, result := range []string{"miss", "hit"} {
		cl.send("GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"v0\"\r\n\r\n")
		m := cl.answer("GET")
		if m.status() != 200 || m.get("X-Weir-Cache") != result || m.get("X-Frame-Options") != "SAMEORIGIN" || m.get("X-By") != "blue" {
			t.Errorf("%d: %q %v", i, m.start, m.fields)
		}
	}
	if m := ep.last(t); m.get("If-None-Match") != "" || m.get("X-To") != "blue" || len(ep.got()) != 1 {
		t.Errorf("%d requests: %v", len(ep.got()), m.fields)
	}
}

// TestEdgeEditsOfAFile: the same, as a file says it.
func TestEdgeEditsOfAFile(t *testing.T) {
	body := predictions(4000)
	logs := &lockedBuffer{}
	ep := newEndpoint(t, serveBytes(framings["sized"](jsonHead, body)))
	r := start(t, setup{endpoints: []string{ep.addr}, log: logs, route: `compress: {encodings: [br]}
access_log: off
rewrite: {strip_prefix: /api, add_prefix: /v1}
headers: {security: true, request: {set: {X-To: "{variant}"}}, response: {set: {X-By: "{endpoint}"}}}`})
	m := r.dial(t).take("/api/predict?x", "gzip, br")
	if plain, err := decode(t, "br", m.body); err != nil || !bytes.Equal(plain, body) || m.get("X-By") != ep.addr || m.get("X-Frame-Options") != "SAMEORIGIN" {
		t.Errorf("%v %v", m.fields, err)
	}
	if sent := ep.last(t); sent.target() != "/v1/predict?x" || sent.get("X-To") != "blue" {
		t.Errorf("%q %v", sent.start, sent.fields)
	}
	if logs.String() != "" {
		t.Errorf("logged %s", logs.String())
	}
}
