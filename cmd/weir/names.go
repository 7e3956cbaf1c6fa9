package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"weir/proxy"
)

func routePath(route string) string { return "/api/v1/routes/" + url.PathEscape(route) }

func poolPath(pool string) string { return "/api/v1/pools/" + url.PathEscape(pool) }

func endpointPath(pool, endpoint string) string {
	return poolPath(pool) + "/endpoints/" + url.PathEscape(endpoint)
}

// checkNames refuses names that would make another path than theirs; nothing has such a name.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || name == "." || name == ".." {
			return usageError("%q is no name of a route, pool or endpoint", name)
		}
	}
	return nil
}

// meant adds to a refusal for a name the one that was probably meant; in is the route or pool that the
// names belong to, where they are not routes or pools themselves.
func (a *client) meant(ctx context.Context, err error, in string, given ...string) error {
	var e *apiError
	if !errors.As(err, &e) || e.hint != "" {
		return err
	}
	var have []string
	switch e.Code {
	case "unknown_route":
		have, given = a.routeNames(ctx), []string{in}
	case "unknown_variant", "invalid_weights":
		have = a.variantNames(ctx, in)
	case "unknown_pool":
		have, given = a.poolNames(ctx), []string{in}
	case "unknown_endpoint":
		have = a.endpointNames(ctx, in)
	}
	for _, name := range given {
		if near, ok := nearest(name, have); ok {
			e.hint = fmt.Sprintf("Did you mean %q?", near)
			break
		}
	}
	return e
}

// The names are a convenience: where they cannot be had, there are none.

func (a *client) routeNames(ctx context.Context) (names []string) {
	var routes []proxy.RouteStatus
	_ = a.call(ctx, http.MethodGet, "/api/v1/routes", nil, &routes)
	for _, r := range routes {
		names = append(names, r.Name)
	}
	return names
}

func (a *client) variantNames(ctx context.Context, route string) (names []string) {
	var r proxy.RouteStatus
	_ = a.call(ctx, http.MethodGet, routePath(route), nil, &r)
	for _, v := range r.Variants {
		names = append(names, v.Pool)
	}
	return names
}

func (a *client) poolNames(ctx context.Context) (names []string) {
	var pools []proxy.PoolStatus
	_ = a.call(ctx, http.MethodGet, "/api/v1/pools", nil, &pools)
	for _, p := range pools {
		names = append(names, p.Name)
	}
	return names
}

func (a *client) endpointNames(ctx context.Context, pool string) (names []string) {
	var p proxy.PoolStatus
	_ = a.call(ctx, http.MethodGet, poolPath(pool), nil, &p)
	for _, e := range p.Endpoints {
		names = append(names, e.Address)
	}
	return names
}

// nearest is the name that differs from what was given by the fewest slips, unless by too many for one
// to be meant or by none; else the only one that has it as a part.
func nearest(given string, names []string) (best string, ok bool) {
	least := max(2, len(given)/3) + 1
	for _, name := range names {
		if name == given {
			continue
		}
		if d := slips(strings.ToLower(given), strings.ToLower(name)); d < least && d < len(given) {
			best, least, ok = name, d, true
		}
	}
	const part = 3 // letters at least: any name has some of fewer
	if ok || len(given) < part {
		return best, ok
	}
	for _, name := range names {
		if strings.Contains(strings.ToLower(name), strings.ToLower(given)) {
			if ok || name == given {
				return "", false
			}
			best, ok = name, true
		}
	}
	return best, ok
}

// slips is how many letters are wrong, missing, too many, or swapped with the next between a and b.
func slips(a, b string) int {
	// rows of the table of distances between the beginnings of a and b: before the last, last, this
	var earlier, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		earlier, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			wrong := 1
			if a[i] == b[j] {
				wrong = 0
			}
			row[j+1] = min(last[j]+wrong, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], earlier[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
