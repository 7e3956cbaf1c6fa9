package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/config"
)

// gated runs a proxy whose only route is changed by change; the peer is a trusted proxy.
func gated(t *testing.T, change func(*config.Route)) (*running, *endpoint) {
	t.Helper()
	ep := newEndpoint(t, serveOK)
	return start(t, setup{
		endpoints: []string{ep.addr}, top: "trusted_proxies: [127.0.0.0/8]\n",
		change: func(c *config.Config) { change(&c.Routes[0]) },
	}), ep
}

// ask sends a request with these header lines and reads its answer.
func (c *client) ask(method, target, lines string) *message {
	c.t.Helper()
	c.send(method + " " + target + " HTTP/1.1\r\nHost: shop.example.com:8080\r\n" + lines + "\r\n")
	return c.answer(method)
}

func TestEdgeNetworks(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		c.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fe80::1/128")}
		c.Deny = []netip.Prefix{netip.MustParsePrefix("10.6.0.0/16"), netip.MustParsePrefix("::ffff:10.7.0.0/112")}
	})
	cl := r.dial(t)
	for address, allowed := range map[string]bool{
		"10.0.0.0": true, "10.255.255.255": true, "10.5.255.255": true, "10.6.0.0": false, "10.6.255.255": false, "10.8.0.1": true, "10.7.1.1": false,
		"11.0.0.0": false, "9.255.255.255": false, "2001:db8::1": true, "2001:db9::": false, "::ffff:10.1.2.3": true, "fe80::1%eth0": true,
		"10.0.0.1, 192.0.2.1": false, "192.0.2.1, 10.0.0.1": true,
	} {
		m := cl.ask("GET", "/", "X-Forwarded-For: "+address+"\r\n")
		if allowed != (m.status() == 200) {
			t.Errorf("%s: %q", address, m.start)
		}
		if !allowed {
			cl.refused(m, 403)
		}
	}
	cl.refused(cl.ask("GET", "/", ""), 403) // the peer itself
	if n := countWith(t, r, "403"); int(n) != 16-len(ep.got()) {
		t.Errorf("%v of 16 are counted as refused, %d were let in", n, len(ep.got()))
	}
}

func cors(c *config.Route) {
	c.CORS = &config.CORS{
		Origins: []string{"https://app.example.com", "https://*.dev.example.com:8443"}, Methods: []string{"GET", "POST"}, Headers: []string{"Content-Type", "X-API-Key"},
		Expose: []string{"RateLimit", "X-Weir-Variant"}, Credentials: true, MaxAge: 10 * time.Minute,
	}
}

const preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"

func TestEdgePreflight(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		cors(c)
		c.Match.Methods = []string{"POST"} // the preflight belongs to what it asks about
		c.Auth = &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: file(t, "keys", "a:key\n")}}
	})
	cl := r.dial(t)
	for origin, allowed := range map[string]bool{
		"https://app.example.com": true, "https://a.dev.example.com:8443": true, "https://a.b.dev.example.com:8443": true,
		"http://app.example.com": false, "https://app.example.com.evil.com": false, "https://evilapp.example.com": false, "https://app.example.com:8443": false,
		"https://.dev.example.com:8443": false, "https://a.dev.example.com": false, "https://evil.com/.dev.example.com:8443": false,
		"https://evil.com#.dev.example.com:8443": false, "https://u@a.dev.example.com:8443": false, "null": false, "*": false, "https://APP.example.com": false,
	} {
		m := cl.ask("OPTIONS", "/", "Origin: "+origin+"\r\n"+preflight)
		if m.status() != 204 || m.get("Content-Length") != "" || m.get("X-Request-ID") == "" {
			t.Errorf("%s: %q", origin, m.start)
		}
		want := map[string]string{"Vary": "Origin", "Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Headers": "",
			"Access-Control-Allow-Credentials": "", "Access-Control-Max-Age": ""}
		if allowed {
			want = map[string]string{"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Methods": "GET, POST",
				"Access-Control-Allow-Headers": "Content-Type, X-API-Key", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "600"}
		}
		for name, value := range want {
			if got := m.get(name); got != value && (name != "Vary" || !strings.Contains(got, value)) {
				t.Errorf("%s: %s: %q, want %q", origin, name, got, value)
			}
		}
	}
	// With a body that nobody wants the connection stays, too.
	cl.send("OPTIONS / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nOrigin: https://app.example.com\r\n" + preflight + "\r\nabc")
	if m := cl.answer("OPTIONS"); m.status() != 204 {
		t.Errorf("with a body: %q", m.start)
	}
	// What is no preflight is an OPTIONS like any other, and this route takes POST alone.
	cl.refused(cl.ask("OPTIONS", "/", "Origin: https://app.example.com\r\n"), 404)
	cl.refused(cl.ask("OPTIONS", "/", preflight), 404)
	cl.refused(cl.ask("OPTIONS", "/", "Origin: https://app.example.com\r\nAccess-Control-Request-Method: DELETE\r\n"), 404)
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
	if n := sum(r.metrics(t), "weir_requests_total", `code="204"`, `method="OPTIONS"`, `route="all"`); n != 16 {
		t.Errorf("%v preflights are counted, want 16", n)
	}
}

// TestEdgeCORSOfAnswers: what is said to a browser is weir's, on its own errors too, and never the endpoint's.
func TestEdgeCORSOfAnswers(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\naccess-control-allow-origin: *\r\nAccess-Control-Expose-Headers: X-Secret\r\n\r\nok"))
	r := start(t, setup{endpoints: []string{ep.addr}, route: "match: {path_prefix: /}\nrate_limit: {rate: 1/h, burst: 2}",
		change: func(c *config.Config) { cors(&c.Routes[0]) }})
	cl := r.dial(t)
	check := func(m *message, origin, expose string) {
		t.Helper()
		if m.get("Access-Control-Allow-Origin") != origin || m.get("Access-Control-Expose-Headers") != expose || !strings.Contains(m.get("Vary"), "Origin") {
			t.Errorf("%q: %+v", m.start, m.fields)
		}
	}
	m := cl.ask("GET", "/", "Origin: https://app.example.com\r\n")
	check(m, "https://app.example.com", "RateLimit, X-Weir-Variant")
	if m.get("Vary") != "Accept | Origin" || string(m.body) != "ok" {
		t.Errorf("Vary %q, body %q", m.get("Vary"), m.body)
	}
	check(cl.ask("GET", "/", "Origin: https://evil.com\r\n"), "", "")
	m = cl.ask("GET", "/", "Origin: https://app.example.com\r\n")
	cl.refused(m, 429)
	check(m, "https://app.example.com", "RateLimit, X-Weir-Variant")
}

func TestEdgeCORSForAll(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		c.CORS = &config.CORS{Origins: []string{"*"}, Methods: []string{"POST"}, Headers: []string{"*"}, Credentials: true}
	})
	cl := r.dial(t)
	m := cl.ask("OPTIONS", "/", "Origin: https://any.where\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-a\r\n")
	if m.status() != 204 || m.get("Access-Control-Allow-Origin") != "*" || m.get("Access-Control-Allow-Headers") != "authorization,x-a" || m.get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%q: %+v", m.start, m.fields)
	}
	m = cl.ask("OPTIONS", "/", "Origin: https://any.where\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: a\"b\r\n")
	if m.get("Access-Control-Allow-Headers") != "" {
		t.Errorf("%+v", m.fields)
	}
	m = cl.ask("GET", "/", "")
	if m.status() != 200 || m.get("Access-Control-Allow-Origin") != "*" || m.get("Vary") != "" {
		t.Errorf("%q: %+v", m.start, m.fields)
	}
	// Without Origin it is no preflight: the endpoint's affair.
	if m = cl.ask("OPTIONS", "/", "Access-Control-Request-Method: POST\r\n"); m.status() != 200 || len(ep.got()) != 2 {
		t.Errorf("%q, the endpoint got %q", m.start, ep.got())
	}
}

func TestEdgeRedirectToHTTPS(t *testing.T) {
	r, ep := gated(t, func(c *config.Route) {
		c.Redirect = &config.Redirect{HTTPS: true, Status: 308}
		c.Split = nil
	})
	cl := r.dial(t)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: shop.example.com:8080\r\n\r\n":                       "https://shop.example.com/",
		"GET /a%2Fb/../c?q=%20&x=//y HTTP/1.1\r\nHost: SHOP.example.com\r\n\r\n":      "https://SHOP.example.com/a%2Fb/../c?q=%20&x=//y",
		"GET //evil.com/%5C HTTP/1.1\r\nHost: h\r\n\r\n":                              "https://h//evil.com/%5C",
		"GET /\\evil.com HTTP/1.1\r\nHost: h\r\n\r\n":                                 "https://h/%5Cevil.com",
		"GET /%0d%0aSet-Cookie:a HTTP/1.1\r\nHost: h\r\n\r\n":                         "https://h/%0d%0aSet-Cookie:a",
		"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n":                                   "https://h/%C3%A9",
		"GET http://other.example.com:81/x HTTP/1.1\r\nHost: h\r\n\r\n":               "https://other.example.com/x",
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n":                          "https://[2001:db8::1]/",
		"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc":                 "https://h/p",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n":                                       "https://h",
		"GET /f HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: http\r\n\r\n":               "https://h/f",
		"HEAD /h HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: evil.com\r\n\r\n":           "https://h/h",
		"GET /e HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nHost2: x\r\n\r\n":  "",
		"GET /e HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto:  HTTPS\r\nHost2: x\r\n\r\n": "",
	} {
		cl.send(request)
		m := cl.answer(strings.Fields(request)[0])
		if want == "" { // it came by https already, and there is nothing else
			cl.refused(m, 404)
			continue
		}
		if m.status() != 308 || m.get("Location") != want || m.get("Content-Length") != "0" {
			t.Errorf("%q: %q, Location %q, want %q", request, m.start, m.get("Location"), want)
		}
	}
	cl.send("GET / HTTP/1.0\r\n\r\n")
	cl.refused(cl.answer("GET"), 400)
	cl.closed()
	large := r.dial(t) // a body that is not read ends the connection
	large.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
	if m := large.answer("POST"); m.status() != 308 || m.get("Connection") != "close" {
		t.Errorf("%q: %+v", m.start, m.fields)
	}
	large.closed()
	if got := ep.got(); len(got) > 0 {
		t.Errorf("the endpoint got %q", got)
	}
}

// TestEdgeRedirectToHTTPSOrServe: with a split, what comes by https goes there.
func TestEdgeRedirectToHTTPSOrServe(t *testing.T) {
	r, _ := gated(t, func(c *config.Route) { c.Redirect = &config.Redirect{HTTPS: true, Status: 301} })
	cl := r.dial(t)
	if m := cl.ask("GET", "/x", ""); m.status() != 301 || m.get("Location") != "https://shop.example.com/x" {
		t.Errorf("%q: %+v", m.start, m.fields)
	}
	if m := cl.ask("GET", "/x", "X-Forwarded-Proto: https\r\n"); m.status() != 200 || string(m.body) != "ok" {
		t.Errorf("%q: %q", m.start, m.body)
	}
}

// TestEdgeRedirectBelievesTrustedProxiesOnly: anybody can say that he came by https.
func TestEdgeRedirectBelievesTrustedProxiesOnly(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, change: func(c *config.Config) { c.Routes[0].Redirect = &config.Redirect{HTTPS: true, Status: 308} }})
	if m := r.dial(t).ask("GET", "/x", "X-Forwarded-Proto: https\r\n"); m.status() != 308 {
		t.Errorf("%q", m.start)
	}
}

func TestEdgeRespond(t *testing.T) {
	var log lockedBuffer
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, log: &log, change: func(c *config.Config) {
		c.Routes[0].Split = nil
		c.Routes[0].Match.Path = "/page"
		c.Routes[0].Respond = &config.Respond{Status: 503, Body: "back soon\n", Headers: []config.Header{{Name: "Retry-After", Value: "60"}}}
		empty := c.Routes[0]
		empty.Name, empty.Match.Path = "empty", "/empty"
		empty.Respond = &config.Respond{Status: 204, Body: "never sent"}
		typed := c.Routes[0]
		typed.Name, typed.Match.Path = "typed", "/typed"
		typed.Respond = &config.Respond{Status: 200, Body: "{}", Headers: []config.Header{{Name: "content-type", Value: "application/json"}}}
		c.Routes = append(c.Routes, empty, typed)
	}})
	cl := r.dial(t)
	for _, method := range []string{"GET", "HEAD", "POST", "GET"} {
		m := cl.ask(method, "/page", "Content-Length: 0\r\n")
		body := "back soon\n"
		if method == "HEAD" {
			body = ""
		}
		if m.status() != 503 || string(m.body) != body || m.get("Retry-After") != "60" || m.get("Content-Type") != "text/plain; charset=utf-8" || m.get("Content-Length") != "10" || m.get("X-Weir-Variant") != "" {
			t.Errorf("%s: %q %q %+v", method, m.start, m.body, m.fields)
		}
	}
	if m := cl.get("/empty"); m.status() != 204 || m.get("Content-Length") != "" || len(m.body) > 0 {
		t.Errorf("%q %+v %q", m.start, m.fields, m.body)
	}
	if m := cl.get("/typed"); m.get("Content-Type")+m.get("content-type") == "" || string(m.body) != "{}" || len(m.values("Content-Type"))+len(m.values("content-type")) > 2 {
		t.Errorf("%+v", m.fields)
	}
	// Two that come at once are answered in order.
	cl.send(strings.Repeat("GET /page HTTP/1.1\r\nHost: h\r\n\r\n", 2))
	for range 2 {
		if m := cl.answer("GET"); m.status() != 503 {
			t.Errorf("%q", m.start)
		}
	}
	cl.send("GET /page HTTP/1.0\r\n\r\n")
	if m := cl.answer("GET"); string(m.body) != "back soon\n" {
		t.Errorf("%q", m.body)
	}
	cl.closed()
	if n := sum(r.metrics(t), "weir_requests_total", `code="503"`, `route="all"`, `variant=""`); n != 7 {
		t.Errorf("%v are counted, want 7", n)
	}
	if !r.Ready() {
		t.Error("not ready, though no route needs an endpoint")
	}
	eventually(t, "the log", func() bool { return strings.Count(log.String(), "\n") == 9 })
	if first := strings.SplitN(log.String(), "\n", 2)[0]; !strings.Contains(first, `"status":503`) || !strings.Contains(first, `"bytes_out":10`) || strings.Contains(first, `"error"`) {
		t.Errorf("logged as %s", first)
	}
	if status := r.Status(); status.Degraded || len(status.Routes) != 3 || fmt.Sprint(status.Routes[0].Variants) != "[]" {
		t.Errorf("%+v", status)
	}
	if _, _, err := r.Apply(parse(t, r.yaml)); err != nil { // back to a split
		t.Fatal(err)
	}
	if m := r.dial(t).get("/"); m.status() != 200 {
		t.Errorf("%q", m.start)
	}
}

// TestEdgeRedirectWithVariables: what a client sends can name a path, but neither another host nor another field.
func TestEdgeRedirectWithVariables(t *testing.T) {
	for to, cases := range map[string]map[string]string{
		"{path}":                        {"/a": "/a", "//evil.com/x": "/evil.com/x", "/\\evil.com": "/evil.com", "///x?q=//y": "/x?q=//y"},
		"https://new.example.com{path}": {"/a?b=%20": "https://new.example.com/a?b=%20", "//evil.com": "https://new.example.com//evil.com"},
		"/by/{header:X-Name}/{method}":  {"/": "/by/a%20b%22%3C%C3%A9/GET"},
		"//cdn.example.com{path}":       {"/a": "//cdn.example.com/a"},
		"/{path}":                       {"/a": "/a", "//evil.com/x": "/evil.com/x", "/\\evil.com": "/evil.com"},
		"/{header:X-Place}":             {"/": "/evil.com"},
		"/done?":                        {"/a?b": "/done", "/a": "/done"},
		"/done?x=1":                     {"/a?b": "/done?x=1"},
		"/page#top":                     {"/a?b": "/page#top"},
	} {
		r, _ := gated(t, func(c *config.Route) {
			c.Redirect = &config.Redirect{To: to, Status: 302}
			c.Headers.Response.Set = []config.Header{{Name: "X-Frame-Options", Value: "DENY"}}
		})
		cl := r.dial(t)
		for target, want := range cases {
			m := cl.ask("GET", target, "X-Name: a b\"<\xc3\xa9\r\nX-Place: /evil.com\r\n")
			if m.status() != 302 || m.get("Location") != want || m.get("X-Frame-Options") != "DENY" {
				t.Errorf("%s of %s: %q %+v, want Location %q", to, target, m.start, m.fields, want)
			}
		}
	}
}
