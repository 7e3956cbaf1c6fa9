package aside

import "time"

const (
	maxIdle  = 8                // connections to an endpoint
	idleTime = 30 * time.Second // after which one is closed
)

// take returns the connection to an endpoint that was used last, nil when none is idle.
func (c *Client) take(address string) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.idle[address]
	n := len(list)
	if n == 0 {
		return nil
	}
	cn := list[n-1]
	list[n-1] = nil
	c.idle[address] = list[:n-1]
	return cn
}

// keep takes a connection back that is between two messages.
func (c *Client) keep(address string, cn *conn) {
	cn.since = time.Now()
	if !c.hold(address, cn) {
		_ = cn.nc.Close()
	}
}

func (c *Client) hold(address string, cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.idle[address]
	if c.closed || len(list) >= maxIdle {
		return false
	}
	if c.idle == nil {
		c.idle = map[string][]*conn{}
	}
	c.idle[address] = append(list, cn)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(idleTime, c.sweep)
	}
	return true
}

// sweep closes the connections that have been idle for long, those of endpoints that are gone among them.
func (c *Client) sweep() {
	for _, cn := range c.old(time.Now().Add(-idleTime)) {
		_ = cn.nc.Close()
	}
}

// old takes the connections that have been idle since that time or longer.
func (c *Client) old(before time.Time) (taken []*conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	left := false
	for address, list := range c.idle {
		n := 0
		for n < len(list) && !list[n].since.After(before) { // oldest first
			n++
		}
		taken = append(taken, list[:n]...)
		if n == len(list) {
			delete(c.idle, address)
			continue
		}
		c.idle[address] = append(list[:0:0], list[n:]...)
		left = true
	}
	if c.sweeper = nil; left {
		c.sweeper = time.AfterFunc(idleTime/2, c.sweep)
	}
	return taken
}
