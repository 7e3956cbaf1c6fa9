package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"weir/proxy/h2/client"
)

// muxes are the HTTP/2 connections of a lane, and who waits for a stream on one.
type muxes struct {
	all     []*epMux // under the lane's mu, and so is
	queue   []*streamWaiter
	dialing int
	waiting atomic.Int32 // len(queue)
}

// streamWaiter is a request that found no room on the connections of its lane.
type streamWaiter struct {
	strand strand
	// Under the lane's mu. One of: its stream; the right to dial, for which there is a place; why there is neither.
	served  bool
	e       *epConn
	dials   bool
	err     error
	starves *atomic.Int64 // where it is counted among those who starve; nil: it is not
}

// http2Live is what is known of a transport's HTTP/2 connections.
type http2Live struct {
	buffers sync.Pool    // what they are read through
	allowed atomic.Int64 // streams on a connection, as the endpoint said last; 0: not yet
	// starving is how many requests wait for room while nothing is being dialed for their lane.
	starving atomic.Int64
	warned   atomic.Int64 // when a mistaken protocol was last told of, in seconds since 1970

	dialed, goAways, refused, unanswered atomic.Uint64
}

// makeRoomEvery is how often a request that waits for room takes a connection away from other lanes. It matters where
// max is less than there are lanes: then they take turns.
const makeRoomEvery = 100 * time.Millisecond

// readSize is how much is read of an HTTP/2 connection at a time, in bytes.
const readSize = 64 << 10

// stream returns a stream on a connection of the strand's lane. While there is none with room, it waits for one that
// is being dialed, or dials, or, with max open, waits for room until the connect timeout.
func (t *transport) stream(s strand, settings *transportSettings) (*epConn, error) {
	l := t.lane(s.lane())
	l.mu.Lock()
	if len(l.queue) == 0 {
		if e := l.open(settings.streams); e != nil {
			l.mu.Unlock()
			e.stream.bind(s)
			return e, nil
		}
		if l.coming(t, settings) == 0 && t.reserve(settings.max) {
			l.dialing++
			l.mu.Unlock()
			return t.dialStream(s, l, settings)
		}
	}
	w := &streamWaiter{strand: s}
	l.queue = append(l.queue, w)
	l.waiting.Add(1)
	l.serve(t, settings) // what came free just before it was known that somebody waits, nobody serves
	pends := !w.served && l.coming(t, settings) == 0
	l.mu.Unlock()
	if !pends {
		return t.await(s, l, w, settings, false)
	}
	if settings.breaker.pend() {
		defer settings.breaker.pended()
	} else if l.leave(w) {
		return nil, errPending
	}
	l.mu.Lock()
	if !w.served {
		w.starves = &t.http2.starving
		w.starves.Add(1)
	}
	l.mu.Unlock()
	return t.await(s, l, w, settings, true)
}

// await is the time in the queue. pends: nothing is being dialed, so that another lane may have to make room.
func (t *transport) await(s strand, l *lane, w *streamWaiter, settings *transportSettings, pends bool) (*epConn, error) {
	step := settings.connectTimeout
	if pends {
		step = min(step, makeRoomEvery)
	}
	for until := time.Now().Add(settings.connectTimeout); ; {
		l.mu.Lock()
		served := w.served
		l.mu.Unlock()
		if served {
			break
		}
		if pends {
			t.makeRoom(l)
		}
		left := time.Until(until)
		if !s.park(min(left, step)) && left <= step && l.leave(w) {
			return nil, errNoConnection
		}
	}
	switch {
	case w.dials:
		return t.dialStream(s, l, settings)
	case w.err != nil:
		return nil, w.err
	}
	w.e.stream.bind(s)
	return w.e, nil
}

// open begins a stream on the first connection that has room. Called with mu held, like the following.
func (l *lane) open(limit int) *epConn {
	for _, m := range l.all {
		if e := m.open(limit); e != nil {
			return e
		}
	}
	return nil
}

// coming is how many streams there will be on connections that are not there yet, as far as one knows.
func (l *lane) coming(t *transport, settings *transportSettings) int {
	n := l.dialing
	for _, m := range l.all {
		m.mu.Lock()
		if !m.h2.Greeted() && !m.over {
			n++
		}
		m.mu.Unlock()
	}
	each := settings.streams
	if allowed := int(t.http2.allowed.Load()); allowed > 0 {
		each = min(each, allowed)
	}
	return n * each
}

// serve gives those who have waited longest what there is: streams, and the right to dial where more wait than those
// that are being dialed have room for.
func (l *lane) serve(t *transport, settings *transportSettings) {
	for len(l.queue) > 0 {
		e := l.open(settings.streams)
		if e == nil {
			break
		}
		l.next().give(e, false, nil)
	}
	for len(l.queue) > l.coming(t, settings) && t.reserve(settings.max) {
		l.dialing++
		l.next().give(nil, true, nil)
	}
}

// next takes the first of the queue.
func (l *lane) next() *streamWaiter {
	w := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	l.waiting.Add(-1)
	return w
}

func (w *streamWaiter) give(e *epConn, dials bool, err error) {
	w.served, w.e, w.dials, w.err = true, e, dials, err
	w.sated()
	w.strand.unpark()
}

// sated is the end of w's starving, as soon as it is served and not when its strand gets to know: else a connection that
// has nothing to do would be given up for it.
func (w *streamWaiter) sated() {
	if w.starves != nil {
		w.starves.Add(-1)
		w.starves = nil
	}
}

// leave takes w from the queue; false when it has been served. It locks mu itself.
func (l *lane) leave(w *streamWaiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, w)
	if i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.waiting.Add(-1)
		w.sated()
	}
	return i >= 0
}

// serve serves those who wait in a lane, from anywhere.
func (t *transport) serve(l *lane) {
	l.mu.Lock()
	l.serve(t, t.settings.Load())
	l.mu.Unlock()
}

// dialStream makes a connection, whose place is taken, and begins the first stream on it. Who waits for the
// connection fares as it does.
func (t *transport) dialStream(s strand, l *lane, settings *transportSettings) (*epConn, error) {
	d, err := t.connect(s, settings, nil)
	var m *epMux
	if err == nil {
		if m, err = newMux(t, s, d); err != nil {
			d.close()
		}
	}
	l.mu.Lock()
	l.dialing--
	if err != nil {
		l.mu.Unlock()
		t.freePlace(l, err)
		return nil, err
	}
	l.all = append(l.all, m)
	e := m.open(settings.streams)
	l.serve(t, settings)
	l.mu.Unlock()
	if e == nil { // it has ended already
		return nil, m.ended()
	}
	e.stream.bind(s)
	return e, nil
}

// lost forgets a connection that is closed.
func (t *transport) lost(m *epMux) {
	l := m.lane
	l.mu.Lock()
	l.all = slices.DeleteFunc(l.all, func(o *epMux) bool { return o == m })
	l.mu.Unlock()
	t.freePlace(l, m.ended())
}

// freePlace gives the place of a connection of l's up. err: it came to nothing, and so does what waited for it, where
// there is nothing else to wait for.
func (t *transport) freePlace(l *lane, err error) {
	t.release()
	if err != nil {
		l.mu.Lock()
		for len(l.all) == 0 && l.dialing == 0 && len(l.queue) > 0 {
			l.next().give(nil, false, err)
		}
		l.mu.Unlock()
	}
	for i := range t.lanes {
		if o := t.lanes[i].Load(); o != nil && o.waiting.Load() > 0 {
			t.serve(o)
		}
	}
}

// makeRoom has a connection of another lane end, so that l may have one: an idle one or, where l has none at all, the
// first.
func (t *transport) makeRoom(l *lane) {
	l.mu.Lock()
	bare := len(l.all) == 0
	l.mu.Unlock()
	var busy *epMux
	for i := range t.lanes {
		o := t.lanes[i].Load()
		if o == nil || o == l {
			continue
		}
		for _, m := range o.list() {
			switch {
			case m.idle():
				m.retire()
				return
			case busy == nil:
				busy = m
			}
		}
	}
	if bare && busy != nil {
		busy.retire()
	}
}

// list returns the connections of the lane.
func (l *lane) list() []*epMux {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// settle ends m, which has nothing to do, where its lane has more such connections than it keeps, or another needs one.
func (t *transport) settle(m *epMux) {
	if keep := t.keep(m.index); m.lane.idles(keep) > keep || t.http2.starving.Load() > 0 && t.starvesBeside(m.lane) {
		m.retire()
	}
}

// starvesBeside reports whether requests of other lanes starve, and none of l.
func (t *transport) starvesBeside(l *lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && t.http2.starving.Load() > 0
}

// idles is how many connections of the lane have nothing to do; it need not count where there are at most enough.
func (l *lane) idles(enough int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) <= enough {
		return 0
	}
	for _, m := range l.all {
		if m.idle() {
			n++
		}
	}
	return n
}

// retire ends the connections of a lane beyond those that it keeps, also busy ones where it keeps none. Those end with
// their last request.
func (t *transport) retire(lane int, l *lane) {
	keep := t.keep(lane)
	if keep > 0 && !t.settings.Load().http2 {
		keep = 0
	}
	surplus := l.idles(keep) - keep
	for _, m := range l.list() {
		if keep == 0 || surplus > 0 && m.idle() {
			m.retire()
			surplus--
		}
	}
}

// streams is how many requests are under way over HTTP/2.
func (t *transport) streams() (n int) {
	for i := range t.lanes {
		if l := t.lanes[i].Load(); l != nil {
			for _, m := range l.list() {
				n += m.streams()
			}
		}
	}
	return n
}

// warnEvery is how often, in seconds, it is said that an endpoint does not speak HTTP/2.
const warnEvery = 10

// notHTTP2 is the error of a connection that began with other bytes than HTTP/2's, and tells people of it.
func (t *transport) notHTTP2(first []byte) error {
	err := &notHTTP2Error{client.Found(first)}
	now := time.Now().Unix()
	if last := t.http2.warned.Load(); t.log != nil && now-last >= warnEvery && t.http2.warned.CompareAndSwap(last, now) {
		t.log.Warn("an endpoint does not speak HTTP/2 as its pool's protocol says", zap.String("endpoint", t.address), zap.Error(err))
	}
	return err
}
