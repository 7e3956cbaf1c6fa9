package proxy

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"
	"weir/balancer"
)

// request is one request on its way through weir. It lives in its connection's intake, which reads one
// request at a time, and is reset for the next.
type request struct {
	p     *Proxy
	c     *conn
	in    *intake
	head  *fasthttp.RequestHeader
	raw   []byte // the header lines as the client sent them
	table *table
	start time.Time

	fields    fields
	http10    bool
	method    int // index into methods
	isHead    bool
	target    []byte // in origin-form, byte for byte
	authority []byte // from an absolute-form target, else nil
	client    netip.Addr
	id, trace []byte

	valid       bool // the head is: the request counts
	expects     bool // the client waits for 100 Continue
	chunkedBody bool
	bodyLeft    int64 // of a sized body: not yet read; of a chunked one: 1 until its end
	bodyLimit   int64

	route    *route
	variant  *variant
	endpoint *balancer.Endpoint // of the attempt under way; nil between attempts
	last     *balancer.Endpoint // of the last attempt

	began     time.Time // of the attempts
	attempts  int
	retries   int  // of them, to an endpoint that was picked for it
	interim   bool // the client got a 1xx of an endpoint
	sent      bool // the answer's head is on its way: no other can follow
	closing   bool // the connection ends after the answer
	status    int  // sent, or what stands for it
	kind      kind
	accounted bool
	bytesOut  int64
	connect   time.Duration
	firstByte time.Duration
	// retryAfter is what the endpoint of the last attempt asked for, 0 where it is not asked again; of a
	// request beyond its rate limit, what the client is told.
	retryAfter time.Duration

	buf     *buffers
	up      uploading
	scratch [scratchLen]byte
	lookup  func(name string) []byte
}

// buffers are what one attempt reads and writes through. They are pooled: an idle connection has none.
type buffers struct{ in, out []byte }

// serve answers one request, start to finish. An answer always goes out through finish, which also
// accounts for it.
func (r *request) serve() {
	defer r.finish()
	if r.kind = r.admit(); r.kind != success {
		r.skipBody()
		return
	}
	if r.p.options.hook != nil {
		r.p.options.hook()
	}
	if r.kind = r.gather(); r.kind != success {
		return
	}
	if r.kind = r.choose(); r.kind != success {
		return
	}
	r.kind = r.forward()
}

// begin resets the request for the head that was parsed.
func (r *request) begin(c *conn, in *intake) {
	c.phase.Store(phaseBusy)
	c.deadline.Store(0)
	h, p := &in.msg.Header, c.listener.p
	*r = request{
		p: p, c: c, in: in, head: h, raw: h.RawHeaders(), table: p.table.Load(), start: time.Now(),
		http10: !h.IsHTTP11(), method: methodIndex(h.Method()), target: h.RequestURI(), client: c.peer,
		lookup: r.lookup,
	}
	r.isHead = methods[r.method] == "HEAD"
	c.bodyRead, c.bodyRaw = 0, 0
}

// skipped is how much of a refused request's body is read, in bytes: more costs more than the connection.
const skipped = 8 << 10

// skipBody reads the small body of a request that is refused, so that the connection can stay. A client
// that waits to be asked for it is not asked.
func (r *request) skipBody() {
	if !r.valid || r.chunkedBody || r.bodyLeft > skipped || len(r.fields.expect.in(r.raw)) > 0 {
		return
	}
	n, _ := r.in.br.Discard(int(r.bodyLeft))
	r.c.bodyRead += int64(n)
	r.bodyLeft -= int64(n)
}

// admit checks what fasthttp leaves open, finds the route and holds the request against its limits.
func (r *request) admit() kind {
	if k := r.check(); k != success {
		return k
	}
	host := r.fields.host.in(r.raw)
	if r.authority != nil {
		host = r.authority
	}
	path, ok := normalisePath(nil, r.target)
	if !ok && !(string(r.target) == "*" && methods[r.method] == "OPTIONS") {
		r.valid = false
		return malformed
	}
	i := r.table.router.match(host, path, r.head.Method(), r.lookup)
	if i < 0 {
		return noRoute
	}
	r.route = r.table.routes[i]
	r.c.total.Store(r.c.listener.clock.after(r.route.cfg.Timeouts.Total))
	r.bodyLimit = int64(r.c.listener.settings.Load().Limits.Body)
	if own := int64(r.route.bodyLimit); own > 0 {
		r.bodyLimit = min(own, r.bodyLimit)
	}
	if r.fields.length > r.bodyLimit {
		return bodyTooLarge
	}
	if l := r.route.limit; l != nil && !l.admits(r) {
		return rateLimited
	}
	return success
}

// check refuses what an HTTP/1.1 proxy must not pass on, and reads the header lines.
func (r *request) check() kind {
	problem := r.fields.read(r.raw, 0, headerEnd(r.raw), fromClient)
	r.identify()
	r.closing = r.fields.closes || r.http10 && !r.fields.keepAlive
	switch problem {
	case "":
	case tooMany:
		return headTooLarge
	case badCoding:
		return badEncoding
	default:
		return malformed
	}
	if v := r.head.Protocol(); !bytes.Equal(v, http11) && !bytes.Equal(v, http10) {
		return badVersion
	}
	if len(r.target) > int(r.c.listener.settings.Load().Limits.URI) {
		return uriTooLong
	}
	if len(r.target) > 0 && r.target[0] != '/' {
		if authority, rest, ok := splitAbsolute(r.target); ok {
			r.authority, r.target = authority, rest
		}
	}
	host := r.fields.host.in(r.raw)
	if len(host) > 0 && !validHost(host) || r.authority != nil && !validHost(r.authority) {
		return malformed
	}
	if len(host) == 0 && r.authority == nil && !r.http10 {
		return malformed
	}
	r.valid = true
	r.believe()
	if r.bodyLeft = max(r.fields.length, 0); r.fields.chunked {
		r.chunkedBody, r.bodyLeft = true, 1
	}
	switch string(r.head.Method()) {
	case "CONNECT", "TRACE":
		return badMethod
	}
	if e := r.fields.expect.in(r.raw); len(e) > 0 && !r.http10 {
		if !equalFold(e, "100-continue") {
			return badExpectation
		}
		r.expects = r.bodyLeft > 0
	}
	return success
}

// unread reports whether some of the request's body is still on its way: what follows on the
// connection cannot be told from it.
func (r *request) unread() bool { return r.bodyLeft > 0 }

var (
	http11 = []byte("HTTP/1.1")
	http10 = []byte("HTTP/1.0")
)

// headerEnd is the length of the header lines without the empty one behind them.
func headerEnd(raw []byte) int {
	if n := len(raw); n >= 2 && raw[n-2] == '\r' {
		return n - 2
	} else if n >= 1 {
		return n - 1
	}
	return 0
}

// maxChoices bounds how often a variant is chosen for a request that has no endpoint when one is picked.
const maxChoices = 4

// choose picks the variant by chance or by the request's subject, and its endpoint by the pool's policy.
// The body came since the table was loaded, perhaps slowly: where that table's endpoints take no more
// requests by now, as after a shift and a drain, the one in force says who does.
func (r *request) choose() kind {
	for range maxChoices {
		chosen, intended := r.pickVariant()
		if chosen < 0 {
			if !r.renew() {
				return noEndpoint
			}
			continue
		}
		r.variant = r.route.variants[chosen]
		if r.endpoint = r.route.split.Variants()[chosen].Pool.Pick(nil); r.endpoint == nil {
			continue // it was usable a moment ago
		}
		if chosen != intended {
			r.route.variants[intended].live.spilled.Add(1)
		}
		r.route.counts.byVariant[chosen].Add(1)
		r.route.retry.live.request()
		r.last = r.endpoint
		return success
	}
	return noEndpoint
}

// renew takes the request's route from the table in force, if that is another one and has it.
func (r *request) renew() bool {
	now := r.p.table.Load()
	next := now.route(r.route.cfg.Name)
	if now == r.table || next == nil {
		return false
	}
	r.table, r.route, r.variant = now, next, nil
	return true
}

func (r *request) pickVariant() (chosen, intended int) {
	rt := r.route
	if rt.cfg.Affinity != nil {
		if subject := r.subject(rt.cfg.Affinity); len(subject) > 0 {
			return rt.split.BySubject(subject)
		}
		if f := rt.fallback; f >= 0 {
			if v := rt.split.Variants()[f]; v.Weight > 0 && v.Pool.Usable() {
				return f, f
			}
		}
		if rt.cfg.Affinity.Fallback == "client_ip" {
			return rt.split.BySubject(r.clientText())
		}
	}
	return rt.split.ByChance(rand.Uint64())
}

// finish ends a request, whatever became of it: it answers what has no answer yet, lets go of
// everything the request held, and accounts for it. A panic ends here, as a 500.
func (r *request) finish() {
	if v := recover(); v != nil {
		r.kind = internal
		r.p.panicked(v)
	}
	c := r.c
	c.total.Store(0)
	if r.kind != success {
		r.fail()
	}
	r.release()
	if r.unread() {
		r.closing, c.linger = true, c.linger || r.kind != clientGone
	}
	if r.closing {
		c.finished = true
	}
	r.account()
	c.deadline.Store(0)
	c.idleUntil = c.listener.clock.after(c.listener.settings.Load().Timeouts.KeepAlive)
	c.phase.Store(phaseBusy) // not idle: the next request may be in the buffer
}

// release gives back what an attempt held, also one that a panic ended.
func (r *request) release() {
	if e := r.c.ep; e != nil {
		r.c.detach()
		e.t.drop(e)
	}
	if r.endpoint != nil {
		r.endpoint.Done(balancer.Canceled, 0)
		r.endpoint = nil
	}
	r.dropBody()
	if r.buf != nil {
		if cap(r.buf.in)+cap(r.buf.out) <= maxPooled {
			r.p.buffers.Put(r.buf)
		}
		r.buf = nil
	}
}

// fail answers with weir's own error, where nothing was sent yet; an answer that is already under way
// is cut, so that nobody takes it for whole.
func (r *request) fail() {
	switch {
	case r.kind == clientGone:
		r.status, r.closing = 499, true
	case r.sent:
		r.closing = true
		r.c.cut = true
		r.status = r.kind.failure().status
	default:
		r.c.forgive()
		r.reply()
	}
}
