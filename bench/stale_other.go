//go:build !unix

package bench

// readable cannot tell without reading; a closed connection shows as a reset.
func (c *conn) readable() bool { return false }
