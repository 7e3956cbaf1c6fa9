package rollout

import (
	"slices"
	"sync/atomic"
	"time"

	"weir/internal/stats"
)

// Tally counts what first attempts met at one side while the weights were the same. Its zero value is empty, and it is
// safe for concurrent use.
type Tally struct {
	requests, errors atomic.Uint64
	latency          stats.Histogram
}

// Count counts a first attempt that has ended, or a request that found no endpoint to attempt (failed, after 0 s).
// What a client did (it went away) is not to be counted.
func (t *Tally) Count(failed bool, took time.Duration) {
	t.requests.Add(1)
	if failed {
		t.errors.Add(1)
	}
	t.latency.Tally(took)
}

// Epoch is a time with the same weights.
type Epoch struct {
	Share          float64 // of the new version, of what both get; between 0 and 1
	Canary, Stable Tally
}

// Counts are requests, how many of them failed, and how many took longer than the SLO, if there is one.
type Counts struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	Slow     uint64 `json:"slow,omitempty"`
}

func (c Counts) plus(d Counts) Counts {
	return Counts{c.Requests + d.Requests, c.Errors + d.Errors, c.Slow + d.Slow}
}

func failed(c Counts) uint64 { return c.Errors }
func slow(c Counts) uint64   { return c.Slow }

// Span is what an epoch has come to.
type Span struct {
	Share  float64 `json:"share"`
	Canary Counts  `json:"canary"`
	Stable Counts  `json:"stable"`
}

// of are the events of one kind in the span.
func (s *Span) of(what func(Counts) uint64) stats.Events {
	return stats.Events{Share: s.Share, A: what(s.Canary), B: what(s.Stable)}
}

// Evidence is what was counted since a rollout began. It is data, and survives a restart.
//
// A slow request is one that takes longer than Threshold, which is set before it is made: from the old version's
// latencies up to the look before. So it may follow the load, and the counts stay valid.
type Evidence struct {
	Spans []Span `json:"spans"`
	// Slow counts the requests of both sides beyond Threshold; Beyond those of the new version beyond what is allowed then,
	// and of the old beyond Threshold.
	Slow   []stats.Events `json:"slow,omitempty"`
	Beyond []stats.Events `json:"beyond,omitempty"`
	// Threshold is 0 until the old version has shown its latency.
	Threshold time.Duration `json:"threshold_ns,omitempty"`
	// Ratio is that of the quantiles in the last epoch; 0 while it is unknown.
	Ratio float64 `json:"ratio,omitempty"`
	// Longer is by how much the new version's is the longer one there.
	Longer time.Duration `json:"longer_ns,omitempty"`

	seen seen
}

// seen is what was in the current epoch at the last look.
type seen struct {
	epoch          *Epoch
	canary, stable *stats.Snapshot
}

// enough is how many requests tell a quantile.
const enough = 50

// Look takes in what was counted in an epoch since the last look, for c. What ends after the next epoch has begun is
// not seen any more.
func (e *Evidence) Look(epoch *Epoch, c *Criteria) {
	if epoch.Share <= 0 || epoch.Share >= 1 {
		return // one side alone says nothing about the other
	}
	if e.seen.epoch != epoch {
		e.Spans = append(e.Spans, Span{Share: epoch.Share})
		e.seen = seen{epoch, new(stats.Snapshot), new(stats.Snapshot)}
	}
	span := &e.Spans[len(e.Spans)-1]
	span.Canary, span.Stable = epoch.Canary.Counts(), epoch.Stable.Counts()
	canary, stable := epoch.Canary.latency.Snapshot(), epoch.Stable.latency.Snapshot()
	if c.Slow != nil {
		span.Canary.Slow, span.Stable.Slow = canary.Above(c.Slow.SLO), stable.Above(c.Slow.SLO)
	}
	if c.Latency != nil {
		e.lookAtLatency(epoch.Share, canary, stable, c.Latency)
	}
	e.seen.canary, e.seen.stable = canary, stable
}

// Counts are the requests and failures so far.
func (t *Tally) Counts() Counts {
	errors := t.errors.Load() // first: they are never more than the requests
	return Counts{Requests: t.requests.Load(), Errors: errors}
}

func (e *Evidence) lookAtLatency(share float64, canary, stable *stats.Snapshot, l *LatencyCriteria) {
	if x := e.Threshold; x > 0 {
		newCanary, newStable := canary.Since(e.seen.canary), stable.Since(e.seen.stable)
		far := l.allowed(x)
		e.Slow = add(e.Slow, stats.Events{Share: share, A: newCanary.Above(x), B: newStable.Above(x)})
		// At least what is beyond: a bucket that the bound cuts counts as beyond for the new version alone.
		e.Beyond = add(e.Beyond, stats.Events{Share: share, A: newCanary.AboveOrAt(far), B: newStable.Above(x)})
	}
	if stable.Count() < enough {
		return
	}
	e.Threshold, _ = stable.Quantile(l.Quantile)
	if canary.Count() >= enough {
		q, _ := canary.Quantile(l.Quantile)
		e.Ratio, e.Longer = float64(q)/float64(max(e.Threshold, 1)), q-e.Threshold
	}
}

// add adds events to those of the same share.
func add(all []stats.Events, e stats.Events) []stats.Events {
	i := slices.IndexFunc(all, func(x stats.Events) bool { return x.Share == e.Share })
	if i < 0 {
		return append(all, e)
	}
	all[i].A += e.A
	all[i].B += e.B
	return all
}

// Totals are the requests of both sides.
func (e *Evidence) Totals() (canary, stable Counts) {
	for _, s := range e.Spans {
		canary, stable = canary.plus(s.Canary), stable.plus(s.Stable)
	}
	return canary, stable
}

// events are those of one kind at both sides, by share.
func (e *Evidence) events(what func(Counts) uint64) []stats.Events {
	var events []stats.Events
	for i := range e.Spans {
		events = add(events, e.Spans[i].of(what))
	}
	return events
}

// With are the new version's counts since the rollout began, with what its current epoch has by now.
func (e *Evidence) With(epoch *Epoch) Counts {
	canary, _ := e.Totals()
	now := epoch.Canary.Counts()
	if n := len(e.Spans); e.seen.epoch == epoch && n > 0 {
		canary.Requests -= e.Spans[n-1].Canary.Requests
		canary.Errors -= e.Spans[n-1].Canary.Errors
	}
	return Counts{Requests: canary.Requests + now.Requests, Errors: canary.Errors + now.Errors}
}
