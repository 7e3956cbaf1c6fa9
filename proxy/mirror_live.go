package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/internal/stats"
	"weir/proxy/aside"
	"weir/proxy/compare"
)

// Why a request that was drawn is not copied, a label of weir_mirror_skipped_total.
const (
	skippedNoEndpoint = iota // the pool has none that is usable
	skippedBusy              // as many copies, or attempts at the pool, are under way as may be
	skippedOverloaded        // weir is short of processors
	skippedTooLarge          // its body is larger than max_body
	skippedIncomplete        // the endpoint did not get all of its body
	skippedMirrored          // it is a copy itself
	skippedStopping          // weir is ending
	skippedOwn               // the pool serves it: there is nothing to compare with
	skippedReasons
)

var skippedReason = [skippedReasons]string{"no_endpoint", "busy", "overloaded", "too_large", "incomplete", "mirrored", "stopping", "own"}

// Classes of answers, by side.
const (
	classNone = iota // there was none
	class2xx
	class3xx
	class4xx
	class5xx
	classes
)

var className = [classes]string{"none", "2xx", "3xx", "4xx", "5xx"}

func classOf(status int) int {
	if status < 200 || status > 599 {
		return classNone
	}
	return status/100 - 1
}

// mirrorLive is what is known of a mirror. It outlives tables.
type mirrorLive struct {
	active      atomic.Int64
	pausedUntil atomic.Int64 // in nanoseconds since 1970
	skipped     [skippedReasons]atomic.Uint64
	failed      [protocolOutcomes]atomic.Uint64 // copies without an answer, by outcome
	pairs       [classes][classes]atomic.Uint64 // by the class of the primary's and of the shadow's
	results     [incomparable + 1]atomic.Uint64 // of comparisons
	differences mirrorDifferences

	mu      sync.Mutex     // never taken by a request
	samples []MirrorSample // a ring
	oldest  int
	most    int
}

const (
	protocolOutcomes = int(balancer.Canceled) + 1
	incomparable     = int(compare.Incomparable)
)

func newMirrorLive(c *config.Compare) *mirrorLive {
	l := new(mirrorLive)
	if c != nil {
		l.most = c.Samples
	}
	return l
}

// enter takes a place among the copies under way, if there is one.
func (l *mirrorLive) enter(most int) bool {
	if l.active.Add(1) > int64(most) {
		l.active.Add(-1)
		return false
	}
	return true
}

func (l *mirrorLive) leave() { l.active.Add(-1) }

func (l *mirrorLive) skip(reason int) { l.skipped[reason].Add(1) }

// pause has no copies made for a while.
func (l *mirrorLive) pause(now time.Time) { l.pausedUntil.Store(now.Add(mirrorPause).UnixNano()) }

func (l *mirrorLive) pauses(now time.Time) bool { return now.UnixNano() < l.pausedUntil.Load() }

// answered counts what came of a copy.
func (l *mirrorLive) answered(c *mirrorCopy, a *aside.Answer) {
	shadow := classOf(a.Status)
	if a.Err != nil {
		l.failed[a.Outcome].Add(1)
		shadow = classNone
	}
	if a.Outcome == balancer.Canceled {
		return // weir ended it
	}
	l.pairs[classOf(c.status)][shadow].Add(1)
	if c.ok && c.status < 500 && shadow != classNone && shadow != class5xx {
		l.differences.record(a.Duration - c.took)
	}
}

// compared counts what came of a comparison, and keeps it if the answers disagree.
func (l *mirrorLive) compared(c *mirrorCopy, a *aside.Answer, v compare.Verdict) {
	if a.Outcome == balancer.Canceled {
		return
	}
	l.results[v.Result].Add(1)
	if v.Result != compare.Disagree || l.most == 0 {
		return
	}
	s := MirrorSample{
		Time: c.time, RequestID: c.id, Method: c.method, Path: c.path, Endpoint: a.Endpoint,
		PrimaryStatus: c.status, ShadowStatus: a.Status, Reason: v.Reason, Field: v.Field, Primary: v.Primary, Shadow: v.Shadow,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples) < l.most {
		l.samples = append(l.samples, s)
		return
	}
	l.samples[l.oldest] = s
	l.oldest = (l.oldest + 1) % len(l.samples)
}

// sampled returns the disagreements that are kept, newest first.
func (l *mirrorLive) sampled() []MirrorSample {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]MirrorSample, 0, len(l.samples))
	for i := range l.samples {
		list = append(list, l.samples[(l.oldest+len(l.samples)-1-i)%len(l.samples)])
	}
	return list
}

// sum is how many copies had a primary, or a shadow, of that class.
func (l *mirrorLive) sum(primary, shadow int) (n uint64) {
	for i := range l.pairs {
		for j := range l.pairs[i] {
			if (primary < 0 || i == primary) && (shadow < 0 || j == shadow) {
				n += l.pairs[i][j].Load()
			}
		}
	}
	return n
}

// mirrorDifferences are durations of shadows less those of primaries, which may be negative.
type mirrorDifferences struct{ slower, faster stats.Histogram }

func (d *mirrorDifferences) record(x time.Duration) {
	if x < 0 {
		d.faster.Record(-x)
	} else {
		d.slower.Record(x)
	}
}

// quantile returns the difference, in milliseconds, that the share q of them does not exceed; nil where there
// are none.
func (d *mirrorDifferences) quantile(q float64) *float64 {
	faster, slower := d.faster.Snapshot(), d.slower.Snapshot()
	n, m := float64(faster.Count()), float64(slower.Count())
	rank := q * (n + m)
	if n > 0 && (rank <= n || m == 0) {
		x, _ := faster.Quantile(1 - rank/n)
		ms := -float64(x.Microseconds()) / 1000
		return &ms
	}
	if m == 0 {
		return nil
	}
	x, _ := slower.Quantile((rank - n) / m)
	ms := float64(x.Microseconds()) / 1000
	return &ms
}

// maxSampled is how much of a path a sample holds.
const maxSampled = 1 << 10

// outcomeLabels calls f with what weir_mirror_requests_total counts: the class of the answer, or why there is
// none.
func (l *mirrorLive) outcomeLabels(f func(outcome string, n uint64)) {
	for class := class2xx; class < classes; class++ {
		f(className[class], l.sum(-1, class))
	}
	for _, o := range balancer.Outcomes() {
		if o != balancer.Success && o != balancer.Status {
			f(o.String(), l.failed[o].Load())
		}
	}
}

// statusPairs calls f with each pair of classes that there was.
func (l *mirrorLive) statusPairs(f func(primary, shadow string, n uint64)) {
	for i := range l.pairs {
		for j := range l.pairs[i] {
			if n := l.pairs[i][j].Load(); n > 0 {
				f(className[i], className[j], n)
			}
		}
	}
}
