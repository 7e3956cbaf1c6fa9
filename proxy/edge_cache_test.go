package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// aCache is the configuration of a cache for tests.
func aCache() *config.Cache {
	return &config.Cache{
		TTL: []config.StatusTTL{{Status: 200, TTL: time.Minute}, {Status: 404, TTL: time.Minute}}, MaxBytes: 16 << 20, MaxObject: 1 << 20,
		Methods: []string{"GET", "HEAD", "POST"}, Credentials: config.CacheSeparate, Coalesce: true,
	}
}

// cachedBy has the only route cache by c.
func cachedBy(c *config.Cache) func(*config.Config) {
	return func(cfg *config.Config) { cfg.Routes[0].Cache = c }
}

// counting answers each request with the number of those before it, and these header fields.
func counting(fields ...backendtest.Field) backendtest.Behaviour {
	numbers := make(chan int, 1)
	numbers <- 0
	return backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
		n := <-numbers
		numbers <- n + 1
		return backendtest.Behaviour{Header: fields, Body: []byte(fmt.Sprint("answer ", n))}
	}}
}

// fetch sends a request with these lines and returns the answer.
func (c *client) fetch(method, target, lines string) *message {
	c.t.Helper()
	c.send(method + " " + target + " HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n")
	return c.answer(method)
}

// predict sends a POST.
func (c *client) predict(body, lines string) *message {
	c.t.Helper()
	c.send(fmt.Sprintf("POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n%s", len(body), lines, body))
	return c.answer("POST")
}

// was checks what a cache was to an answer, and its body.
func was(t testing.TB, m *message, result, body string) {
	t.Helper()
	if got := m.get("X-Weir-Cache"); got != result || string(m.body) != body {
		t.Errorf("%s, X-Weir-Cache %q, body %q; want %q, %q", m.start, got, m.body, result, body)
	}
	if m.get("X-Weir-Variant") != "blue" || m.get("X-Request-ID") == "" {
		t.Errorf("fields of weir's own: %v", m.fields)
	}
	if age := m.get("Age"); (result == "miss" || result == "") == (age != "") {
		t.Errorf("Age %q of a %s", age, result)
	}
}

func TestEdgeCache(t *testing.T) {
	s := backendtest.NewServer(t, counting(backendtest.Field{Name: "ETag", Value: `"v1"`}, backendtest.Field{Name: "X-Own", Value: "kept"},
		backendtest.Field{Name: "Date", Value: time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")},
		backendtest.Field{Name: "X-Weir-Cache", Value: "hit"}, backendtest.Field{Name: "X-Request-ID", Value: "another"}, backendtest.Field{Name: "Content-Type", Value: "text/plain"}))
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	c := r.dial(t)
	first := c.fetch("GET", "/x?y=1", "")
	was(t, first, "miss", "answer 0")
	hit := c.fetch("GET", "/x?y=1", "X-Request-ID: mine\r\n")
	was(t, hit, "hit", "answer 0")
	for _, name := range []string{"ETag", "X-Own", "Date", "Content-Type", "Content-Length"} {
		if hit.get(name) != first.get(name) || hit.get(name) == "" {
			t.Errorf("%s: %q of the hit, %q of what was kept", name, hit.get(name), first.get(name))
		}
	}
	if hit.get("X-Request-ID") != "mine" {
		t.Errorf("X-Request-ID %q", hit.get("X-Request-ID"))
	}
	head := c.fetch("HEAD", "/x?y=1", "")
	was(t, head, "hit", "")
	if head.get("Content-Length") != "8" {
		t.Errorf("Content-Length %q of a HEAD", head.get("Content-Length"))
	}
	was(t, c.fetch("HEAD", "/not-yet", ""), "miss", "")
	was(t, c.fetch("GET", "/not-yet", ""), "miss", "answer 2")
	was(t, c.fetch("GET", "/x?y=2", ""), "miss", "answer 3")
	was(t, c.fetch("GET", "/x?y=1", "Range: bytes=0-1\r\n"), "", "answer 4")
	was(t, c.fetch("GET", "/x?y=1", "Cache-Control: no-store\r\n"), "", "answer 5")
	was(t, c.fetch("GET", "/x?y=1", "Cache-Control: no-cache\r\n"), "miss", "answer 6")
	was(t, c.fetch("GET", "/x?y=1", "Cache-Control: max-age=60\r\n"), "hit", "answer 6")
	for _, lines := range []string{"If-None-Match: \"v0\", W/\"v1\"\r\n", "If-None-Match: \"v0\"\r\nIf-None-Match: \"v1\"\r\n", "If-None-Match: *\r\n"} {
		not := c.fetch("GET", "/x?y=1", lines)
		if was(t, not, "hit", ""); not.status() != 304 || not.get("ETag") != `"v1"` || not.get("Content-Type") != "" || not.get("X-Own") != "kept" {
			t.Errorf("%s %v to %q", not.start, not.fields, lines)
		}
	}
	was(t, c.fetch("GET", "/x?y=1", "If-None-Match: \"v2\"\r\n"), "hit", "answer 6")
	if m := c.fetch("GET", "/none", "Cache-Control: only-if-cached\r\n"); m.status() != 504 || m.get("X-Weir-Cache") != "miss" {
		t.Errorf("only-if-cached: %s", m.start)
	}
	// HTTP/1.0, and a connection that ends.
	c.send("GET /x?y=1 HTTP/1.0\r\nHost: h\r\n\r\n")
	was(t, c.answer("GET"), "hit", "answer 6")
	c.closed()
	c = r.dial(t)
	c.send(strings.Repeat("GET /x?y=1 HTTP/1.1\r\nHost: h\r\n\r\n", 20) + "GET /x?y=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	for range 21 {
		was(t, c.answer("GET"), "hit", "answer 6")
	}
	c.closed()
	st, _ := r.Route("all")
	if st.Cache == nil || st.Cache.Entries != 3 || st.Cache.Hits != 29 || st.Cache.Misses != 6 || st.Cache.Bypassed != 2 || st.Cache.Bytes == 0 {
		t.Errorf("status %+v", st.Cache)
	}
	m := r.metrics(t)
	if n := sum(m, "weir_cache_requests_total", `result="hit"`, `route="all"`); n != 29 {
		t.Errorf("%v hits counted", n)
	}
	if n := sum(m, "weir_requests_total", `code="304"`); n != 3 {
		t.Errorf("%v requests with 304 counted", n)
	}
}

// TestEdgeCachePost: what makes a difference between two requests for an inference.
func TestEdgeCachePost(t *testing.T) {
	s := backendtest.NewServer(t, counting())
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	c := r.dial(t)
	seen := map[string]string{}
	for _, q := range [][2]string{
		{"[1]", ""}, {"[2]", ""}, {"[1]", "Content-Type: application/json\r\n"}, {"[1]", "Accept: text/csv\r\n"}, {"[1]", "Inference-Header-Content-Length: 2\r\n"},
		{"[1]", "Content-Encoding: identity\r\n"}, {"[1]", "Authorization: Bearer alice\r\n"}, {"[1]", "Authorization: Bearer bob\r\n"}, {"[1]", "Cookie: s=1\r\n"},
		{"[1]", "X-API-Key: k\r\n"}, {"", ""}, {strings.Repeat("x", 1<<20), ""},
	} {
		body := string(c.predict(q[0], q[1]).body)
		if other, ok := seen[body]; ok {
			t.Errorf("%q was answered as %q", q, other)
		}
		seen[body] = fmt.Sprint(q)
		was(t, c.predict(q[0], q[1]+"X-Other: makes none\r\n"), "hit", body)
	}
	was(t, c.predict(strings.Repeat("x", 1<<20+1), ""), "", fmt.Sprint("answer ", len(seen)))
	chunks := "POST /predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n"
	c.send(chunks + "X-Sum: 1\r\n\r\n")
	was(t, c.answer("POST"), "", fmt.Sprint("answer ", len(seen)+1))
	c.send(chunks + "\r\n")
	was(t, c.answer("POST"), "hit", "answer 0")
	if n := s.Counts().Requests; n != int64(len(seen)+2) {
		t.Errorf("%d requests reached the endpoint, want %d", n, len(seen)+2)
	}
}

// TestEdgeCacheNotKept: answers that are not kept, and those that are although they come in another way.
func TestEdgeCacheNotKept(t *testing.T) {
	f := func(name, value string) backendtest.Behaviour {
		return backendtest.Behaviour{Body: []byte("x"), Header: []backendtest.Field{{Name: name, Value: value}}}
	}
	large := aCache().MaxObject
	for name, c := range map[string]struct {
		b    backendtest.Behaviour
		want string
	}{
		"plain":          {backendtest.Behaviour{Body: []byte("x")}, "hit"},
		"chunked":        {backendtest.Behaviour{BodySize: 100_000, Chunked: true}, "hit"},
		"large":          {backendtest.Behaviour{BodySize: int64(large)}, "hit"},
		"too large":      {backendtest.Behaviour{BodySize: int64(large) + 1}, "miss"},
		"chunks, large":  {backendtest.Behaviour{BodySize: int64(large) + 1, Chunked: true}, "miss"},
		"trailers":       {backendtest.Behaviour{Body: []byte("x"), Chunked: true, Trailers: []backendtest.Field{{Name: "X-T", Value: "1"}}, Header: []backendtest.Field{{Name: "Trailer", Value: "X-T"}}}, "miss"},
		"until close":    {backendtest.Behaviour{Body: []byte("x"), UntilClose: true}, "miss"},
		"404":            {backendtest.Behaviour{Status: 404, Body: []byte("x")}, "hit"},
		"500":            {backendtest.Behaviour{Status: 500, Body: []byte("x")}, "miss"},
		"302":            {backendtest.Behaviour{Status: 302}, "miss"},
		"no-store":       {f("Cache-Control", "no-store"), "miss"},
		"private":        {f("Cache-Control", "max-age=60, Private"), "miss"},
		"no-cache":       {f("cache-control", "no-cache"), "miss"},
		"max-age=0":      {f("Cache-Control", "max-age=0"), "miss"},
		"s-maxage":       {f("Cache-Control", "max-age=0, s-maxage=60"), "hit"},
		"expired":        {f("Expires", "0"), "miss"},
		"set-cookie":     {f("Set-Cookie", "s=1"), "miss"},
		"vary *":         {f("Vary", "Accept, *"), "miss"},
		"old":            {backendtest.Behaviour{Body: []byte("x"), Header: []backendtest.Field{{Name: "Age", Value: "61"}, {Name: "Cache-Control", Value: "max-age=60"}}}, "miss"},
		"an event":       {f("Content-Type", "text/event-stream; charset=utf-8"), "miss"},
		"breaks off":     {backendtest.Behaviour{Body: []byte("12345"), Fault: backendtest.FaultCloseMidBody, FaultAfter: 2}, ""},
		"chunks, breaks": {backendtest.Behaviour{BodySize: 100_000, Chunked: true, Fault: backendtest.FaultCloseMidBody, FaultAfter: 50_000}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := backendtest.NewServer(t, c.b)
			r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache()), route: "retry: off\n"})
			if c.want == "" {
				for range 2 {
					cl := r.dial(t)
					cl.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
					if _, _, err := cl.readResponse("GET"); err == nil {
						t.Error("the answer is whole")
					}
				}
				eventually(t, "the second request", func() bool { return s.Counts().Requests == 2 })
				return
			}
			first := r.dial(t).get("/x")
			second := r.dial(t).get("/x")
			if second.get("X-Weir-Cache") != c.want || string(second.body) != string(first.body) || second.status() != first.status() {
				t.Errorf("%s %v, %d bytes; the first was %s with %d bytes", second.start, second.fields, len(second.body), first.start, len(first.body))
			}
		})
	}
}

func TestEdgeCacheVary(t *testing.T) {
	s := backendtest.NewServer(t, counting(backendtest.Field{Name: "Vary", Value: "Accept-Language, X-Kind"}))
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	c := r.dial(t)
	for n, lines := range []string{"", "Accept-Language: de\r\n", "Accept-Language: fr\r\n", "Accept-Language: de\r\nX-Kind: a\r\n", "Accept-Language: de\r\nX-Kind: a\r\nX-Kind: b\r\n"} {
		was(t, c.fetch("GET", "/x", lines), "miss", fmt.Sprint("answer ", n))
	}
	was(t, c.fetch("GET", "/x", "X-Kind: a\r\nAccept-Language:   de\r\n"), "hit", "answer 3")
	was(t, c.fetch("GET", "/x", "accept-language: fr\r\n"), "hit", "answer 2")
}

// TestEdgeCacheVarySent: what an endpoint varies by is what it sees, whoever wrote it.
func TestEdgeCacheVarySent(t *testing.T) {
	s := backendtest.NewServer(t, counting(backendtest.Field{Name: "Vary", Value: "X-Kind, X-Real-IP"}))
	r := start(t, setup{endpoints: []string{s.Addr()}, top: "trusted_proxies: [127.0.0.1]\n", change: func(c *config.Config) {
		c.Routes[0].Cache = aCache()
		c.Routes[0].Headers.Request.Set = []config.Header{{Name: "X-Kind", Value: "same"}}
	}})
	c := r.dial(t)
	was(t, c.fetch("GET", "/x", "X-Forwarded-For: 192.0.2.1\r\nX-Kind: a\r\n"), "miss", "answer 0")
	was(t, c.fetch("GET", "/x", "X-Forwarded-For: 192.0.2.2\r\nX-Kind: a\r\n"), "miss", "answer 1")
	was(t, c.fetch("GET", "/x", "X-Forwarded-For: 192.0.2.1\r\nX-Kind: b\r\n"), "hit", "answer 0")
}

// TestEdgeCacheCredentials: whose answers are whose.
func TestEdgeCacheCredentials(t *testing.T) {
	for mode, want := range map[string][2]string{
		config.CacheSeparate: {"miss answer 1", "hit answer 0"}, config.CacheShared: {"hit answer 0", "hit answer 0"}, config.CacheBypass: {" answer 1", " answer 2"},
	} {
		for _, field := range []string{"Authorization: Bearer %s\r\n", "Cookie: s=%s\r\n", "x-api-key: %s\r\n"} {
			s := backendtest.NewServer(t, counting())
			cfg := aCache()
			cfg.Credentials = mode
			r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg)})
			c := r.dial(t)
			alice, bob := fmt.Sprintf(field, "alice"), fmt.Sprintf(field, "bob")
			c.fetch("GET", "/x", alice)
			got := [2]string{}
			for i, who := range []string{bob, alice} {
				m := c.fetch("GET", "/x", who)
				got[i] = m.get("X-Weir-Cache") + " " + string(m.body)
			}
			if got != want {
				t.Errorf("%s, %q: %q, want %q", mode, field, got, want)
			}
			if m := c.fetch("GET", "/x", ""); mode != config.CacheShared && string(m.body) == "answer 0" {
				t.Errorf("%s, %q: alice's answer went to nobody in particular", mode, field)
			}
		}
	}
}

// TestEdgeCacheKey: parts that the configuration adds to the key.
func TestEdgeCacheKey(t *testing.T) {
	s := backendtest.NewServer(t, counting())
	cfg := aCache()
	cfg.Credentials = config.CacheShared
	cfg.Key = []config.Source{{Kind: "header", Name: "X-Tenant"}, {Kind: "cookie", Name: "plan"}}
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg)})
	c := r.dial(t)
	lines := []string{"", "X-Tenant: a\r\n", "X-Tenant: b\r\n", "Cookie: plan=a\r\n", "X-Tenant: a\r\nCookie: q=1; plan=a\r\n"}
	for n, l := range lines {
		was(t, c.fetch("GET", "/x", l), "miss", fmt.Sprint("answer ", n))
	}
	was(t, c.fetch("GET", "/x", "X-Tenant: a\r\nCookie: plan=a; q=2\r\n"), "hit", "answer 4")
	c.send("GET /x HTTP/1.1\r\nHost: H\r\n\r\n")
	was(t, c.answer("GET"), "hit", "answer 0")
	c.send("GET /x HTTP/1.1\r\nHost: other\r\n\r\n")
	was(t, c.answer("GET"), "miss", fmt.Sprint("answer ", len(lines)))
	c.send("GET http://h/x HTTP/1.1\r\nHost: other\r\n\r\n")
	was(t, c.answer("GET"), "hit", "answer 0")
}

// TestEdgeCacheVariants: no variant is answered for by another one, unless that is wanted.
func TestEdgeCacheVariants(t *testing.T) {
	for _, shared := range []bool{false, true} {
		blue, green := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("blue")}), backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("green")})
		cfg := aCache()
		cfg.SharedByVariants = shared
		r := start(t, setup{endpoints: []string{blue.Addr()}, change: func(c *config.Config) {
			second := c.Pools[0]
			second.Name, second.Endpoints = "green", []config.Endpoint{{Address: green.Addr(), Weight: 1}}
			c.Pools = append(c.Pools, second)
			c.Routes[0].Split = []config.Variant{{Pool: "blue", Weight: 1}, {Pool: "green", Weight: 1}}
			c.Routes[0].Cache = cfg
		}})
		c := r.dial(t)
		seen := map[string]int{}
		for range 64 {
			m := c.get("/x")
			if m.get("X-Weir-Variant") != string(m.body) {
				t.Fatalf("X-Weir-Variant %q with the answer of %q", m.get("X-Weir-Variant"), m.body)
			}
			seen[string(m.body)]++
		}
		if want := map[bool]int{true: 1, false: 2}[shared]; len(seen) != want || blue.Counts().Requests+green.Counts().Requests != int64(want) {
			t.Errorf("shared %v: answers %v, %d requests reached endpoints", shared, seen, blue.Counts().Requests+green.Counts().Requests)
		}
	}
}
