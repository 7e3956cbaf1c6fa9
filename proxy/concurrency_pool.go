package proxy

import (
	"math/rand/v2"
	"sync"
	"time"

	"weir/config"
	"weir/internal/stats"
	"weir/proxy/gradient"
	"weir/proxy/grpc"
)

// load bounds the requests of a pool that are under way. What it consists of outlives tables.
type load struct {
	bound    *queueBound // nil: not bounded
	adaptive *adaptive   // nil: the bound is fixed
	breaker  *breaker    // nil: there is none
}

// newLoad returns what c asks for, over from prev what does the same. Figures come into force when the table does
// (ApplyFor).
func newLoad(c config.Pool, prev *load) *load {
	if c.Concurrency == nil && c.CircuitBreaker == nil {
		return nil
	}
	if prev == nil {
		prev = &load{}
	}
	l := &load{}
	if k := c.Concurrency; k != nil {
		if k.Adaptive != nil {
			if l.adaptive = prev.adaptive; l.adaptive == nil {
				l.adaptive = newAdaptive(k.Adaptive)
			}
		}
		if l.bound = prev.bound; l.bound == nil {
			l.bound = newQueueBound(boundPool, queueSettings(k, l.limit(k)))
		}
	}
	if c.CircuitBreaker != nil {
		if l.breaker = prev.breaker; l.breaker == nil {
			l.breaker = &breaker{}
		}
	}
	return l
}

// limit is the one in force under c.
func (l *load) limit(c *config.Concurrency) int {
	if l.adaptive == nil {
		return c.Max
	}
	return l.adaptive.limit()
}

// configure puts the figures of c in force.
func (l *load) configure(c config.Pool) {
	if l == nil {
		return
	}
	if k := c.Concurrency; k != nil {
		if l.adaptive != nil {
			l.adaptive.configure(k.Adaptive)
		}
		l.bound.timeout.Store(int64(k.Queue.Timeout))
		l.bound.queue.Configure(queueSettings(k, l.limit(k)))
	}
	if l.breaker != nil {
		l.breaker.settings.Store(c.CircuitBreaker)
	}
}

// succeed has those that wait at a bound which next has no more go on.
func (l *load) succeed(next *load) {
	if l != nil && l.bound != nil && (next == nil || next.bound != l.bound) {
		l.bound.queue.SetLimit(unbounded)
	}
}

// acquire waits for the request's turn at the pool.
func (l *load) acquire(r *request) kind {
	t := &r.in.turn
	if l.bound != nil {
		if k := r.enter(l.bound, &t.pool, r.p.sinceStart(time.Now())); k != success {
			return k
		}
	}
	if b := l.breaker; b != nil {
		if !b.enter() {
			l.release(r)
			return r.broken(breakerRequests)
		}
		t.breaker, t.held = b, true
	}
	return success
}

// release ends what acquire began, for a request that is not served by the pool after all, or that has ended.
func (l *load) release(r *request) { r.in.turn.releasePool(r.p.sinceStart(time.Now()), false) }

// sent notes that an attempt's body, which came in pieces, is with the endpoint: latency counts from here.
func (l *load) sent(r *request) {
	if l != nil && l.adaptive != nil {
		r.in.turn.sent = time.Now()
	}
}

// answered takes the latency of an attempt in. Answers without success say nothing about how long others take.
func (l *load) answered(r *request) {
	if l == nil || l.adaptive == nil || r.status >= 400 || r.call.told && r.call.status != grpc.OK {
		return
	}
	began := r.began
	if sent := r.in.turn.sent; sent.After(began) {
		began = sent
	}
	l.adaptive.latency.Record(time.Since(began))
}

// adaptive finds a pool's limit by its latency.
type adaptive struct {
	latency stats.Histogram // of attempts, to the first byte

	mu         sync.Mutex
	percentile float64
	settings   gradient.Settings
	state      gradient.State
	before     *stats.Snapshot // when this sample began
}

func newAdaptive(c *config.Adaptive) *adaptive {
	a := &adaptive{before: &stats.Snapshot{}}
	a.set(c)
	a.state, _ = a.state.Step(&a.settings, gradient.Sample{}, 0, 0)
	return a
}

func (a *adaptive) configure(c *config.Adaptive) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set(c)
}

func (a *adaptive) set(c *config.Adaptive) {
	a.percentile = c.Percentile / 100
	a.settings = gradient.Settings{
		Min: max(c.Min, 1), Max: max(c.Max, c.Min, 1), Tolerance: c.Tolerance / 100, Interval: c.Interval, Remeasure: c.Remeasure,
	}
}

func (a *adaptive) limit() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return min(max(a.state.Limit(), a.settings.Min), a.settings.Max)
}

// figures are what is known of it.
func (a *adaptive) figures() (least time.Duration, measuring bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.Least(), a.state.Measuring()
}

// adapt is called with each sweep of the watch.
func (l *load) adapt(p *Proxy) {
	if l == nil || l.adaptive == nil {
		return
	}
	a, q := l.adaptive, l.bound.queue
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.latency.Snapshot()
	sample := seen.Since(a.before)
	latency, _ := sample.Quantile(a.percentile)
	f := q.Figures()
	next, taken := a.state.Step(&a.settings, gradient.Sample{
		Count: int(sample.Count()), Latency: latency, Under: f.Under, Peak: q.Peak(),
	}, p.sinceStart(time.Now()), rand.Float64())
	a.state = next
	if taken {
		a.before = seen
		q.ForgetPeak()
	}
	if n := next.Limit(); n != f.Limit {
		q.SetLimit(n)
	}
}
