package config

import (
	"fmt"
	"strings"
	"testing"
)

// largeFile is a file of this many routes, and pools of ten endpoints.
func largeFile(routes, pools int) []byte {
	var b strings.Builder
	b.WriteString("listeners: [{address: \":8080\"}]\npools:\n")
	for i := range pools {
		fmt.Fprintf(&b, "  pool-%d:\n    version: v1\n    endpoints:\n", i)
		for k := range 10 {
			fmt.Fprintf(&b, "      - \"10.%d.%d.%d:8001\"\n", i/250, i%250, 1+k)
		}
	}
	b.WriteString("routes:\n")
	for i := range routes {
		fmt.Fprintf(&b, "  - name: route-%d\n    match: {path_prefix: /models/m%d}\n    split: {pool-%d: 90, pool-%d: 10}\n    affinity: {key: \"header:X-User-ID\"}\n",
			i, i, i%pools, (i+1)%pools)
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, routes := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(routes), func(b *testing.B) {
			data := largeFile(routes, routes)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse("weir.yaml", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDiff compares what two files say: the same, one weight, or the version of every pool.
func BenchmarkDiff(b *testing.B) {
	for _, routes := range []int{10, 100, 1000} {
		text := string(largeFile(routes, routes))
		old := parseDiff(b, text)
		for _, c := range []struct {
			name, from, to string
			times, want    int
		}{
			{"same", "", "", 0, 0},
			{"one_route", "pool-0: 90", "pool-0: 50", 1, 1},
			{"all_pools", "version: v1", "version: v2", -1, routes},
			{"all_endpoints", ":8001", ":8002", -1, 20 * routes},
		} {
			b.Run(fmt.Sprint(routes, "/", c.name), func(b *testing.B) {
				next := parseDiff(b, strings.Replace(text, c.from, c.to, c.times))
				b.ReportAllocs()
				for b.Loop() {
					if got := len(Diff(old, next)); got != c.want {
						b.Fatalf("%d differences, want %d", got, c.want)
					}
				}
			})
		}
	}
}
