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
