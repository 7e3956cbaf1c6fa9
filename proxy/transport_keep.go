package proxy

import (
	"math"
)

// close ends the idle connections and keeps no more: the endpoint left the configuration. Requests
// under way finish.
func (t *transport) close() {
	t.closed.Store(true)
	t.scraper.renew()
	t.trim()
}

// drain ends the idle connections and keeps no more until the drain ends.
func (t *transport) drain(drains bool) {
	if t.drains.Swap(drains) != drains {
		t.trim()
	}
}

// trim closes the idle connections of each lane beyond what it keeps.
func (t *transport) trim() {
	for i := range t.lanes {
		l := t.lanes[i].Load()
		if l == nil {
			continue
		}
		l.mu.Lock()
		surplus := len(l.idle)
		if keep := t.keep(i); keep > 0 && !t.settings.Load().http2 {
			surplus -= keep
		}
		l.mu.Unlock()
		for _, e := range l.oldest(surplus) {
			t.drop(e)
		}
		t.retire(i, l)
	}
}

// configure puts settings in force. It also undoes close, for an endpoint that came back by a later
// reload while it was still in use.
func (t *transport) configure(s transportSettings) {
	old := t.settings.Swap(&s)
	t.closed.Store(false)
	if old != nil && (old.tls != s.tls || old.introduce != s.introduce) {
		t.renew()
	}
	t.scraper.renew()
	t.trim()
}

// renew ends the connections that were made otherwise than they would be now: idle ones at once, those of HTTP/2
// after the requests that they carry.
func (t *transport) renew() {
	for i := range t.lanes {
		l := t.lanes[i].Load()
		if l == nil {
			continue
		}
		for _, e := range l.oldest(math.MaxInt) {
			t.drop(e)
		}
		for _, m := range l.list() {
			m.retire()
		}
	}
}

// connections is the number of open and of idle connections.
func (t *transport) connections() (open, idle int) {
	for i := range t.lanes {
		if l := t.lanes[i].Load(); l != nil {
			l.mu.Lock()
			idle += len(l.idle)
			l.mu.Unlock()
			idle += l.idles(0)
		}
	}
	return int(t.open.Load()), idle
}

// prune looks after HTTP/2 connections, and closes the idle connections of a lane that their endpoint has ended or that have said something
// unasked. A request would notice too, but only when it draws them. Only the lane's loop may ask, if it
// is one's.
func (t *transport) prune(i int) {
	l := t.lanes[i].Load()
	if l == nil {
		return
	}
	l.mu.Lock()
	var ended []*epConn
	kept := l.idle[:0]
	for _, e := range l.idle {
		if e.quiet() {
			kept = append(kept, e)
		} else {
			ended = append(ended, e)
		}
	}
	clear(l.idle[len(kept):])
	l.idle = kept
	l.mu.Unlock()
	for _, e := range ended {
		t.drop(e)
	}
	for _, m := range l.list() {
		m.tick(t.settings.Load())
	}
}
