package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeCacheUnsafe: what changes a target ends its answers, also those on their way.
func TestEdgeCacheUnsafe(t *testing.T) {
	h := newHeld(backendtest.Behaviour{})
	n := make(chan int, 1)
	n <- 0
	s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
		if q.Method != "GET" {
			return backendtest.Behaviour{Status: map[string]int{"/fails": 500}[q.Target]}
		}
		k := <-n
		n <- k + 1
		if q.Get("X-Slow") != "" {
			return backendtest.Behaviour{Body: []byte(fmt.Sprint("answer ", k)), LatencyFunc: h.wait}
		}
		return backendtest.Behaviour{Body: []byte(fmt.Sprint("answer ", k))}
	}})
	cfg := aCache()
	cfg.Methods = []string{"GET"}
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(cfg)})
	c := r.dial(t)
	answers := 0
	for _, method := range []string{"PUT", "DELETE", "PATCH", "POST"} {
		was(t, c.fetch("GET", "/x", ""), "miss", fmt.Sprint("answer ", answers))
		was(t, c.fetch("GET", "/x", ""), "hit", fmt.Sprint("answer ", answers))
		answers++
		was(t, c.fetch(method, "/x", "Content-Length: 0\r\n"), "", "")
	}
	was(t, c.fetch("GET", "/fails", ""), "miss", "answer 4")
	was(t, c.fetch("PUT", "/fails", "Content-Length: 0\r\n"), "", "")
	was(t, c.fetch("GET", "/fails", ""), "hit", "answer 4")
	slow := r.dial(t)
	slow.send("GET /x HTTP/1.1\r\nHost: h\r\nX-Slow: 1\r\n\r\n")
	s.Await("the slow request", func(n backendtest.Counts) bool { return n.Requests >= 11 })
	was(t, c.fetch("PUT", "/x", "Content-Length: 0\r\n"), "", "")
	was(t, c.fetch("GET", "/x", ""), "miss", "answer 6") // and does not wait for the slow one
	close(h.release)
	was(t, slow.answer("GET"), "miss", "answer 5")
	was(t, c.fetch("GET", "/x", ""), "hit", "answer 6")
}

func TestEdgeCachePurge(t *testing.T) {
	s := backendtest.NewServer(t, counting())
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	c := r.dial(t)
	targets := []string{"/", "/a", "/a?q=1", "/a/b", "/ab", "/a%2Fb", "/./a/b?c"}
	fill := func() {
		for _, target := range targets {
			if m := c.get(target); m.get("X-Weir-Cache") == "" {
				t.Fatal(m.fields)
			}
		}
	}
	gone := func() (paths []string) {
		for _, target := range targets {
			if m := c.fetch("GET", target, "Cache-Control: only-if-cached\r\n"); m.status() == 504 {
				paths = append(paths, target)
			}
		}
		return paths
	}
	for _, q := range []struct {
		path  string
		below bool
		gone  []string
	}{
		{"/a", false, []string{"/a", "/a?q=1"}},
		{"/a", true, []string{"/a", "/a?q=1", "/a/b", "/./a/b?c"}},
		{"/a/", true, []string{"/a/b", "/./a/b?c"}},
		{"//a/./b", false, []string{"/a/b", "/./a/b?c"}},
		{"/none", true, nil},
		{"/", false, []string{"/"}},
		{"/", true, targets},
		{"", false, targets},
	} {
		fill()
		n, err := r.PurgeCache("all", q.path, q.below)
		if got := gone(); err != nil || n != len(q.gone) || !slices.Equal(got, q.gone) {
			t.Errorf("purge of %q, %v: %d (%v), gone %q; want %q", q.path, q.below, n, err, got, q.gone)
		}
	}
	if _, err := r.PurgeCache("none", "", false); err == nil {
		t.Error("the cache of an unknown route was purged")
	}
	if _, err := r.PurgeCache("all", "relative", false); err == nil {
		t.Error("a relative path was purged")
	}
}

// TestEdgeCacheReload: what is kept stays where the configuration changes, as far as it has room and was kept by
// the same rules.
func TestEdgeCacheReload(t *testing.T) {
	s := backendtest.NewServer(t, counting())
	r := start(t, setup{endpoints: []string{s.Addr()}, change: cachedBy(aCache())})
	apply := func(change func(*config.Cache)) {
		t.Helper()
		cfg := parse(t, r.yaml)
		cfg.Routes[0].Cache = aCache()
		change(cfg.Routes[0].Cache)
		cfg.Routes[0].Timeouts.Total += time.Second * time.Duration(r.Generation()) // another configuration, whatever else is
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	c := r.dial(t)
	c.get("/x")
	apply(func(c *config.Cache) { c.TTL, c.MaxBytes = c.TTL[:1], c.MaxBytes/2 })
	was(t, c.get("/x"), "hit", "answer 0")
	apply(func(c *config.Cache) { c.Credentials = config.CacheShared })
	was(t, c.get("/x"), "miss", "answer 1")
	apply(func(*config.Cache) {})
	was(t, c.get("/x"), "hit", "answer 0")
	apply(func(c *config.Cache) { c.MaxBytes = 100 })
	was(t, c.get("/x"), "miss", "answer 2")
	was(t, c.get("/x"), "miss", "answer 3")
	if st, _ := r.Route("all"); st.Cache.Entries != 0 || st.Cache.Bytes != 0 || st.Cache.Evictions != 2 || st.Cache.Hits != 2 {
		t.Errorf("%+v", st.Cache)
	}
}

// TestEdgeCacheCompressed: what is kept is what the endpoint has sent; each client gets it as it takes it.
func TestEdgeCacheCompressed(t *testing.T) {
	text := strings.Repeat("so much to say ", 5000)
	for _, chunked := range []bool{false, true} {
		s := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte(text), Chunked: chunked, Header: []backendtest.Field{{Name: "Content-Type", Value: "text/plain"}, {Name: "ETag", Value: `"1"`}}})
		r := start(t, setup{endpoints: []string{s.Addr()}, change: func(c *config.Config) {
			c.Routes[0].Cache = aCache()
			c.Routes[0].Compress = &config.Compress{Encodings: encodings, Types: []string{"text/*"}, MinSize: 64}
		}})
		c := r.dial(t)
		for n, encoding := range []string{"gzip", "", "gzip", "zstd", "br"} {
			m := c.fetch("GET", "/x", "Accept-Encoding: "+encoding+"\r\n")
			body, err := decode(t, m.get("Content-Encoding"), m.body)
			if err != nil || string(body) != text || m.get("Content-Encoding") != encoding || !strings.Contains(m.get("Vary"), "Accept-Encoding") {
				t.Errorf("%q: %v, %d bytes (%v)", encoding, m.fields, len(body), err)
			}
			if want := map[bool]string{true: "miss", false: "hit"}[n == 0]; m.get("X-Weir-Cache") != want || m.get("X-Weir-Variant") != "blue" || (m.get("Age") == "") != (n == 0) {
				t.Errorf("%q: %v, want a %s", encoding, m.fields, want)
			}
		}
		if m := c.fetch("GET", "/x", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"1\"\r\n"); m.status() != 304 || m.get("ETag") != `W/"1"` {
			t.Errorf("%s %v", m.start, m.fields)
		}
	}
}
