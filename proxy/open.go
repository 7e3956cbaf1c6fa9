package proxy

// prepare does what comes before a connection's first request, once. It returns false where the connection has to end
// without one. What the client must send for it has to come within the header timeout.
func (c *conn) prepare() bool {
	if c.opened {
		return true
	}
	c.opened = true
	if c.listener.settings.Load().ProxyProtocol && !c.introduced() {
		return false
	}
	if s := c.listener.tls.Load(); s != nil {
		return c.secureWith(s)
	}
	return true
}

// beginIdle has the connection wait for its first request. Called with mu held.
func (c *conn) beginIdle() {
	timeouts := &c.listener.settings.Load().Timeouts
	c.idleUntil = c.listener.clock.after(min(timeouts.Header, timeouts.KeepAlive))
	c.deadline.Store(c.idleUntil)
	c.parkAt.Store(c.listener.clock.after(parkAfter))
	c.change(phaseIdle)
}
