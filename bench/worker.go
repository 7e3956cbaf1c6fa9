package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

// worker sends requests over a connection, or a stream of one, from a goroutine of its own.
type worker struct {
	attack *Attack
	shared *shared // the connection of HTTP/2; nil for one of its own of HTTP/1.1
	shard  *shard
	alarm  *alarm

	request  []byte
	response Response
	used     time.Duration // when conn was last used

	mu   sync.Mutex // guards conn's deadline, and conn itself where hurry looks at it
	conn carrier    // nil when the next request must connect
	last time.Time  // no deadline may be after it; zero until hurry
}

// run takes arrivals until the schedule ends.
func (w *worker) run(ctx context.Context) {
	a := w.attack
	for {
		n, due, ok := a.next()
		if !ok {
			return
		}
		now := a.now()
		if now-due > a.Timeout {
			if due >= a.Warmup {
				w.shard.drop()
			}
			continue
		}
		var hit Hit
		w.request, hit = a.Target.Append(w.request[:0], n)
		queued := a.Pacer != nil && now > due
		if !queued && !w.alarm.wait(a.start.Add(due)) {
			return // interrupted before it was due
		}
		w.fire(ctx, hit, Result{Due: due, Queued: queued, User: hit.User})
	}
}

// fire sends the prepared request, reads its answer and counts what became of it.
func (w *worker) fire(ctx context.Context, hit Hit, result Result) {
	a := w.attack
	result.Sent = a.now()
	if a.Pacer == nil {
		result.Due = result.Sent
	}
	deadline := a.start.Add(result.Sent + a.Timeout)
	w.exchange(ctx, hit, &result, deadline)
	result.Done = a.now()
	w.used = result.Done
	switch {
	case (result.Failure == Timeout || result.Failure == Connect) && a.interrupted.Load() != nil && time.Now().Before(deadline):
		result.Failure = Unfinished
	case result.OK():
		if result.Verdict = a.Target.Judge(hit, &w.response); result.Verdict == Unreadable {
			result.Failure = BadAnswer
		}
	}
	if result.Due >= a.Warmup {
		w.shard.add(&result)
	}
}

// exchange sends the prepared request and reads its answer.
func (w *worker) exchange(ctx context.Context, hit Hit, result *Result, deadline time.Time) {
	for {
		if err := w.ready(ctx, deadline); err != nil {
			result.Failure = dialFailure(err)
			return
		}
		err := w.conn.roundTrip(w.request, hit.NoBody, &w.response)
		again := errors.Is(err, errNotSent) && w.attack.now() < result.Sent+w.attack.Timeout
		if err != nil || !w.conn.reusable(&w.response) {
			w.drop()
		}
		if again {
			continue
		}
		r := &w.response
		result.Failure = exchangeFailure(err)
		result.Status, result.GRPC, result.Variant, result.Bytes = r.Status, r.GRPC, r.Variant, r.Bytes
		return
	}
}

// ready makes sure of a connection that the request can be written to until deadline.
func (w *worker) ready(ctx context.Context, deadline time.Time) error {
	if w.conn != nil {
		w.limit(deadline)
		if !w.conn.stale(w.attack.now() - w.used) {
			return nil
		}
		w.drop()
	}
	if err := w.connect(ctx, deadline); err != nil {
		return err
	}
	w.limit(deadline)
	return nil
}

// connect opens a connection, or uses the one that is shared.
func (w *worker) connect(ctx context.Context, deadline time.Time) error {
	var c carrier
	var err error
	opened := true
	if w.shared != nil {
		c, opened, err = w.shared.stream(ctx, deadline)
	} else {
		c, err = dialConn(ctx, &w.attack.dialer, deadline)
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.conn = c
	w.mu.Unlock()
	if opened {
		w.shard.connected()
	}
	return nil
}

// limit sets the connection's deadline, unless hurry set an earlier one.
func (w *worker) limit(deadline time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() && deadline.After(w.last) {
		deadline = w.last
	}
	_ = w.conn.SetDeadline(deadline)
}

// hurry ends what is under way by last, from another goroutine.
func (w *worker) hurry(last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = last
	if w.conn != nil {
		_ = w.conn.SetDeadline(last)
	}
}

// drop closes the connection; the next request opens another.
func (w *worker) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.Close()
	w.conn = nil
}

// close ends a worker that does not run.
func (w *worker) close() {
	if w.conn != nil {
		w.drop()
	}
	w.alarm.close()
}
