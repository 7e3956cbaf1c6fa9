package proxy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/config"
	"weir/proxy/enginetest"
)

// routeOf writes a route as "host path", where path is =/exact, /prefix, ~regex or "-".
func routeOf(host, path string, conditions ...string) config.Route {
	m := config.Match{Host: strings.Trim(host, "-")}
	switch path[0] {
	case '=':
		m.Path = path[1:]
	case '~':
		m.PathRegex = &config.Regexp{Regexp: regexp.MustCompile(path[1:])}
	case '/':
		m.PathPrefix = path
	}
	for _, c := range conditions {
		if name, value, ok := strings.Cut(c, ":"); ok {
			m.Headers = append(m.Headers, config.Header{Name: name, Value: value})
		} else {
			m.Methods = append(m.Methods, c)
		}
	}
	return config.Route{Name: strings.Join(append([]string{host, path}, conditions...), " "), Match: m}
}

func headerFunc(h map[string]string) func(string) []byte {
	return func(name string) []byte {
		for k, v := range h {
			if strings.EqualFold(k, name) {
				return []byte(v)
			}
		}
		return nil
	}
}

func TestMatchOrder(t *testing.T) {
	routes := []config.Route{
		routeOf("-", "-"),
		routeOf("-", "~^/api/v[0-9]+/"),
		routeOf("-", "~/v2/"),
		routeOf("-", "/api"),
		routeOf("-", "/api/v1/models/"),
		routeOf("-", "=/api/v1"),
		routeOf("-", "=/api/v1", "POST"),
		routeOf("-", "=/api/v1", "POST", "X-Tenant:acme"),
		routeOf("-", "=/slash/"),
		routeOf("ml.example.com", "/api"),
		routeOf("ml.example.com", "=/only-get", "GET"),
		routeOf("*.example.com", "/api/v1"),
		routeOf("*.ml.example.com", "-"),
		routeOf("[2001:db8::1]", "=/six"),
		routeOf("-", "=/a%2fb c"),
		routeOf("-", "=/empty", "X-Empty:"),
		routeOf("-", "=/methods", "GET", "HEAD"),
		routeOf("-", "=/methods", "X-A:1", "X-B:2"),
	}
	for _, c := range []struct {
		request string // METHOD host path [header:value…]
		want    string // name of the route
	}{
		{"GET h /nothing", "- -"},
		{"GET h /api", "- /api"},
		{"GET h /api/", "- /api"},
		{"GET h /api/x", "- /api"},
		{"GET h /apix", "- -"},
		{"GET h /api/v1/models", "- /api/v1/models/"},
		{"GET h /api/v1/models/m/infer", "- /api/v1/models/"},
		{"GET h /api/v1/modelsx", "- /api"},
		{"GET h /x/v2/y", "- ~/v2/"},
		{"GET h /api/v1", "- =/api/v1"},
		{"POST h /api/v1", "- =/api/v1 POST"},
		{"post h /api/v1", "- =/api/v1"},
		{"POST h /api/v1 x-tenant:acme", "- =/api/v1 POST X-Tenant:acme"},
		{"POST h /api/v1 x-tenant:Acme", "- =/api/v1 POST"},
		{"GET h /slash", "- -"},
		{"GET h /slash/", "- =/slash/"},
		{"GET ml.example.com /api/v1", "ml.example.com /api"},
		{"GET ML.Example.COM:8080 /api/v1", "ml.example.com /api"},
		{"GET ml.example.com. /api/v1", "ml.example.com /api"},
		{"GET ml.example.com.:80 /api/v1", "ml.example.com /api"},
		{"GET ml.example.com /only-get", "ml.example.com =/only-get GET"},
		{"POST ml.example.com /only-get", "- -"},
		{"GET a.example.com /api/v1/x", "*.example.com /api/v1"},
		{"GET a.b.example.com /api/v1", "*.example.com /api/v1"},
		{"GET a.ml.example.com /api/v1", "*.ml.example.com -"},
		{"GET .example.com /api/v1", "- =/api/v1"},
		{"GET example.com /api/v1", "- =/api/v1"},
		{"GET badexample.com /api/v1", "- =/api/v1"},
		{"GET [2001:DB8::1]:443 /six", "[2001:db8::1] =/six"},
		{"GET [2001:db8::2] /six", "- -"},
		{"GET h /empty", "- -"},
		{"GET h /empty x-empty:", "- =/empty X-Empty:"},
		{"GET h /methods x-a:1 x-b:2", "- =/methods X-A:1 X-B:2"},
		{"GET h /methods x-a:1", "- =/methods GET HEAD"},
		{"PUT h /methods x-a:1", "- -"},
		{"GET " + strings.Repeat("a", 300) + ".example.com /api/v1", "- =/api/v1"},
	} {
		t.Run(c.request, func(t *testing.T) {
			f := strings.Fields(c.request)
			h := map[string]string{}
			for _, field := range f[3:] {
				name, value, _ := strings.Cut(field, ":")
				h[name] = value
			}
			got := newRouter(routes).match([]byte(f[1]), []byte(f[2]), []byte(f[0]), headerFunc(h))
			if got < 0 || routes[got].Name != c.want {
				t.Errorf("matched %d, want %q", got, c.want)
			}
		})
	}
}

func TestMatchDecodedPath(t *testing.T) {
	r := newRouter([]config.Route{routeOf("-", "=/a%2fb c"), routeOf("-", "=/100%"), routeOf("-", "/caf\u00e9")})
	for target, want := range map[string]int{
		"/a%2Fb%20c":        0,
		"/a%2fb%20c?x=1":    0,
		"/a/b%20c":          -1,
		"/100%25":           1,
		"/caf%C3%A9/menu":   2,
		"/x/../caf%c3%a9":   2,
		"/caf%25C3%25A9":    -1,
		"/caf%C3%A9-lounge": -1,
	} {
		path, ok := normalisePath(nil, []byte(target))
		if !ok {
			t.Fatalf("normalisePath(%q) refused", target)
		}
		if got := r.match([]byte("h"), path, []byte("GET"), headerFunc(nil)); got != want {
			t.Errorf("match(%q) = %d, want %d", target, got, want)
		}
	}
}

func TestMatchNone(t *testing.T) {
	for _, routes := range [][]config.Route{nil, {routeOf("h", "=/a", "GET")}} {
		r := newRouter(routes)
		for _, host := range []string{"", "x", "h"} {
			if got := r.match([]byte(host), []byte("/a"), []byte("POST"), headerFunc(nil)); got != -1 {
				t.Errorf("%d routes, host %q: matched %d, want none", len(routes), host, got)
			}
		}
	}
}

// TestMatchOracle compares the router with a linear reading of the rules on random tables.
func TestMatchOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	hosts := []string{"-", "-", "a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"}
	paths := []string{"-", "/", "/x", "/x/", "/x/y", "/x/y/z", "/y", "=/", "=/x", "=/x/", "=/x/y", "~y", "~^/x", "~z$"}
	conditions := []string{"GET", "POST", "A:1", "B:1", "A:2"}
	for range enginetest.Scaled(2000, 400) {
		routes := make([]config.Route, rng.IntN(12))
		for i := range routes {
			var cs []string
			for range rng.IntN(4) {
				cs = append(cs, pick(conditions...))
			}
			routes[i] = routeOf(pick(hosts...), pick(paths...), cs...)
		}
		r := newRouter(routes)
		for range 20 {
			host := pick("a.com", "b.a.com", "c.b.a.com", "c.com", "com", "A.COM:80", "q", "b.A.com.")
			path := pick("/", "/x", "/x/", "/xy", "/x/y", "/x/yy", "/x/y/z", "/x/y/z/", "/y", "/q")
			method := pick("GET", "POST", "PUT")
			h := map[string]string{}
			for _, name := range []string{"A", "B"} {
				if v := pick("", "1", "2"); v != "" {
					h[name] = v
				}
			}
			got := r.match([]byte(host), []byte(path), []byte(method), headerFunc(h))
			if want := matchSlowly(routes, host, path, method, h); got != want {
				for i := range routes {
					t.Logf("%d: %s", i, routes[i].Name)
				}
				t.Fatalf("%s %s %s %v: got %d, want %d", method, host, path, h, got, want)
			}
		}
	}
}

// matchSlowly is the oracle: every route in turn, the least rank wins.
func matchSlowly(routes []config.Route, host, path, method string, h map[string]string) int {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	host = strings.TrimSuffix(host, ".")
	best, bestRank := -1, []int(nil)
	for i, r := range routes {
		rank := []int{hostRank(r.Match.Host, host), 0, 0, 0, 0, i}
		rank[1], rank[2], rank[3] = pathRank(&r.Match, path, i)
		if rank[0] < 0 || rank[1] < 0 {
			continue
		}
		if len(r.Match.Methods) > 0 {
			rank[4]--
			if !slices.Contains(r.Match.Methods, method) {
				continue
			}
		}
		ok := true
		for _, c := range r.Match.Headers {
			rank[4]--
			v, there := h[c.Name]
			ok = ok && there && v == c.Value
		}
		if ok && (best < 0 || slices.Compare(rank, bestRank) < 0) {
			best, bestRank = i, rank
		}
	}
	return best
}

// hostRank is lower for a closer match, -1 for none.
func hostRank(pattern, host string) int {
	switch {
	case pattern == "":
		return 1000
	case pattern == host:
		return 0
	case pattern[0] == '*' && strings.HasSuffix(host, pattern[1:]) && len(host) > len(pattern)-1:
		return 500 - len(pattern)
	}
	return -1
}

func pathRank(m *config.Match, path string, index int) (class, length, order int) {
	prefix := strings.TrimRight(m.PathPrefix, "/")
	switch {
	case m.Path != "":
		return cmpBool(m.Path == path, 0), 0, 0
	case m.PathPrefix != "":
		return cmpBool(path == prefix || strings.HasPrefix(path, prefix+"/"), 1), -len(prefix), 0
	case m.PathRegex != nil:
		return cmpBool(m.PathRegex.MatchString(path), 2), 0, index
	}
	return 3, 0, 0
}

func cmpBool(ok bool, class int) int {
	if ok {
		return class
	}
	return -1
}

// manyRoutes returns n routes, a third each by host, by exact path and by prefix, and requests
// for the last of each kind, for a path that no route has and for a deep path under a prefix.
func manyRoutes(n int) (routes []config.Route, requests [][2]string) {
	for i := range n {
		switch i % 3 {
		case 0:
			routes = append(routes, routeOf(fmt.Sprintf("m%d.example.com", i), "/v2/models"))
		case 1:
			routes = append(routes, routeOf("-", fmt.Sprintf("=/v1/models/m%d/predict", i)))
		case 2:
			routes = append(routes, routeOf("-", fmt.Sprintf("/v2/models/m%d", i)))
		}
	}
	last := func(kind int) int { return n - 1 - (n-1-kind)%3 }
	return routes, [][2]string{
		{fmt.Sprintf("m%d.example.com", last(0)), "/v2/models/x/infer"},
		{"ml.example.com", fmt.Sprintf("/v1/models/m%d/predict", last(1))},
		{"ml.example.com", fmt.Sprintf("/v2/models/m%d/infer", last(2))},
		{"ml.example.com", fmt.Sprintf("/v2/models/m%d", last(2)) + strings.Repeat("/x", 8000)},
		{"ml.example.com", "/favicon.ico"},
	}
}

// TestMatchCostIsFlat counts look-ups and comparisons: 1,000 routes cost no more than 10.
func TestMatchCostIsFlat(t *testing.T) {
	costs := map[int][]int{}
	for _, n := range []int{10, 1000} {
		routes, requests := manyRoutes(n)
		r := newRouter(routes)
		for i, q := range requests {
			index, cost := r.find([]byte(q[0]), []byte(q[1]), []byte("POST"), headerFunc(nil))
			if (index >= 0) != (i < 4) {
				t.Errorf("%d routes, %v: matched %d", n, q, index)
			}
			costs[n] = append(costs[n], cost)
		}
	}
	if !slices.Equal(costs[10], costs[1000]) || slices.Max(costs[1000]) > 8 {
		t.Errorf("cost at 10 routes %v, at 1,000 %v; want the same and at most 8", costs[10], costs[1000])
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	routes, requests := manyRoutes(1000)
	routes = append(routes, routeOf("*.example.com", "=/h", "POST", "X-Tenant:acme"))
	r := newRouter(routes)
	host, path, method, tenant := []byte("ML.example.com:8080"), []byte("/h"), []byte("POST"), []byte("acme")
	got := testing.AllocsPerRun(100, func() {
		if i := r.match(host, path, method, func(string) []byte { return tenant }); i != 1000 {
			t.Errorf("matched %d, want 1000", i)
		}
	})
	for _, q := range requests {
		host, path := []byte(q[0]), []byte(q[1])
		got = max(got, testing.AllocsPerRun(100, func() { r.match(host, path, method, nil) }))
	}
	if got != 0 {
		t.Errorf("%v allocations per match, want 0", got)
	}
}

// TestSortCandidates pins the tie rule: more conditions, then file order.
func TestSortCandidates(t *testing.T) {
	h := []config.Header{{Name: "A", Value: "1"}}
	cs := []candidate{{index: 0}, {index: 1, methods: []string{"GET", "POST"}}, {index: 2, headers: h}, {index: 3, methods: []string{"GET"}, headers: h}, {index: 4}}
	sortCandidates(cs)
	got := make([]int, len(cs))
	for i := range cs {
		got[i] = cs[i].index
	}
	if want := []int{3, 1, 2, 0, 4}; cmp.Compare(len(got), len(want)) != 0 || !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}
