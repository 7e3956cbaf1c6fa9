package proxy

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"
	"weir/balancer"
	"weir/balancer/rollout"
	"weir/proxy/auth"
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
	path  []byte // of the target, normalised: by it the route is found
	model model

	fields    fields
	http10    bool
	method    int // index into methods
	isHead    bool
	asked     bool   // the head for the endpoint asks for a report of its load
	target    []byte // in origin-form, byte for byte
	authority []byte // from an absolute-form target, else nil
	client    netip.Addr
	id, trace []byte

	// Who asks, where a gate has verified it: the user, the name of the key, or the token's sub; "": nobody is
	// known. keyName is set where it was a key, claims where it was a token.
	who, keyName string
	claims       *auth.Claims
	challenge    []byte // what a client without credentials is told to bring

	valid       bool // the head is: the request counts
	let         bool // in, by the route's gate
	upgrade     bool // it asks for a WebSocket connection, and may have one
	expects     bool // the client waits for 100 Continue
	chunkedBody bool
	bodyLeft    int64 // of a sized body: not yet read; of a chunked one: 1 until its end
	bodyLimit   int64
	cutShort    bool // the endpoint has answered before it had all of what was gathered
	gathered    span // the body in buf.out, where it was read whole; to is 0 where it was not

	route    *route
	variant  *variant
	endpoint *balancer.Endpoint // of the attempt under way; nil between attempts
	last     *balancer.Endpoint // of the last attempt
	rif      int64              // in flight at endpoint when it was picked, this request included

	time      allowance
	began     time.Time // of the attempts
	attempts  int
	retries   int  // of them, to an endpoint that was picked for it
	hedged    bool // the attempt under way is a hedge that was faster
	interim   bool // the client got a 1xx of an endpoint
	sent      bool // the answer's head is on its way: no other can follow
	begun     bool // and some of it has left
	closing   bool // the connection ends after the answer
	status    int  // sent, or what stands for it
	kind      kind
	accounted bool
	bytesOut  int64
	connect   time.Duration
	joined    time.Duration // connect when the attempt began
	firstByte time.Duration
	call      call
	refusal   rateRefusal // of a request beyond its rate limit
	// retryAfter is what the endpoint of the last attempt asked for, 0 where it is not asked again; of a
	// request beyond its rate limit, what the client is told.
	retryAfter time.Duration

	tunneled *tunnel      // what it has become; nil: it has not
	place    *tunnelsLive // where it has one; nil: it has none

	buf     *buffers
	up      uploading
	duplex  *duplex // nil: the request's own strand uploads, if any
	stream  streaming
	tee     *tee           // nil: nobody needs a copy of the answer
	copied  *mirrorCopy    // nil: it is not
	took    time.Duration  // by the last attempt that ended
	tally   *rollout.Tally // what the first attempt counts in; nil: nowhere, or it has ended
	traced  *traced        // nil: it is not
	part    participation  // in its route's experiment
	caching *caching       // nil: no cache was asked
	scratch [scratchLen]byte
	lookup  func(name string) []byte
}

// buffers are what one attempt reads and writes through. They are pooled: an idle connection has none.
type buffers struct{ in, out []byte }

// serve answers one request, start to finish. An answer always goes out through finish, which also
// accounts for it.
func (r *request) serve() {
	defer r.finish()
	if r.kind = r.admit(); r.kind != success || r.sent {
		r.skipBody()
		return
	}
	if r.p.options.hook != nil {
		r.p.options.hook()
	}
	if r.kind = r.gather(); r.kind != success {
		return
	}
	if l := r.route.limit; l != nil {
		if r.kind = l.meetBody(r); r.kind != success {
			return
		}
	}
	if r.kind = r.choose(); r.kind != success || r.sent {
		return
	}
	if m := r.route.mirror; m != nil && !r.upgrade {
		m.begin(r)
	}
	if r.kind = r.forward(); r.kind == success && r.tee != nil {
		r.tee.whole = !r.tee.over
	}
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

// locate reads the path. An authority that verifies a domain is answered here, whatever the routes say.
func (r *request) locate() kind {
	path, ok := normalisePath(nil, r.target)
	if !ok && !(string(r.target) == "*" && methods[r.method] == "OPTIONS") {
		r.valid = false
		return malformed
	}
	if r.path = path; r.table.accounts != nil {
		r.meetChallenge()
	}
	return success
}

// admit checks what fasthttp leaves open, finds the route and holds the request against its limits.
func (r *request) admit() kind {
	if k := r.check(); k != success {
		return k
	}
	if m := &r.p.memory; m.pressure.Load() != pressureNone {
		if k := m.relieve(r); k != success {
			return k
		}
	}
	if k := r.locate(); k != success || r.sent {
		return k
	}
	host := r.fields.host.in(r.raw)
	if r.authority != nil {
		host = r.authority
	}
	i, barred, k := r.find(host)
	if k != success {
		return k
	}
	if i < 0 {
		return noRoute
	}
	r.route = r.table.routes[i]
	if k := r.allot(); k != success {
		return k
	}
	r.bodyLimit = int64(r.c.listener.settings.Load().Limits.Body)
	if own := int64(r.route.bodyLimit); own > 0 {
		r.bodyLimit = min(own, r.bodyLimit)
	}
	if g := r.route.gate; g != nil {
		if k := g.meet(r); k != success || r.sent {
			return k
		}
	}
	if barred { // by keys that have changed since
		return unauthorized
	}
	r.let = true
	if r.fields.length > r.bodyLimit {
		return bodyTooLarge
	}
	if l := r.route.limit; l != nil {
		if k := l.meetHead(r); k != success {
			return k
		}
	}
	if k := r.route.tunnels.admit(r); k != success {
		return k
	}
	if p := r.route.permits; p != nil {
		return p.acquire(r)
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
func (r *request) unread() bool {
	if d := r.duplex; d != nil {
		return !d.whole(r.c)
	}
	return r.bodyLeft > 0
}

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

// finish ends a request, whatever became of it: it answers what has no answer yet, lets go of
// everything the request held, and accounts for it. A panic ends here, as a 500.
func (r *request) finish() {
	if v := recover(); v != nil {
		r.kind = internal
		r.p.panicked(v)
	}
	c := r.c
	_ = r.endUpload()
	c.total.Store(0)
	if r.kind != success {
		r.fail()
	}
	r.release()
	r.leave()
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

// leave tells the parts of the route that the request has ended.
func (r *request) leave() {
	rt := r.route
	if rt == nil {
		return
	}
	if r.caching != nil {
		r.caching.end(r)
	}
	if rt.mirror != nil {
		rt.mirror.end(r)
	}
	if x := r.part.of; x != nil {
		x.observe(r)
	}
	r.in.turn.release(r) // whatever route or variant it was taken for
	r.in.meter.settle(r)
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
	r.giveBuffers()
}

// giveBuffers gives the buffers back, if the request has some, and with them what was gathered in them.
func (r *request) giveBuffers() {
	if r.buf == nil {
		return
	}
	if cap(r.buf.in)+cap(r.buf.out) <= maxPooled {
		r.p.buffers.Put(r.buf)
	}
	r.buf, r.gathered = nil, span{}
}

// ease gives back all that a request holds which is there no more than to pass on an answer that comes in pieces, over
// a time that nobody knows.
func (r *request) ease() {
	r.easeIntake()
	if r.tee == nil && r.caching == nil {
		r.giveBuffers()
	}
	r.c.forget()
	if r.c.ep != nil {
		r.c.ep.forget()
	}
}

// easeIntake gives back what the request was read with, if all of it was read and nothing else came.
func (r *request) easeIntake() {
	in := r.in
	if r.bodyLeft == 0 && !r.chunkedBody && r.duplex == nil && in.br != nil && in.br == in.own && in.br.Buffered() == 0 {
		in.part()
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
		r.tellBroken()
		r.c.cut = true
		r.status = r.kind.failure().status
	default:
		r.c.forgive()
		if rt := r.route; rt != nil && rt.cache != nil && rt.cache.rescue(r) {
			return
		}
		r.reply()
	}
}
