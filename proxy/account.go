package proxy

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/telemetry"
)

// account counts the request, where its head was valid, and writes its line into the access log. An
// answer that leaves in one write is accounted for just before it, so that who has read the answer
// also finds it counted.
func (r *request) account() {
	if r.accounted {
		return
	}
	r.accounted = true
	_ = r.endUpload()
	if r.caching != nil {
		r.caching.count()
	}
	r.place.leave(r)
	r.in.turn.release(r) // now, so that who has read the answer finds the place free
	d := time.Since(r.start)
	v := r.variant
	switch {
	case v != nil:
	case r.route != nil:
		v = r.route.none
	default:
		v = &r.p.unrouted
	}
	if r.valid && r.tunneled != nil {
		v.live.observe(r.method, r.status, r.failed(), r.firstByte) // how long it lives is no latency
		v.live.tunnels.open.Add(-1)
	} else if r.valid {
		v.live.observe(r.method, r.status, r.failed(), d)
		if r.isCall() {
			v.live.calls[r.callStatus()].Add(1)
		}
	} else {
		r.p.badRequests.add(r.kind.failure().reason)
	}
	if r.traced != nil && r.valid {
		r.export(v, d)
	}
	if r.p.access.Enabled() && r.logged() {
		r.logAccess(v, d)
	}
}

// protocol is the one that the request came by.
func (r *request) protocol() string {
	switch {
	case r.c.stream != nil:
		return "HTTP/2"
	case r.http10:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// logged reports whether the request is one of those that the route has logged.
func (r *request) logged() bool {
	if r.route == nil {
		return true
	}
	l := &r.route.cfg.Log
	return !l.Off && (l.Percent >= 100 || r.failed() || rand.Float64()*100 < l.Percent)
}

func (r *request) logAccess(v *variant, d time.Duration) {
	path, _, _ := bytes.Cut(r.target, []byte("?")) // a query may hold secrets
	e := &r.in.entry
	*e = telemetry.AccessEntry{
		Time: r.start, RequestID: r.id, TraceID: r.traceID(), Client: r.clientText(), User: r.who,
		Protocol: r.protocol(), Host: r.fields.host.in(r.raw), Path: path, UserAgent: lookup(r.raw, "user-agent"),
		Route: v.route, Variant: v.pool, Version: v.version, Attempts: r.attempts, Error: r.kind.failure().code,
		Status: r.status, BytesIn: r.c.bodyRead, BytesOut: r.bytesOut,
		Duration: d, Connect: r.connect, FirstByte: r.firstByte,
	}
	if id := r.c.identity; id != nil {
		e.ClientCert = id.name
	}
	if r.isCall() {
		e.GRPCStatus = r.callStatus().String()
	}
	if r.caching != nil {
		e.Cache = cacheResultNames[r.caching.result]
	}
	if t := r.tunneled; t != nil {
		e.Error = t.why().failure().code
	}
	if r.head != nil {
		e.Method = r.head.Method()
	}
	if r.last != nil {
		e.Endpoint = r.last.Address
	}
	r.p.access.Write(e)
}

// labelCounts counts events by a label whose values the code gives, never a client.
type labelCounts struct{ byLabel sync.Map } // string → *atomic.Uint64

func (c *labelCounts) add(label string) {
	n, ok := c.byLabel.Load(label)
	if !ok {
		n, _ = c.byLabel.LoadOrStore(label, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

func (c *labelCounts) each(f func(label string, n uint64)) {
	c.byLabel.Range(func(label, n any) bool {
		f(label.(string), n.(*atomic.Uint64).Load())
		return true
	})
}
