package proxy

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/proxy/grpc"
)

// retrying is what a route's configuration says about attempts after the first.
type retrying struct {
	config.Retry
	on    [kinds]bool      // by the kind of a failed attempt
	calls [grpc.Codes]bool // by the status of a call that was refused
	live  *retryLive
}

func newRetrying(c config.Retry, live *retryLive) retrying {
	if live == nil {
		live = new(retryLive)
	}
	r := retrying{Retry: c, live: live}
	r.on[connectFailed] = slices.Contains(c.On, config.RetryConnect)
	r.on[overloaded] = r.on[connectFailed] // no connection either
	r.on[refused] = r.on[connectFailed]    // or none that takes the request
	r.on[resetByEndpoint] = slices.Contains(c.On, config.RetryReset)
	r.on[staleReset] = r.on[resetByEndpoint]
	r.on[attemptTimeout] = slices.Contains(c.On, config.RetryTimeout)
	r.on[protocolError] = slices.Contains(c.On, config.RetryProtocol)
	r.on[badStatus] = len(c.Status)+len(c.GRPC) > 0
	for _, name := range c.GRPC {
		status, _ := grpc.Named(strings.ToUpper(name))
		r.calls[status] = true
	}
	return r
}

// retryLive is what a route's retries have come to. It outlives tables.
type retryLive struct {
	budget
	counts [retryReasons]atomic.Uint64
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
	case !rt.on[k] || r.retries+1 >= rt.Attempts, r.sent || r.interim:
		return false
	case k != connectFailed && k != overloaded && k != refused && !r.idempotent():
		return false
	}
	_ = r.endUpload()
	switch {
	case r.up.lost:
		return false
	case !r.variant.load.retries(r), !rt.live.take(rt.BudgetPercent):
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
// endpoint wants to be asked again when there is no time left, and all others have been asked.
func (r *request) retriesStatus(p *response) bool {
	if !r.route.retry.on[badStatus] || !slices.Contains(r.route.retry.Status, p.status) && !r.refusedBy(p, r.buf.in) {
		return false
	}
	lines := r.buf.in[p.at:p.end]
	after := retryAfter(lookup(lines, "retry-after"))
	if v := lookup(lines, pushbackField); v != nil && r.isCall() {
		later, again := grpc.Pushback(v)
		if !again {
			return false
		}
		after = max(after, later)
	}
	if after > r.time.total-time.Since(r.start) && !r.another() || !r.mayRetry(badStatus) {
		return false
	}
	r.retryAfter = after
	return true
}

// another reports whether an endpoint of the variant can be asked that was not.
func (r *request) another() bool {
	tried := r.in.tried
	if r.retries == 0 {
		tried = nil // those of a request before
	}
	return slices.ContainsFunc(r.pool().UsableEndpoints(), func(e *balancer.Endpoint) bool { return e != r.last && !slices.Contains(tried, e) })
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
		r.endpoint = r.pick(pool, r.in.tried)
	} else {
		r.rif = r.endpoint.Inflight()
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

// pause waits before the next attempt: full jitter over a base that doubles
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), and what the endpoint asked for
// where there is no other. It returns success, or why the request has ended meanwhile.
func (r *request) pause() kind {
	ceiling := min(time.Duration(1<<min(r.retries, 10)-1), 10) * r.route.retry.Backoff
	return r.pauseUntil(time.Now().Add(max(time.Duration(rand.Int64N(int64(ceiling)+1)), r.retryAfter)))
}

// pauseStep is how long the request sleeps before it looks whether somebody has ended it.
const pauseStep = 100 * time.Millisecond

// pauseUntil waits; it returns success, or why the request has ended meanwhile.
func (r *request) pauseUntil(until time.Time) kind {
	c := r.c
	c.overcome()
	c.enter(phaseAwait)
	defer c.enter(phaseBusy)
	// A loop looks at its watch now and then only, which is not exact enough.
	bell := time.AfterFunc(time.Until(until), c.strand.unpark)
	defer bell.Stop()
	for c.interruptedBy() == reasonNone {
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
		path, _ := normalisePath(nil, r.sentTarget())
		return infers(path) || r.isCall() && rereads(path)
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
	retryProtocol
	retryStatus
	retryReasons
)

var retryReason = [retryReasons]string{"stale", "connect", "reset", "timeout", "protocol", "status"}

func reasonOf(k kind) int {
	switch k {
	case connectFailed, overloaded, refused:
		return retryConnect
	case attemptTimeout:
		return retryTimeout
	case protocolError:
		return retryProtocol
	case badStatus:
		return retryStatus
	}
	return retryReset
}
