package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"weir/internal/state"
	"weir/proxy"
)

// TestHistoryOfARoute looks for what concerns one route: its weights, and drains of the pools it had then.
func TestHistoryOfARoute(t *testing.T) {
	set := func(pools ...string) (s []state.Weight) {
		for _, p := range pools {
			s = append(s, state.Weight{Pool: p, Weight: 1})
		}
		return s
	}
	drain := func(pool string) []state.DrainChange { return []state.DrainChange{{Pool: pool, Draining: true}} }
	changes := []state.Change{
		{Generation: 10, Drains: drain("blue")},
		{Generation: 11, Routes: []state.RouteChange{{Route: "predict", Before: set("blue"), After: set("green")}}},
		{Generation: 12, Drains: drain("blue")},
		{Generation: 13, Drains: drain("green")},
		{Generation: 14, Drains: drain("gold")},
		{Generation: 15, Routes: []state.RouteChange{{Route: "search", Before: set("blue"), After: set("blue")}}},
		{Generation: 16, Routes: []state.RouteChange{{Route: "search", Before: set("blue")}, {Route: "predict", Before: set("green"), After: set("green", "gold")}}},
		{Generation: 17, Drains: append(drain("gold"), drain("blue")...)},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any
		switch r.URL.Path {
		case "/api/v1/history":
			answer = changes
		case "/api/v1/routes":
			answer = []proxy.RouteStatus{{Name: "rank"}}
		case "/api/v1/routes/rank": // which never changed
			answer = proxy.RouteStatus{Name: "rank", Variants: []proxy.VariantStatus{{Pool: "gold"}}}
		default:
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]string{"error": "unknown route", "code": "unknown_route"}
		}
		_ = json.NewEncoder(w).Encode(answer) // a client that went away fails the test by itself
	}))
	defer server.Close()
	for _, tt := range []struct {
		args string
		want []uint64
	}{
		{"predict", []uint64{10, 11, 13, 16, 17}},
		{"predict -n 2", []uint64{16, 17}},
		{"search", []uint64{10, 12, 15, 16}}, // gone since
		{"rank", []uint64{14, 17}},
	} {
		var out strings.Builder
		c := newCLI(&out, io.Discard, func(string) string { return "" })
		if status := c.run(append(strings.Fields("history -o json --admin "+server.URL), strings.Fields(tt.args)...)); status != exitOK {
			t.Errorf("%s: exit %d", tt.args, status)
			continue
		}
		var shown []state.Change
		if err := json.Unmarshal([]byte(out.String()), &shown); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, c := range shown {
			got = append(got, c.Generation)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: generations %v, want %v", tt.args, got, tt.want)
		}
	}
	var stderr strings.Builder
	c := newCLI(io.Discard, &stderr, func(string) string { return "" })
	if status := c.run([]string{"history", "rnak", "--admin", server.URL}); status != exitFailed || !strings.Contains(stderr.String(), fmt.Sprintf("Did you mean %q?", "rank")) {
		t.Errorf("exit %d: %s", status, stderr.String())
	}
}
