package proxy

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/config"
)

// retrying is what a route's configuration says about attempts after the first.
type retrying struct {
	config.Retry
	on   [kinds]bool // by the kind of a failed attempt
	live *retryLive
}

func newRetrying(c config.Retry, live *retryLive) retrying {
	if live == nil {
		live = new(retryLive)
	}
	r := retrying{Retry: c, live: live}
	r.on[connectFailed] = slices.Contains(c.On, config.RetryConnect)
	r.on[overloaded] = r.on[connectFailed] // no connection either
	r.on[resetByEndpoint] = slices.Contains(c.On, config.RetryReset)
	r.on[staleReset] = r.on[resetByEndpoint]
	r.on[attemptTimeout] = slices.Contains(c.On, config.RetryTimeout)
	r.on[badStatus] = len(c.Status) > 0
	return r
}

// retryLive bounds the retries of a route, so that endpoints in trouble do not get a multiple of what they
// cannot bear (https://sre.google/sre-book/handling-overload, "Deciding to Retry"). It outlives tables, and
// so does what it counts.
//
// It counts by seconds. A retry is compared with the whole of the last budgetSeconds and the present second,
// requests with those alone, so that no 10 s see more than is allowed.
type retryLive struct {
	now      atomic.Uint32
	requests [budgetSeconds + 1]atomic.Uint32

	mu        sync.Mutex // held by retries, which are rare, so that none is one too many
	retries   [budgetSeconds + 1]uint32
	exhausted atomic.Uint64 // retries that it did not allow
	counts    [retryReasons]atomic.Uint64
}

const (
	budgetSeconds = 10
	budgetAtLeast = 10 // retries in 10 s that are allowed whatever the number of requests
)

func (b *retryLive) request() { b.requests[b.now.Load()].Add(1) }

// tick begins another second.
func (b *retryLive) tick() {
	next := (b.now.Load() + 1) % uint32(len(b.requests))
	b.requests[next].Store(0)
	b.mu.Lock()
	b.retries[next] = 0
	b.mu.Unlock()
	b.now.Store(next)
}

// take reports whether another retry is allowed, and counts it.
func (b *retryLive) take(percent float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var requests, retries uint64
	oldest := (b.now.Load() + 1) % uint32(len(b.requests))
	for i := range b.requests {
		if uint32(i) != oldest {
			requests += uint64(b.requests[i].Load())
		}
		retries += uint64(b.retries[i])
	}
	if float64(retries) >= max(budgetAtLeast, percent/100*float64(requests)) {
		b.exhausted.Add(1)
		return false
	}
	b.retries[b.now.Load()]++
	return true
}

// again prepares another attempt after one that ended with k: it chooses the endpoint and waits for its turn.
// It returns success, or what the request ends with.
func (r *request) again(k kind) kind {
	if k != badStatus && !r.mayRetry(k) { // receive has asked already
		return k
	}
	if !r.pickAgain() {
		return k
	}
	if ended := r.pause(); ended != success {
		r.endpoint.Done(balancer.Canceled, 0) // it was not asked
		r.endpoint = nil
		return ended
	}
	return success
}

// mayRetry reports whether the request may be sent once more after k, and counts that it is.
func (r *request) mayRetry(k kind) bool {
	rt := &r.route.retry
	switch {
	case !rt.on[k] || r.retries+1 >= rt.Attempts, r.sent || r.interim || r.up.lost:
		return false
	case k != connectFailed && k != overloaded && !r.idempotent():
		return false
	case !rt.live.take(rt.BudgetPercent):
		return false
	}
	rt.live.counts[reasonOf(k)].Add(1)
	return true
}

// mayRenew reports whether an attempt that met the end of a kept-alive connection may be made on a fresh one.
// Nothing is known against the endpoint, so that this is no matter of the configuration.
func (r *request) mayRenew(k kind) bool {
	if k != staleReset || r.sent || r.interim || r.up.lost || !(safe(r.method) || r.idempotent()) {
		return false
	}
	r.route.retry.live.counts[retryStale].Add(1)
	return true
}

// retriesStatus reports whether an answer is to be dropped and the request sent again. It is not where its
// endpoint, the only one, wants to be asked again when there is no time left.
func (r *request) retriesStatus(p *response) bool {
	if !r.route.retry.on[badStatus] || !slices.Contains(r.route.retry.Status, p.status) {
		return false
	}
	after := retryAfter(lookup(r.buf.in[p.at:p.end], "retry-after"))
	if after > r.route.cfg.Timeouts.Total-time.Since(r.start) && len(r.pool().UsableEndpoints()) <= 1 || !r.mayRetry(badStatus) {
		return false
	}
	r.retryAfter = after
	return true
}

// pool is that of the request's variant.
func (r *request) pool() *balancer.Pool {
	return r.route.split.Variants()[slices.Index(r.route.variants, r.variant)].Pool
}

// pickAgain chooses another endpoint of the variant while there is one.
func (r *request) pickAgain() bool {
	if r.retries == 0 {
		r.in.tried = r.in.tried[:0]
	}
	r.retries++
	r.in.tried = append(r.in.tried, r.last)
	before, pool := r.last, r.pool()
	// Where every usable endpoint has failed, one that is ejected is a better bet than the same again.
	if r.endpoint = pool.PickEjected(r.in.tried); r.endpoint == nil {
		r.endpoint = pool.Pick(r.in.tried)
	}
	if r.endpoint == nil {
		return false
	}
	r.last = r.endpoint
	if r.last != before {
		r.retryAfter = 0
	}
	return true
}

// pauseStep is how long the request sleeps before it looks whether somebody has ended it.
const pauseStep = 100 * time.Millisecond

// pause waits before the next attempt: full jitter over a base that doubles
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), and what the endpoint asked for
// where there is no other. It returns success, or why the request has ended meanwhile.
func (r *request) pause() kind {
	ceiling := min(time.Duration(1<<min(r.retries, 10)-1), 10) * r.route.retry.Backoff
	wait := max(time.Duration(rand.Int64N(int64(ceiling)+1)), r.retryAfter)
	c := r.c
	c.overcome()
	c.enter(phaseAwait)
	for until := time.Now().Add(wait); c.interruptedBy() == reasonNone; {
		left := time.Until(until)
		if left <= 0 {
			return success
		}
		c.strand.park(min(left, pauseStep))
	}
	return r.endpointFailed(false)
}

// idempotent reports whether the request may be sent again though an endpoint may have acted upon it.
func (r *request) idempotent() bool {
	switch r.route.retry.Idempotent {
	case config.IdempotentAlways:
		return true
	case config.IdempotentNever:
		return false
	}
	if methods[r.method] == "POST" {
		path, _ := normalisePath(nil, r.target)
		return infers(path)
	}
	return safe(r.method)
}

// infers reports whether a path is one at which a model server computes an answer and changes nothing: the last
// segment is predict, or it is infer in the Open Inference Protocol V2.
func infers(path []byte) bool {
	if bytes.HasSuffix(path, []byte("/predict")) {
		return true
	}
	return bytes.HasPrefix(path, []byte("/v2/models/")) && bytes.HasSuffix(path, []byte("/infer"))
}

// retryAfter reads the field Retry-After, in seconds; a date, or nothing, is 0.
func retryAfter(value []byte) time.Duration {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// The reasons for which requests are sent again, a label of weir_retries_total.
const (
	retryStale = iota // a kept-alive connection that had ended
	retryConnect
	retryReset
	retryTimeout
	retryStatus
	retryReasons
)

var retryReason = [retryReasons]string{"stale", "connect", "reset", "timeout", "status"}

func reasonOf(k kind) int {
	switch k {
	case connectFailed, overloaded:
		return retryConnect
	case attemptTimeout:
		return retryTimeout
	case badStatus:
		return retryStatus
	}
	return retryReset
}
