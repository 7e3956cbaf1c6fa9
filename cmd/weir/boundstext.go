package main

import (
	"fmt"

	"weir/proxy"
)

// underBound says how much of a bound is used.
func underBound(what string, limit, inUse, queued int, refused uint64) string {
	return fmt.Sprintf("%s: %d of %d under way, %d queued, %s refused", what, inUse, limit, queued, count(refused, 8))
}

// routeBounds are the lines on the bounds of a route.
func routeBounds(c *proxy.RouteConcurrency) (lines []string) {
	if c == nil {
		return nil
	}
	if k := c.Key; k != nil {
		lines = append(lines, fmt.Sprintf("concurrency by key: %d under way of %d keys, at most %d each, %d queued, %s refused",
			k.InUse, k.Keys, k.Limit, k.Queued, count(k.Refused, 8)))
	}
	if t := c.Total; t != nil {
		lines = append(lines, underBound("concurrency", t.Limit, t.InUse, t.Queued, t.Refused))
	}
	return lines
}

// poolBound is the line on the bound of a pool.
func poolBound(c *proxy.PoolConcurrency) string {
	text := underBound("concurrency", c.Limit, c.InUse, c.Queued, c.Refused)
	if c.Adaptive != nil {
		text += ", adaptive"
	}
	return text
}

// breakerLine is the line on a circuit breaker.
func breakerLine(b *proxy.BreakerStatus) (text, colour string) {
	state, colour := "closed", ""
	if b.Open {
		state, colour = "open", red
	}
	return fmt.Sprintf("circuit breaker %s: %d requests, %d pending, %d retries, %s refused", state, b.Requests, b.Pending, b.Retries, count(b.Refused, 8)), colour
}
