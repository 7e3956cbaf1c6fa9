package proxy

import "weir/proxy/h2"

// What the watch holds an HTTP/2 connection to. While it has neither a request nor something to send it is idle, for
// as long as keep_alive; frames that begin no request are no reason to keep it longer. Then its client is told to open
// no more streams, as it is when weir stops: requests under way to weir are served, or the client knows that they were
// not.

// timeHead gives what the client has begun to send the time of a head, or no more, where it has ended.
func (m *clientMux) timeHead(begun bool) {
	c, until := m.c, int64(0)
	if begun {
		until = c.listener.clock.after(c.listener.settings.Load().Timeouts.Header)
	}
	c.total.Store(until)
}

// settle makes the connection idle, or not, as it has become.
func (m *clientMux) settle() {
	c := m.c
	c.mu.Lock()
	m.mu.Lock()
	switch {
	case m.writing: // the deadline is write's
		c.phase.Store(phaseBusy)
	case m.under > 0:
		c.deadline.Store(0)
		c.phase.Store(phaseBusy)
	case m.amid != 0: // the time of a head counts, and that of an idle connection goes on
		c.deadline.Store(c.idleUntil)
		c.phase.Store(phaseBusy)
	default:
		c.deadline.Store(c.idleUntil)
		c.parkAt.Store(c.listener.clock.after(parkAfter))
		c.phase.Store(phaseIdle)
	}
	m.mu.Unlock()
	c.mu.Unlock()
}

// wakened ends the time without a strand, or a buffer; false when the connection has to end.
func (m *clientMux) wakened(s strand) bool {
	if !m.heed(s) {
		return false
	}
	if m.c.phase.Load() != phaseDetached {
		return true
	}
	m.forget()
	if m.c.fused { // which may wait with a buffer once more
		m.settle()
	}
	return true
}

// heed does what the watch has interrupted the connection for, if it has; false when the connection has to end, and
// stays interrupted.
func (m *clientMux) heed(s strand) bool {
	c := m.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonNone {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.survives(c.reason, s) {
		return false
	}
	c.pardon()
	return true
}

// survives is heed with both locks held.
func (m *clientMux) survives(why reason, s strand) bool {
	c := m.c
	if m.broken { // whatever else it was interrupted for
		return false
	}
	switch why {
	case reasonPark:
		if m.under > 0 || m.writing || m.amid != 0 {
			c.phase.Store(phaseBusy)
		} else {
			c.phase.Store(phaseDetached)
		}
		return true
	case reasonAway:
		m.shutdown(s)
		return true
	case reasonTimeout:
		switch deadline := c.deadline.Load(); {
		case deadline == 0 || c.listener.clock.now.Load() <= deadline: // a request has come meanwhile, or was sent on
			return true
		case m.writing: // to a client that does not read
			m.broken = true
			return false
		case m.h2.Draining():
			return false
		}
		m.shutdown(s)
		return true
	case reasonTotal:
		if total := c.total.Load(); total != 0 && c.listener.clock.now.Load() > total {
			c.total.Store(0)
			c.listener.p.badRequests.add(clientSlow.failure().reason)
			m.h2.Fail(h2.EnhanceYourCalm, "a head, or another frame, took longer to arrive than a head may")
			m.flush(s)
		}
		return true
	case reasonQuit:
		return m.under > 0 && !m.broken && !m.h2.Drained()
	}
	return false
}

// shutdown lets no more streams begin. Called with both locks held.
func (m *clientMux) shutdown(s strand) {
	c := m.c
	m.h2.Shutdown()
	m.flush(s)
	if m.under == 0 {
		c.idleUntil = c.listener.clock.after(lingerTime) // for the client to take note
		if !m.writing {
			c.deadline.Store(c.idleUntil)
		}
	}
}

// rested is the end of the last request under way. Called with mu held.
func (m *clientMux) rested() {
	l := m.c.listener
	idle := l.settings.Load().Timeouts.KeepAlive
	if m.h2.Draining() {
		idle = lingerTime
	}
	m.c.idleUntil = l.clock.after(idle)
}

// quit wakes the reader of a connection that is over.
func (m *clientMux) quit() {
	c := m.c
	c.mu.Lock()
	if c.reason == reasonNone {
		c.halt(reasonQuit)
	}
	c.mu.Unlock()
}

// goAway has the client of an HTTP/2 connection told that weir is stopping.
func (c *conn) goAway() {
	m := c.mux.Load()
	if m == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.mu.Lock()
	told := m.h2.Draining()
	m.mu.Unlock()
	if !told && c.reason == reasonNone {
		c.halt(reasonAway)
	}
}

// left ends a stream's request whose client has gone.
func (c *conn) left() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == reasonNone && c.phase.Load() != phaseFree && c.peerGone() {
		c.halt(reasonGone)
	}
}

// tick is called once a second: h2 has no clock.
func (c *conn) tick() {
	if m := c.mux.Load(); m != nil {
		m.mu.Lock()
		m.h2.Tick()
		m.mu.Unlock()
	}
}
