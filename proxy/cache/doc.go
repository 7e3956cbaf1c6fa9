// Package cache keeps answers by the rules of RFC 9111: which may be kept, for how long they are fresh, in how
// much memory, and who waits for the one that is on its way. It knows neither requests nor connections: what it
// is given are lines of heads, keys and times.
package cache
