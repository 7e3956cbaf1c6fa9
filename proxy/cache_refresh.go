package proxy

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/balancer"
	"weir/proxy/aside"
	"weir/proxy/cache"
)

// How a refresh in the background ended, a label of weir_cache_refreshes_total.
const (
	refreshKept    = iota
	refreshNotKept // the answer is not one to be kept
	refreshFailed
	refreshOutcomes
)

var refreshOutcome = [refreshOutcomes]string{"kept", "not_kept", "failed"}

const (
	// maxRefreshes is how many refreshes of a route may be under way. Where more are due the answers stay
	// stale for a little longer.
	maxRefreshes = 32
	// refreshPause is the time between two attempts at refreshing an answer.
	refreshPause = time.Second
)

// refreshing is the refresh of one answer: the request that found it stale, without its client.
type refreshing struct {
	p            *Proxy
	of           *cached
	pool         *balancer.Pool
	send         aside.Request
	lines        []byte // of the request
	base         cache.Key
	stale, fresh *cache.Entry
	flight       *cache.Flight
}

// refresh fetches a new answer in the background, unless somebody does already.
func (g *caching) refresh(r *request, e *cache.Entry, now int64) {
	live := g.of.live
	if live.refreshing.Load() >= maxRefreshes || !e.Hold(now, now+int64(refreshPause)) {
		return
	}
	f, _, leads := live.Join(g.found.Key, now, live.Since(g.target), nil, nil)
	if !leads {
		return
	}
	head := unasked(slices.Clone(r.buf.out[:r.gathered.from]), r.asked)
	if methods[r.method] != "POST" {
		head = unconditional(head)
	}
	if r.timeTold(head) != nil { // it is the client's, not the refresh's
		head = removeField(head, 0, strings.ToLower(r.timeField()))
	}
	if r.isHead {
		head = append([]byte("GET"), head[len("HEAD"):]...)
	}
	head = append(head, r.body()...)
	path, _ := normalisePath(nil, r.target)
	w := &refreshing{
		p: r.p, of: g.of, pool: r.pool(), lines: bytes.Clone(g.lines), base: g.base, stale: e, flight: f,
		send:  aside.Request{Method: "GET", Head: head, Timeout: r.route.cfg.Timeouts.Attempt, MaxBody: int64(g.of.policy.MaxObject)},
		fresh: &cache.Entry{Variant: r.variant.pool, Asked: now, Target: g.target, Path: string(path)},
	}
	if methods[r.method] == "POST" {
		w.send.Method = "POST"
	}
	live.refreshing.Add(1)
	if !r.p.aside.Go(w.run) { // weir stops
		live.refreshing.Add(-1)
		live.Land(f, cache.Alone, nil)
	}
}

func (w *refreshing) run(ctx context.Context) {
	live := w.of.live
	outcome, verdict, kept := refreshFailed, cache.Failed, (*cache.Entry)(nil)
	defer func() {
		if v := recover(); v != nil {
			w.p.panicked(v)
		}
		live.refreshing.Add(-1)
		live.refreshes[outcome].Add(1)
		live.Land(w.flight, verdict, kept)
	}()
	a := w.p.aside.Send(ctx, w.pool, &w.send)
	if a.Outcome != balancer.Success || a.Status >= 500 {
		return
	}
	outcome, verdict = refreshNotKept, cache.Alone
	e, why := w.entry(&a)
	if why != cache.Kept {
		live.Refuse(w.flight.Key(), w.stale, w.fresh.Asked, w.p.sinceStart(time.Now()), !why.Transient())
		return
	}
	live.Keep(nil, w.base, w.lines, e)
	outcome, verdict, kept = refreshKept, cache.Landed, e
}

// entry makes of an answer what is kept.
func (w *refreshing) entry(a *aside.Answer) (*cache.Entry, cache.Refusal) {
	if !a.Whole {
		return nil, cache.TooLarge
	}
	// The head is written and read again, so that it is held to the same rules as any answer's.
	b := append(strconv.AppendInt([]byte("HTTP/1.1 "), int64(a.Status), 10), " \r\n"...)
	for name, values := range a.Header {
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	b = append(b, "\r\n"...)
	var p response
	of := w.pool.Config()
	p.fields.takesReports = of.AsksForLoad() // some servers tell it unasked
	if !p.parse(b, len(b)) || headLen(b, 0) != len(b) || p.fields.trailer {
		return nil, cache.Endless
	}
	lines := p.fields.appendKept(nil, b, p.at, p.end)
	now := time.Now()
	came := w.p.sinceStart(now)
	life, why := w.of.policy.Judge(a.Status, lines, now, time.Duration(came-w.fresh.Asked))
	if why != cache.Kept {
		return nil, why
	}
	e := cache.NewEntry(a.Status, lines, a.Body)
	e.Variant, e.Asked, e.Came, e.Life, e.Target, e.Path = w.fresh.Variant, w.fresh.Asked, came, life, w.fresh.Target, w.fresh.Path
	return e, cache.Kept
}
