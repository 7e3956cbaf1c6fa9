//go:build !unix

package bench

// stale cannot tell without reading; a closed connection shows as a reset.
func (c *conn) stale() bool { return false }
