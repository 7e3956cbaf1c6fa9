package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/config"
)

// of is a request by a client that a trusted proxy names.
func of(ip, lines string) string { return withBody("X-Forwarded-For: "+ip+"\r\n"+lines, "") }

// granted is how many of n such requests are not refused.
func granted(t *testing.T, r *running, n int, request string) (ok int) {
	t.Helper()
	cl := r.dial(t)
	for range n {
		cl.send(request)
		if m := cl.answer("POST"); m.status() == 200 {
			ok++
		} else {
			cl.refused(m, 429)
		}
	}
	return ok
}

func TestEdgeRateLimitTiers(t *testing.T) {
	r, _ := gated(t, func(c *config.Route) {
		c.RateLimit = perMinute(1, 2)
		c.RateLimit.Source, c.RateLimit.Name = config.AffinityHeader, "x-tenant"
		c.RateLimit.TierBy = config.Source{Kind: config.AffinityHeader, Name: "x-plan"}
		c.RateLimit.Tiers = []config.Tier{
			{Name: "gold", Rate: 1.0 / 60, Burst: 6, Keys: []string{"acme", "globex"}},
			{Name: "silver", Rate: 1.0 / 60, Burst: 4},
		}
	})
	for _, c := range []struct {
		lines string
		want  int
	}{
		{"X-Tenant: acme\r\n", 6},
		{"X-Tenant: globex\r\nX-Plan: silver\r\n", 6}, // the list says so, whatever it says itself
		{"X-Tenant: initech\r\nX-Plan: silver\r\n", 4},
		{"X-Tenant: hooli\r\nX-Plan: platinum\r\n", 2},
		{"X-Tenant: hooli\r\n", 0}, // the same
		{"X-Tenant: umbrella\r\n", 2},
		{"", 2},
	} {
		if n := granted(t, r, 8, of("10.0.0.1", c.lines)); n != c.want {
			t.Errorf("%q: %d, want %d", c.lines, n, c.want)
		}
	}
	cl := r.dial(t)
	cl.send(of("10.0.0.1", "X-Tenant: acme\r\n"))
	m := cl.answer("POST")
	if p, want := m.get("RateLimit-Policy"), `"gold";q=6;w=360`; p != want {
		t.Errorf("RateLimit-Policy %q, want %q", p, want)
	}
	if l := m.get("RateLimit"); l != `"gold";r=0;t=`+m.get("Retry-After") {
		t.Errorf("RateLimit %q, Retry-After %q", l, m.get("Retry-After"))
	}
}

func TestEdgeRateLimitTiersByAddress(t *testing.T) {
	r, _ := gated(t, func(c *config.Route) {
		c.RateLimit = perMinute(1, 2)
		c.RateLimit.Tiers = []config.Tier{
			{Name: "office", Rate: 1.0 / 60, Burst: 5, Keys: []string{"10.9.0.0/16", "2001:db8:1::/48"}},
			{Name: "batch", Rate: 1.0 / 60, Burst: 7, Keys: []string{"10.0.0.9"}},
		}
	})
	for ip, want := range map[string]int{"10.9.1.1": 5, "10.9.1.2": 5, "2001:db8:1:2::3": 5, "10.0.0.9": 7, "10.0.0.8": 2, "2001:db8:2::1": 2} {
		if n := granted(t, r, 8, of(ip, "")); n != want {
			t.Errorf("%s: %d, want %d", ip, n, want)
		}
	}
}

// TestEdgeRateLimitTotal: who changes keys meets the bucket of all, and who is refused there keeps its own.
func TestEdgeRateLimitTotal(t *testing.T) {
	change := func(total int) func(*config.Route) {
		return func(c *config.Route) {
			c.RateLimit = perMinute(1, 3)
			c.RateLimit.Total, c.RateLimit.TotalBurst = 1.0/60, total
		}
	}
	r, _ := gated(t, change(10))
	if n := granted(t, r, 5, of("10.0.0.1", "")); n != 3 {
		t.Errorf("%d of one client, want 3", n)
	}
	n := 0
	for ip := range 30 {
		n += granted(t, r, 1, of(fmt.Sprintf("10.0.1.%d", ip), ""))
	}
	if n != 7 { // the two refused above have taken nothing
		t.Errorf("%d of 30 clients, want the 7 that were left", n)
	}
	cl := r.dial(t)
	cl.send(of("10.0.2.1", ""))
	if m := cl.answer("POST"); m.status() != 429 || m.get("RateLimit-Policy") != `"total";q=10;w=600` || !strings.HasPrefix(m.get("RateLimit"), `"total";r=0;t=`) {
		t.Errorf("%q, policy %q, %q", m.start, m.get("RateLimit-Policy"), m.get("RateLimit"))
	}
	// 40 more for all: a client that the total had refused has its own burst.
	cfg := parse(t, r.yaml)
	change(50)(&cfg.Routes[0])
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if n := granted(t, r, 5, of("10.0.2.1", "")); n != 3 {
		t.Errorf("%d of a client that only the total had refused, want 3", n)
	}
	if n := granted(t, r, 5, of("10.0.0.1", "")); n != 0 {
		t.Errorf("a reload gave %d to a client that had used its burst", n)
	}
}

// TestEdgeRateLimitByUser: what has been verified is a key, and what has not is none.
func TestEdgeRateLimitByUser(t *testing.T) {
	iss := newIssuer(t)
	auth := &config.Auth{
		APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: file(t, "keys", "acme:first-key\nacme:second-key\nglobex:third-key\n")},
		JWT:    jwtAuth(file(t, "keys.json", iss.set)),
	}
	soon := time.Now().Add(time.Minute)
	for _, c := range []struct {
		source, name string
		lines        []string
		want         []int
	}{
		{config.AffinityAPIKey, "", []string{"X-API-Key: first-key\r\n", "X-API-Key: second-key\r\n", "X-API-Key: third-key\r\n", iss.bearer(t, "bob", soon)}, []int{3, 0, 3, 3}},
		{config.AffinityJWT, "sub", []string{iss.bearer(t, "bob", soon), iss.bearer(t, "bob", soon.Add(time.Second)), iss.bearer(t, "carol", soon), "X-API-Key: first-key\r\n"}, []int{3, 0, 3, 3}},
		{config.AffinityJWT, "tenant", []string{iss.bearer(t, "bob", soon), iss.bearer(t, "carol", soon)}, []int{3, 0}},
	} {
		r, _ := gated(t, func(route *config.Route) {
			route.Auth, route.RateLimit = auth, perMinute(1, 3)
			route.RateLimit.Source, route.RateLimit.Name = c.source, c.name
		})
		for i, lines := range c.lines {
			if n := granted(t, r, 5, of(fmt.Sprintf("10.0.0.%d", i), lines)); n != c.want[i] {
				t.Errorf("%s:%s, %.30q: %d, want %d", c.source, c.name, lines, n, c.want[i])
			}
		}
	}
	// A tier that the token names.
	r, _ := gated(t, func(route *config.Route) {
		route.Auth, route.RateLimit = auth, perMinute(1, 1)
		route.RateLimit.TierBy = config.Source{Kind: config.AffinityJWT, Name: "tenant"}
		route.RateLimit.Tiers = []config.Tier{{Name: "acme", Rate: 1.0 / 60, Burst: 4}}
	})
	if n := granted(t, r, 6, of("10.0.0.1", iss.bearer(t, "bob", soon))); n != 4 {
		t.Errorf("%d by the tier of the token, want 4", n)
	}
	if n := granted(t, r, 6, of("10.0.0.2", "X-API-Key: first-key\r\n")); n != 1 {
		t.Errorf("%d without a token, want 1", n)
	}
}

// TestEdgeRateLimitTiersReload: a tier keeps what its keys have used under its name, at other figures too.
func TestEdgeRateLimitTiersReload(t *testing.T) {
	change := func(name string, burst int) func(*config.Route) {
		return func(c *config.Route) {
			c.RateLimit = perMinute(1, 2)
			c.RateLimit.Tiers = []config.Tier{{Name: name, Rate: 1.0 / 60, Burst: burst, Keys: []string{"10.0.0.1"}}}
		}
	}
	r, _ := gated(t, change("gold", 4))
	apply := func(name string, burst int) {
		t.Helper()
		cfg := parse(t, r.yaml)
		change(name, burst)(&cfg.Routes[0])
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if n := granted(t, r, 8, of("10.0.0.1", "")); n != 4 {
		t.Errorf("%d at first, want 4", n)
	}
	before := sum(r.metrics(t), "weir_rate_limited_total")
	apply("gold", 7)
	if n := granted(t, r, 8, of("10.0.0.1", "")); n != 3 {
		t.Errorf("3 more at once gave %d", n)
	}
	apply("platinum", 7)
	if n := granted(t, r, 8, of("10.0.0.1", "")); n != 7 {
		t.Errorf("another tier gave %d, want 7", n)
	}
	if n := sum(r.metrics(t), "weir_rate_limited_total"); n != before+5+1 {
		t.Errorf("weir_rate_limited_total went from %v to %v, want 6 more", before, n)
	}
}

// TestEdgeRateLimitOfFile: what a file says comes into force, and each change of it.
func TestEdgeRateLimitOfFile(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	s := setup{endpoints: []string{ep.addr}, top: "trusted_proxies: [127.0.0.0/8]\n", route: `
affinity: {key: "json:parameters.user_id"}
rate_limit:
  key: header:X-Tenant
  rate: 1/m
  burst: 2
  cost: rows
  max_keys: 1000
  total: {rate: 1/m, burst: 20}
  tier_by: header:X-Plan
  tiers:
    gold: {rate: 1/m, burst: 6, keys: [acme]}
    silver: {rate: 1/m, burst: 4}
`}
	r := start(t, s)
	ask := func(lines string) string { return withBody(lines, `{"instances":[1,2],"parameters":{"user_id":7}}`) }
	for lines, want := range map[string]int{"X-Tenant: acme\r\n": 3, "X-Tenant: initech\r\nX-Plan: silver\r\n": 2, "X-Tenant: hooli\r\n": 1} {
		if n := granted(t, r, 4, ask(lines)); n != want {
			t.Errorf("%q: %d, want %d", lines, n, want)
		}
	}
	s.route = strings.Replace(s.route, "burst: 6", "burst: 10", 1)
	if _, _, err := r.Apply(parse(t, s.render())); err != nil {
		t.Fatal(err)
	}
	if n := granted(t, r, 4, ask("X-Tenant: acme\r\n")); n != 2 {
		t.Errorf("4 rows more gave %d requests, want 2", n)
	}
	for i := range 5 { // 16 of 20 are used
		want := 1
		if i >= 2 {
			want = 0
		}
		if n := granted(t, r, 1, ask(fmt.Sprintf("X-Tenant: t%d\r\n", i))); n != want {
			t.Errorf("tenant %d: %d, want %d: the total", i, n, want)
		}
	}
}
