package proxy_test

import (
	"strconv"
	"strings"
	"testing"

	"weir/backend/backendtest"
)

// from is a GET by a client that a trusted proxy names.
func from(address, more string) string {
	return "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + address + "\r\n" + more + "\r\n"
}

func rateLimited(t *testing.T, limit string) *running {
	t.Helper()
	ep := backendtest.NewServer(t, backendtest.Behaviour{})
	return start(t, setup{endpoints: []string{ep.Addr()}, top: "trusted_proxies: [127.0.0.0/8]\n", route: "rate_limit: " + limit + "\n"})
}

// admitted is how many of n such requests are not refused.
func admitted(t *testing.T, cl *client, n int, request string) (ok int) {
	t.Helper()
	for range n {
		cl.send(request)
		switch m := cl.answer("GET"); m.status() {
		case 200:
			ok++
		default:
			cl.refused(m, 429)
			if s, err := strconv.Atoi(m.get("Retry-After")); err != nil || s < 1 {
				t.Errorf("Retry-After %q", m.get("Retry-After"))
			}
		}
	}
	return ok
}

func TestEdgeRateLimit(t *testing.T) {
	r := rateLimited(t, "{rate: 1/m, burst: 3}")
	cl := r.dial(t) // kept alive over all of it
	for _, address := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		if n := admitted(t, cl, 6, from(address, "")); n != 3 {
			t.Errorf("%d requests of %s were admitted, want 3", n, address)
		}
	}
	if n := admitted(t, cl, 6, from("2001:db8::ffff:2", "")); n != 0 {
		t.Errorf("%d requests of another address in a network that has used its burst up", n)
	}
	if n := sum(r.metrics(t), "weir_rate_limited_total", `route="all"`); n != 3*3+6 {
		t.Errorf("weir_rate_limited_total: %v", n)
	}
	if n := sum(r.metrics(t), "weir_requests_total", `code="429"`, `variant=""`); n != 3*3+6 {
		t.Errorf("weir_requests_total of 429: %v", n)
	}
}

func TestEdgeRateLimitByHeader(t *testing.T) {
	r := rateLimited(t, `{key: "header:X-API-Key", rate: 1/m, burst: 2}`)
	cl := r.dial(t)
	for _, key := range []string{"alice", "bob"} {
		if n := admitted(t, cl, 4, from("192.0.2.1", "x-api-key: "+key+"\r\n")); n != 2 {
			t.Errorf("%d requests with key %q were admitted, want 2", n, key)
		}
	}
	if n := admitted(t, cl, 4, from("192.0.2.1", "")); n != 2 {
		t.Errorf("%d requests without a key were admitted, want the 2 of the address", n)
	}
	long := strings.Repeat("0123456789", 300)
	if n := admitted(t, cl, 4, from("192.0.2.1", "x-api-key: "+long+"\r\n")); n != 2 {
		t.Errorf("%d requests with a long key were admitted, want 2", n)
	}
}

// TestEdgeRateLimitReload: other figures, the same buckets; another key, new ones; off, none.
func TestEdgeRateLimitReload(t *testing.T) {
	ep := backendtest.NewServer(t, backendtest.Behaviour{})
	s := setup{endpoints: []string{ep.Addr()}, route: "rate_limit: {rate: 1/m, burst: 2}\n"}
	r := start(t, s)
	cl := r.dial(t)
	get := "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	apply := func(route string) {
		t.Helper()
		s.route = route
		if _, _, err := r.Apply(parse(t, s.render())); err != nil {
			t.Fatal(err)
		}
	}
	if n := admitted(t, cl, 3, get); n != 2 {
		t.Errorf("%d at first", n)
	}
	apply("rate_limit: {rate: 1/m, burst: 2}\ntimeouts: {idle: 7s}\n")
	if n := admitted(t, cl, 3, get); n != 0 {
		t.Errorf("a reload of something else gave %d", n)
	}
	apply("rate_limit: {rate: 1/m, burst: 5}\n")
	if n := admitted(t, cl, 6, get); n != 3 {
		t.Errorf("3 more than before at once gave %d", n)
	}
	apply("rate_limit: {rate: 100/s, burst: 1}\n")
	eventually(t, "a faster rate", func() bool { return admitted(t, cl, 1, get) == 1 })
	apply("retry: off\n")
	if n := admitted(t, cl, 6, get); n != 6 {
		t.Errorf("without a limit %d of 6", n)
	}
}
