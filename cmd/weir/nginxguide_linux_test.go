package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// TestGuideRedirect: return 301 https://$server_name$request_uri. The same.
func TestGuideRedirect(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for _, path := range []string{"/predict?a=1&b=%20", "/health", "/metrics", "/static/x.js"} {
			a := g.send("http://"+g.plain, "GET", path, "")
			g.wants(path, a.status == 301 && a.header.Get("Location") == "https://"+guideHost+path, a)
		}
		g.wants("no endpoint is asked", g.total() == 0, g.requests())
	}
}

// TestGuideHeaders: add_header … always, also on errors. The same, and weir's also on its refusals.
func TestGuideHeaders(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for _, a := range []fetched{g.ask("GET", "/health", ""), g.ask("POST", "/predict", "x"), g.ask("GET", "/metrics", "")} {
			for name, value := range map[string]string{
				"Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Frame-Options": "SAMEORIGIN",
				"X-Content-Type-Options": "nosniff", "X-XSS-Protection": "1; mode=block",
			} {
				g.wants(fmt.Sprint(a.status, " ", name), slices.Equal(a.header.Values(name), []string{value}), a.header)
			}
		}
	}
}

// TestGuideForwarded: proxy_set_header. Host, X-Real-IP and X-Forwarded-Proto are the same; nginx passes on what
// a client says in X-Forwarded-For, weir only what a trusted proxy says. weir sends them on every route, nginx
// only where the directives stand.
func TestGuideForwarded(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		a := g.ask("POST", "/predict", "x", "X-Real-IP", "6.6.6.6")
		g.wants("status", a.status == 200, a)
		for _, e := range g.endpoints {
			for _, q := range e.Requests() {
				if q.Path() != "/predict" {
					continue
				}
				for name, value := range map[string]string{
					"Host": guideHost, "X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https",
				} {
					g.wants(name, headerOf(q.Header, name) == value, q.Header)
				}
				g.wants("Connection", headerOf(q.Header, "Connection") == "", q.Header)
			}
		}
	}
}

func headerOf(fields []backendtest.Field, name string) (values string) {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			values += f.Value
		}
	}
	return values
}

// TestGuideRateLimit: limit_req burst=20 nodelay lets 21 of 40 in. So does weir; who is refused gets 503 of nginx,
// and 429 with Retry-After of weir.
func TestGuideRateLimit(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		began := time.Now()
		var statuses []int
		var last fetched
		for range 40 {
			if a := g.ask("POST", "/predict", "x"); a.status != 200 {
				last = a
				statuses = append(statuses, a.status)
			}
		}
		refilled := int(time.Since(began).Seconds()*10) + 1
		in := 40 - len(statuses)
		g.wants("admitted", in >= 21 && in <= 21+refilled, in)
		if g.weir == nil {
			g.wants("refused", last.status == 503, last)
		} else {
			g.wants("refused", last.status == 429 && last.header.Get("Retry-After") != "", last)
		}
		if n, _ := g.atOnce(30, "GET", "/health"); n[200] != 30 {
			g.wants("no limit on /health", false, n)
		}
	}
}

// TestGuideConcurrency: limit_conn 10. Of 15 requests at once 10 pass, 5 get 503; weir's say when to come back.
func TestGuideConcurrency(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{Latency: time.Second}) {
		n, one := g.atOnce(15, "POST", "/predict")
		g.wants("statuses", n[200] == 10 && n[503] == 5, n)
		g.wants("Retry-After", (one[503].header.Get("Retry-After") != "") == (g.weir != nil), one[503].header)
	}
}

// TestGuideMetrics: allow 10.0.0.0/8; deny all. The same.
func TestGuideMetrics(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		a := g.ask("GET", "/metrics", "")
		g.wants("status", a.status == 403, a)
		g.wants("no endpoint is asked", g.total() == 0, g.requests())
	}
}

// TestGuideNextUpstream: proxy_next_upstream. A GET that meets an error is sent to the next in both. A POST is not
// by nginx (it would take non_idempotent), so that the directive does nothing for /predict; weir knows that
// inference is safe to repeat.
func TestGuideNextUpstream(t *testing.T) {
	for _, b := range []backendtest.Behaviour{
		{Status: 500, Body: []byte("sick")}, {Status: 502, Body: []byte("sick")}, {Status: 503, Body: []byte("sick")},
		{Fault: backendtest.FaultResetBeforeHead}, {Fault: backendtest.FaultCloseBeforeHead},
		{Raw: []byte("HTTP/1.1 200 OK\r\nBad\x00Name: x\r\n\r\n")},
	} {
		name := fmt.Sprint(b.Status, " ", b.Fault, " ", len(b.Raw))
		for _, g := range guides(t, backendtest.Behaviour{Body: []byte("well")}) {
			b.Health.Path = "/health"
			g.endpoints[0].SetBehaviour(b)
			for range 18 { // of equals weir takes one at random
				a := g.ask("GET", "/predict", "")
				g.wants(name+": GET", a.status == 200 && a.body == "well", a)
			}
			g.wants(name+": the sick one was asked", g.endpoints[0].Counts().Requests > 0, g.requests())
		}
		for _, g := range guides(t, backendtest.Behaviour{Body: []byte("well")}) {
			b.Health.Path = "/health"
			g.endpoints[0].SetBehaviour(b)
			failed := 0
			for range 6 {
				if a := g.ask("POST", "/predict", "x"); a.status != 200 {
					failed++
				}
			}
			if g.weir != nil {
				g.wants(name+": POST", failed == 0, failed)
			} else if b.Fault == backendtest.FaultNone || b.Fault == backendtest.FaultResetBeforeHead {
				g.wants(name+": POST is not sent again", failed > 0, failed)
			}
		}
	}
}

// TestGuideMaxFails: max_fails=3 fail_timeout=30s. Both leave an endpoint alone that fails three times, and no client
// notices; nor where one refuses connections, which weir's probe would find, too.
func TestGuideMaxFails(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{Body: []byte("well")}) {
		g.endpoints[0].SetBehaviour(backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead, Health: backendtest.Health{Path: "/health"}})
		for i := range 40 {
			a := g.ask("GET", fmt.Sprintf("/static/%d", i), "") // a path of its own, and no rate limit
			g.wants("status", a.status == 200, a)
		}
		g.wants("it failed three times", g.requests()[0] == 3, g.requests())
		g.endpoints[0].Stop()
		for range 20 {
			a := g.ask("GET", "/predict", "")
			g.wants("status", a.status == 200, a)
		}
	}
}

// TestGuideLeastConn: least_conn. An endpoint that is slow gets less in both.
func TestGuideLeastConn(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{Latency: 10 * time.Millisecond}) {
		g.endpoints[0].SetBehaviour(backendtest.Behaviour{Latency: 300 * time.Millisecond, Health: backendtest.Health{Path: "/health"}})
		var all sync.WaitGroup
		for i := range 8 { // each below its rate
			all.Go(func() {
				g.from(fmt.Sprintf("127.0.0.%d", 2+i), func(g *guided) {
					for range 15 {
						if a := g.ask("GET", "/predict", ""); a.status != 200 {
							g.wants("status", false, a)
						}
					}
				})
			})
		}
		all.Wait()
		g.wants("the slow endpoint's share", g.requests()[0]*5 < g.total(), g.requests())
	}
}

// TestGuideCache: proxy_cache_valid, proxy_cache_lock, proxy_cache_use_stale. The same; weir says by X-Weir-Cache
// what it did, and keeps answers in memory.
func TestGuideCache(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{Body: []byte("script"), Latency: 100 * time.Millisecond}) {
		if n, _ := g.atOnce(50, "GET", "/static/x.js"); n[200] != 50 {
			g.wants("statuses", false, n)
		}
		g.wants("one of 50 equal requests reaches an endpoint", g.total() == 1, g.requests())
		g.behave(backendtest.Behaviour{Body: []byte("another")})
		a := g.ask("GET", "/static/x.js", "")
		g.wants("an answer of before", a.status == 200 && a.body == "script", a)
		// What is stale by its own word is used when every endpoint fails.
		g.behave(backendtest.Behaviour{Body: []byte("brief"), Header: []backendtest.Field{{Name: "Cache-Control", Value: "max-age=1"}}})
		g.ask("GET", "/static/y.js", "")
		for _, sick := range []backendtest.Behaviour{{Status: 503}, {Fault: backendtest.FaultResetBeforeHead}} {
			g.behave(sick)
			time.Sleep(1500 * time.Millisecond)
			a = g.ask("GET", "/static/y.js", "")
			g.wants("a stale answer", a.status == 200 && a.body == "brief", a)
		}
		// While a new one is fetched, others get the old one.
		time.Sleep(1500 * time.Millisecond) // what was begun before has met an endpoint that was sick
		g.behave(backendtest.Behaviour{Body: []byte("renewed"), Latency: 300 * time.Millisecond})
		before := g.total()
		n, _ := g.atOnce(10, "GET", "/static/y.js")
		g.wants("a stale answer while it is renewed", n[200] == 10, n)
		eventually(t, g.name+": the new answer", func() bool { return g.ask("GET", "/static/y.js", "").body == "renewed" })
		g.wants("one of 10 requests reaches an endpoint", g.total() == before+1, fmt.Sprint(before, " before, ", g.requests()))
		g.behave(backendtest.Behaviour{Status: 404})
		g.ask("GET", "/static/none", "")
		g.ask("GET", "/static/none", "")
		asked := 0
		for _, e := range g.endpoints {
			for _, q := range e.Requests() {
				if q.Path() == "/static/none" {
					asked++
				}
			}
		}
		g.wants("404 is not kept", asked == 2, asked)
	}
}

// TestGuideAccessLog: access_log off on /health. The same.
func TestGuideAccessLog(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		g.ask("GET", "/health", "")
		g.ask("POST", "/predict", "x")
		around := " " // a path in a line
		if g.weir != nil {
			around = `"`
		}
		eventually(t, g.name+": a line for /predict", func() bool { return strings.Contains(g.accessLog(), around+"/predict"+around) })
		g.wants("no line for /health", !strings.Contains(g.accessLog(), around+"/health"+around), g.accessLog())
	}
}

// TestGuideLocation: location /predict is a prefix of characters in nginx, of whole segments in weir; a path that
// no location has is 404 in both.
func TestGuideLocation(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for path, want := range map[string][2]int{
			"/predict": {200, 200}, "/predict/batch": {200, 200}, "/predictions": {200, 404}, "/other": {404, 404},
		} {
			a := g.ask("GET", path, "")
			i := 0
			if g.weir != nil {
				i = 1
			}
			g.wants(path, a.status == want[i], a.status)
		}
	}
}

// TestGuideHealthTimeout: proxy_read_timeout 5s on /health. Both answer 504 after that, or the answer of another
// endpoint.
func TestGuideHealthTimeout(t *testing.T) {
	if atLength(0, 1) == 0 {
		return // it takes 25 seconds
	}
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for _, e := range g.endpoints {
			e.SetBehaviour(backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead, Health: backendtest.Health{Path: "-"}})
		}
		began := time.Now()
		a := g.ask("GET", "/health", "")
		took := time.Since(began)
		g.wants("status", a.status == 504 && took >= 5*time.Second, fmt.Sprint(a.status, took))
		if g.weir != nil {
			g.wants("time", took < 8*time.Second, took)
		}
	}
}
