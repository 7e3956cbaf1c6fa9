package proxy

import (
	"fmt"
	"testing"

	"weir/config"
)

// alikeRoutes are n routes of one kind, and a request for the last of them.
func alikeRoutes(kind string, n int) (routes []config.Route, host, path string, header func(string) []byte) {
	host, path = "ml.example.com", "/v1/predict"
	last := n - 1
	for i := range n {
		var r config.Route
		switch kind {
		case "exact":
			r = routeOf("-", fmt.Sprintf("=/v1/models/m%d/predict", i))
			path = fmt.Sprintf("/v1/models/m%d/predict", last)
		case "prefix":
			r = routeOf("-", fmt.Sprintf("/v1/models/m%d", i))
			path = fmt.Sprintf("/v1/models/m%d/versions/3/infer", last)
		case "host":
			r = routeOf(fmt.Sprintf("m%d.example.com", i), "-")
			host = fmt.Sprintf("m%d.example.com", last)
		case "wildcard":
			r = routeOf(fmt.Sprintf("*.m%d.example.com", i), "-")
			host = fmt.Sprintf("eu.m%d.example.com", last)
		case "regex":
			r = routeOf("-", fmt.Sprintf("~^/v[0-9]+/models/m%d/", i))
			path = fmt.Sprintf("/v1/models/m%d/infer", last)
		case "headers":
			r = routeOf("-", "=/v1/predict", fmt.Sprintf("X-Model:m%d", i))
		}
		routes = append(routes, r)
	}
	head := []byte(headerLines(10) + fmt.Sprintf("X-Model: m%d\r\n", last))
	return routes, host, path, func(name string) []byte { return lookup(head, name) }
}

// TestMatchCostOfEveryKind: by host, exact path and prefix a match costs as much among 1,000 routes as
// among 10. Regular expressions and headers of one path are tried in turn, one step for each route.
func TestMatchCostOfEveryKind(t *testing.T) {
	cost := func(kind string, n int) int {
		routes, host, path, header := alikeRoutes(kind, n)
		index, cost := newRouter(routes).find([]byte(host), []byte(path), []byte("POST"), header)
		if index != n-1 {
			t.Fatalf("%s among %d: matched %d, want the last", kind, n, index)
		}
		return cost
	}
	for _, kind := range []string{"exact", "prefix", "host", "wildcard"} {
		if few, many := cost(kind, 10), cost(kind, 1000); few != many || many > 8 {
			t.Errorf("%s: %d steps among 10 routes, %d among 1,000; want the same and at most 8", kind, few, many)
		}
	}
	for _, kind := range []string{"regex", "headers"} {
		if few, many := cost(kind, 10), cost(kind, 1000); many-few != 990 {
			t.Errorf("%s: %d steps among 10 routes, %d among 1,000; want one more for each route", kind, few, many)
		}
	}
}

// TestRoutesInARowAskForTheirHeaderOnce: reading the head again for each would cost more than all else.
func TestRoutesInARowAskForTheirHeaderOnce(t *testing.T) {
	routes, host, path, header := alikeRoutes("headers", 1000)
	asked := 0
	index := newRouter(routes).match([]byte(host), []byte(path), []byte("POST"), func(name string) []byte {
		asked++
		return header(name)
	})
	if index != 999 || asked != 1 {
		t.Errorf("matched %d after asking %d times, want 999 after once", index, asked)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, kind := range []string{"exact", "prefix", "host", "wildcard", "regex", "headers"} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				routes, host, path, header := alikeRoutes(kind, n)
				r, h, p, method := newRouter(routes), []byte(host), []byte(path), []byte("POST")
				b.ReportAllocs()
				for b.Loop() {
					if r.match(h, p, method, header) != n-1 {
						b.Fatal("not the last")
					}
				}
			})
		}
	}
}
