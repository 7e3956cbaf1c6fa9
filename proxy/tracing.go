package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"reflect"
	"strconv"
	"time"

	"weir/balancer"
	"weir/config"
	"weir/internal/tracing"
)

// tracer decides which requests are traced, and takes their spans. It is nil where none are.
type tracer struct {
	config.Tracing
	exporter *tracing.Exporter
}

// tracerCloses is for how long what waits may still be sent when a tracer is replaced, or weir ends.
const tracerCloses = 5 * time.Second

// trace follows what the configuration says of tracing; nil ends it. wait: until what was collected is sent.
func (p *Proxy) trace(c *config.Tracing, wait bool) {
	old := p.tracing.Load()
	if c == nil && old == nil || c != nil && old != nil && reflect.DeepEqual(*c, old.Tracing) {
		return
	}
	var next *tracer
	if c != nil {
		s := tracing.Settings{URL: c.OTLP, Timeout: c.Timeout, Service: c.Service, Version: p.version}
		for _, h := range c.Headers {
			s.Headers = append(s.Headers, [2]string{h.Name, h.Value})
		}
		next = &tracer{Tracing: *c, exporter: tracing.New(s, &p.spans, p.log)}
	}
	p.tracing.Store(next)
	if old == nil {
		return
	}
	end := func() {
		ctx, cancel := context.WithTimeout(context.Background(), tracerCloses)
		defer cancel()
		old.exporter.Close(ctx)
	}
	if wait {
		end()
	} else {
		go end()
	}
}

// traced is what a traced request remembers for its spans: one of its own, as a server, and one for each attempt, as a
// client. Its methods do nothing on nil, and run on the request's strand.
type traced struct {
	trace      tracing.TraceID
	id, parent tracing.SpanID
	attempts   []tracedAttempt
	now        int // of attempts: that under way whose answer is waited for
}

type tracedAttempt struct {
	id         tracing.SpanID
	endpoint   *balancer.Endpoint
	start, end time.Time // end is zero while it is under way
	outcome    string
	status     int
	hedge      bool
}

// meetTracer decides whether the request is traced, and makes its trace context. valid: r.trace is the client's. made has
// room for what is made.
func (r *request) meetTracer(t *tracer, valid bool, made []byte) {
	if r.traced != nil {
		return
	}
	chosen := rand.Float64()*100 < t.Percent
	if valid && !t.IgnoreParent {
		chosen = unhex(r.trace[54])&1 == 1
	}
	if valid && !chosen {
		return
	}
	at := len(made)
	if valid {
		made = append(made, r.trace[:36]...)
		copy(made[at:], "00") // what later versions append is theirs
	} else {
		made = appendHex(appendHex(append(made, "00-"...), rand.Uint64()|1), rand.Uint64())
		made = append(made, '-')
	}
	made = appendHex(made, rand.Uint64()|1)
	made = append(made, '-', '0', '0'+bit01(chosen))
	if chosen {
		r.traced = new(traced)
		decodeHex(r.traced.id[:], made[at+36:])
		decodeHex(r.traced.trace[:], made[at+3:])
		if valid {
			decodeHex(r.traced.parent[:], r.trace[36:])
		}
	}
	r.trace = made[at:]
}

func bit01(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decodeHex fills to from the digits that from begins with.
func decodeHex(to, from []byte) { _, _ = hex.Decode(to, from[:2*len(to)]) } // both come from validTrace, or were made here

// begin notes an attempt at the request's endpoint, whose span the endpoint is told of.
func (t *traced) begin(r *request) {
	if t == nil {
		return
	}
	t.now = len(t.attempts)
	t.add(r.endpoint, r.began, false)
	head := r.buf.out
	if r.up.held != nil {
		head = r.up.buf[:r.up.to]
	}
	t.tell(head)
}

// hedge notes a second attempt beside the one under way; request is what it sends.
func (t *traced) hedge(x *hedge) {
	if t == nil {
		return
	}
	t.add(x.endpoint, x.began, true)
	t.tell(x.request)
}

func (t *traced) add(e *balancer.Endpoint, start time.Time, hedge bool) {
	a := tracedAttempt{endpoint: e, start: start, hedge: hedge}
	decodeHex(a.id[:], appendHex(make([]byte, 0, 16), rand.Uint64()|1))
	t.attempts = append(t.attempts, a)
}

// tell writes the id of the last attempt's span into a head for its endpoint. A trace context that headers.request has put
// in the place of the request's stays as it is.
func (t *traced) tell(head []byte) {
	v := lookup(head[:headLen(head, 0)], "traceparent")
	var own [32]byte
	hex.Encode(own[:], t.trace[:])
	if len(v) == 55 && bytes.Equal(v[3:35], own[:]) {
		hex.Encode(v[36:52], t.attempts[len(t.attempts)-1].id[:])
	}
}

// ended notes how the attempt whose answer was waited for went.
func (t *traced) ended(r *request, o balancer.Outcome) {
	if t == nil || t.now >= len(t.attempts) {
		return
	}
	a := &t.attempts[t.now]
	a.end, a.outcome = time.Now(), o.String()
	if o == balancer.Success || o == balancer.Status {
		a.status = r.status
	}
}

// hedgeFailed notes that the second attempt had no answer.
func (t *traced) hedgeFailed() {
	if t != nil && len(t.attempts) > 0 {
		a := &t.attempts[len(t.attempts)-1]
		a.end, a.outcome = time.Now(), "failed"
	}
}

// hedgeAnswered goes on with the second attempt.
func (t *traced) hedgeAnswered() {
	if t != nil {
		t.now = len(t.attempts) - 1
	}
}

// export gives the spans of a request that has ended away.
func (r *request) export(v *variant, d time.Duration) {
	x := r.p.tracing.Load()
	if x == nil { // it was, when the request began
		return
	}
	t, end := r.traced, r.start.Add(d)
	spans := make([]tracing.Span, 0, 1+len(t.attempts))
	path, _, _ := bytes.Cut(r.target, []byte("?")) // a query may hold secrets
	method := methods[r.method]
	s := tracing.Span{
		Trace: t.trace, ID: t.id, Parent: t.parent, State: string(lookup(r.raw, "tracestate")), Name: method, Kind: tracing.Server,
		Start: r.start, End: end, Failed: r.failed(),
		Attributes: []tracing.Attribute{
			tracing.Text("http.request.method", method), tracing.Number("http.response.status_code", int64(r.status)),
			tracing.Text("url.path", string(path[:min(len(path), maxSampled)])), tracing.Text("url.scheme", r.scheme()),
			tracing.Text("server.address", string(r.fields.host.in(r.raw))), tracing.Text("client.address", string(r.clientText())),
			tracing.Text("network.protocol.version", r.protocol()[len("HTTP/"):]),
			tracing.Text("user_agent.original", string(lookup(r.raw, "user-agent"))),
			tracing.Number("http.request.body.size", r.c.bodyRead), tracing.Number("http.response.body.size", r.bytesOut),
			tracing.Text("weir.request_id", string(r.id)), tracing.Text("weir.route", v.route), tracing.Text("weir.variant", v.pool),
			tracing.Text("weir.version", v.version), tracing.Text("error.type", r.kind.failure().code),
		},
	}
	if v.route != "" {
		s.Name += " " + v.route
	}
	if r.isCall() {
		s.Attributes = append(s.Attributes, tracing.Text("rpc.system", "grpc"), tracing.Number("rpc.grpc.status_code", int64(r.callStatus())))
	}
	if r.caching != nil {
		s.Attributes = append(s.Attributes, tracing.Text("weir.cache", cacheResultNames[r.caching.result]))
	}
	spans = append(spans, s)
	for i := range t.attempts {
		spans = append(spans, t.attempts[i].span(t, i, method, end))
	}
	x.exporter.Export(spans...)
}

func (a *tracedAttempt) span(t *traced, i int, method string, end time.Time) tracing.Span {
	if a.end.IsZero() { // a hedge that lost
		a.end, a.outcome = end, balancer.Canceled.String()
	}
	s := tracing.Span{
		Trace: t.trace, ID: a.id, Parent: t.id, Name: method, Kind: tracing.Client, Start: a.start, End: a.end,
		Failed: a.outcome != balancer.Success.String() && a.outcome != balancer.Canceled.String(),
		Attributes: []tracing.Attribute{
			tracing.Text("http.request.method", method), tracing.Text("weir.pool", a.endpoint.Pool), tracing.Text("weir.outcome", a.outcome),
		},
	}
	if host, port, err := net.SplitHostPort(a.endpoint.Address); err == nil {
		n, _ := strconv.ParseInt(port, 10, 64)
		s.Attributes = append(s.Attributes, tracing.Text("server.address", host), tracing.Number("server.port", n))
	} else {
		s.Attributes = append(s.Attributes, tracing.Text("server.address", a.endpoint.Address)) // of a Unix socket
	}
	if a.status > 0 {
		s.Attributes = append(s.Attributes, tracing.Number("http.response.status_code", int64(a.status)))
	}
	if i > 0 {
		s.Attributes = append(s.Attributes, tracing.Number("http.request.resend_count", int64(i)))
	}
	if a.hedge {
		s.Attributes = append(s.Attributes, tracing.Text("weir.attempt", "hedge"))
	}
	if s.Failed {
		s.Attributes = append(s.Attributes, tracing.Text("error.type", a.outcome))
	}
	return s
}

// scheme is what the client spoke.
func (r *request) scheme() string {
	if r.secure() {
		return "https"
	}
	return "http"
}
