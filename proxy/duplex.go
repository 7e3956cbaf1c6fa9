package proxy

import "time"

// Full duplex: a request whose client and endpoint both speak HTTP/2, and whose body has not come whole when it is
// sent, may be a conversation, in which each side waits for what the other says. Its body goes up on a strand of its
// own while the request's own waits for the answer and relays it. In HTTP/1.1 an answer ends the upload instead.

// duplex is the upload on a strand of its own. What belongs to the body (bodyLeft, up, the reading half of conn and
// intake, mirrorCopy) is that strand's until endUpload.
type duplex struct {
	wake signal

	// Under the conn's mu.
	answered bool // the head of the answer has come: no other attempt will need what was sent
	rests    bool // nothing comes: the buffer is anybody's
	stop     bool // nobody wants the rest
	done     bool
	kind     kind      // what it has come to
	sent     time.Time // when all of the body was
}

// bothWays reports whether the request may be a conversation over e.
func (r *request) bothWays(e *epConn) bool {
	return r.bodyLeft > 0 && r.c.stream != nil && e.stream != nil
}

// sendBothWays is send for such a request.
func (r *request) sendBothWays(e *epConn) (n int, k kind) {
	c := r.c
	if e.used && !e.quiet() {
		return 0, stale
	}
	if k := r.invite(); k != success {
		return 0, k
	}
	d := &duplex{wake: c.strand.signal()}
	r.duplex = d
	c.enter(phaseDuplex)
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Idle))
	if !c.strand.spawn(func(strand) { d.run(r, e) }) { // weir is ending
		r.duplex = nil
		return 0, internal
	}
	n, err := e.read(r.buf.in)
	if err == nil {
		return n, success
	}
	if k := r.endUpload(); k != success {
		return 0, k
	}
	return 0, r.awaited(e, err)
}

// run uploads, on a strand of its own.
func (d *duplex) run(r *request, e *epConn) {
	k := internal
	defer func() {
		if v := recover(); v != nil {
			r.p.panicked(v)
		}
		d.end(r, k)
	}()
	k = r.uploadTo(e)
}

// end tells the request's strand what has become of the upload. That strand finds out by itself what the endpoint has
// done, and what the watch has; of what the client did it has to be told.
func (d *duplex) end(r *request, k kind) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d.done, d.kind = true, k
	switch {
	case k == success:
		d.sent = time.Now()
		c.change(phaseAwait)
		if !d.answered {
			c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Attempt))
		}
	case k != earlyAnswer && !d.stop && c.reason == reasonNone:
		c.halt(reasonUpload)
	}
	d.wake.raise()
}

// answers notes that the head of the answer has come.
func (d *duplex) answers(r *request) {
	if d == nil {
		return
	}
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d.answered = true
	if d.rests {
		r.dropBody()
	}
	if d.done && d.kind == success {
		r.in.turn.sent = d.sent
	} else {
		r.unbind() // a conversation ends when it ends
	}
}

// whole reports whether all of the body was sent.
func (d *duplex) whole(c *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return d.done && d.kind == success
}

// endUpload ends an upload on another strand, if there is one, and waits for that to be over. The request's own strand
// calls it before it gives the endpoint's stream back, and before it looks at what is the upload's. It returns what
// the upload has come to where that is what ends the request, else success.
func (r *request) endUpload() (k kind) {
	d, c := r.duplex, r.c
	if d == nil {
		return success
	}
	c.mu.Lock()
	if !d.done {
		d.stop = true
		c.interrupt()
		if c.ep != nil {
			c.ep.interrupt()
		}
		for !d.done {
			d.wake.wait(&c.mu)
		}
		if c.reason == reasonNone {
			c.pardon()
		}
	}
	switch {
	case c.reason == reasonUpload:
		c.pardon()
		k = d.kind
	case c.reason == reasonTimeout && d.kind == clientSlow:
		k = clientSlow
	}
	c.change(phaseAwait)
	c.mu.Unlock()
	r.duplex = nil
	r.keepBody()
	return k
}

// restUpload waits for more of the body; no other attempt needing it, the buffer is given back meanwhile.
func (r *request) restUpload() kind {
	d, c := r.duplex, r.c
	if r.in.br.Buffered() > 0 {
		return success
	}
	if k := r.flush(); k != success {
		return k
	}
	c.mu.Lock()
	if d.rests = true; d.answered || r.up.lost {
		r.dropBody()
	}
	c.mu.Unlock()
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Idle))
	_ = c.wait() // why it failed, the read that comes next finds
	c.mu.Lock()
	d.rests = false
	c.mu.Unlock()
	if r.up.held == nil {
		r.takeBuffer(&r.p.pieces) // most messages are small
	}
	return success
}
