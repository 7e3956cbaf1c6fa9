package main

import (
	"fmt"
	"strings"

	"weir/proxy"
)

func slower(ms float64) string {
	if ms < 0 {
		ms = -ms
		return shortMillis(&ms) + " faster"
	}
	return shortMillis(&ms) + " slower"
}

// mirrorText is a mirror in a line of the status.
func mirrorText(m *proxy.MirrorStatus) string {
	parts := []string{fmt.Sprintf("mirror: %s%% to %s, %s sent, %s skipped", number(m.Percent), m.Pool, count(m.Sent, 8), count(m.Skipped, 8))}
	if m.Agreement != nil {
		parts = append(parts, percent(*m.Agreement)+" agree")
	}
	if m.P50 != nil && m.P95 != nil {
		parts = append(parts, slower(*m.P50)+" (p95: "+slower(*m.P95)+")")
	}
	if m.ErrorsShadow+m.ErrorsPrimary > 0 {
		parts = append(parts, fmt.Sprintf("errors %s, the route's %s", count(m.ErrorsShadow, 8), count(m.ErrorsPrimary, 8)))
	}
	return strings.Join(parts, "; ")
}
