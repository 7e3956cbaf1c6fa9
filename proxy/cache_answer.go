package proxy

import (
	"bytes"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"weir/proxy/cache"
)

// answer sends a kept answer to the client.
func (g *caching) answer(r *request, e *cache.Entry, how cacheResult) kind {
	if r.buf == nil { // refused before its head was made
		r.buf = r.p.buffers.Get().(*buffers)
	}
	r.status, r.sent, g.result = e.Status, true, how
	if r.unread() || r.p.stopping.Load() {
		r.closing = true
	}
	body, has := e.Body, methods[r.method] != "POST" && g.ask.Has(e)
	if has {
		r.status = fasthttp.StatusNotModified
	}
	if has || r.isHead {
		body = nil
	}
	if c := r.route.compression; c != nil && body != nil {
		if done, k := g.packed(c, r, e); done {
			return k
		}
	}
	out := g.appendAnswer(r.buf.out[:0], r, e)
	r.firstByte = time.Since(r.start)
	rest := body
	if len(out)+len(body) <= smallBuffer {
		out, rest = append(out, body...), nil
		r.bytesOut = int64(len(body))
		r.account()
	}
	r.buf.out = out
	k := r.toClient(out)
	if k == success && rest != nil {
		if k = r.toClient(rest); k == success {
			r.bytesOut = int64(len(body))
		}
	}
	return k
}

// appendAnswer appends the head of a kept answer: as an endpoint's would be, with its age.
func (g *caching) appendAnswer(b []byte, r *request, e *cache.Entry) []byte {
	b = appendStatusLine(b, r.status)
	from := len(b)
	if r.status == fasthttp.StatusNotModified {
		b = appendNotModified(b, e.Head)
	} else {
		b = append(b, e.Head...)
	}
	if d := r.route.edits; d != nil {
		b = d.response(r, b, from)
	}
	b = r.removeCORS(b, from)
	if r.status != fasthttp.StatusNotModified && r.status != fasthttp.StatusNoContent {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(e.Body)), 10)
		b = append(b, "\r\n"...)
	}
	age := max(e.Age(r.p.sinceStart(time.Now())), 0)
	b = strconv.AppendInt(append(b, "Age: "...), int64(age/time.Second), 10)
	b = append(b, "\r\n"...)
	chosen := r.variant
	r.variant = g.answered(r, e)
	b = r.appendOwn(b)
	r.variant = chosen
	return b
}

// packed sends a kept answer compressed, where the route says so and the client takes it: done tells whether. What
// is kept is not compressed, since not all clients take the same.
func (g *caching) packed(c *compression, r *request, e *cache.Entry) (done bool, k kind) {
	// The head as an endpoint would have sent it.
	head := append(appendStatusLine(r.buf.in[:0], r.status), e.Head...)
	head = strconv.AppendInt(append(head, "Age: "...), int64(max(e.Age(r.p.sinceStart(time.Now())), 0)/time.Second), 10)
	head = strconv.AppendInt(append(head, "\r\nContent-Length: "...), int64(len(e.Body)), 10)
	head = append(head, "\r\n\r\n"...)
	r.buf.in = head[:cap(head)]
	var p response
	if !p.parse(r.buf.in, len(head)) || !c.takes(r, &p) {
		return false, success
	}
	pk, err := r.p.packers.get(p.coding)
	if err != nil {
		return true, internal
	}
	defer r.p.packers.put(p.coding, pk)
	s := packing{r: r, p: &p, pk: pk}
	if k := s.pack(e.Body); k != success || pk.Close() != nil {
		return true, internal
	}
	body := pk.out[chunkLead:]
	p.fields.length = int64(len(body))
	chosen := r.variant
	r.variant = g.answered(r, e)
	r.buf.out = append(r.packedHead(&p, framedLength), body...)
	r.variant = chosen
	r.bytesOut, r.firstByte = int64(len(body)), time.Since(r.start)
	c.live.in[p.coding].Add(uint64(len(e.Body)))
	c.live.out[p.coding].Add(uint64(len(body)))
	r.account()
	return true, r.toClient(r.buf.out)
}

// answered is the variant that gave the answer; the one chosen for the request is another where answers are
// shared, or none where no variant had an endpoint.
func (g *caching) answered(r *request, e *cache.Entry) *variant {
	for _, v := range r.route.variants {
		if v.pool == e.Variant {
			return v
		}
	}
	return &variant{header: []byte("X-Weir-Variant: " + e.Variant + "\r\n")}
}

// appendNotModified appends those of the lines that 304 has: not those about the body that it does not have
// (RFC 9110, 15.4.5).
func appendNotModified(b, lines []byte) []byte {
	for line := range bytes.Lines(lines) {
		const content, location = "content-", "content-location"
		if len(line) > len(content) && equalFold(line[:len(content)], content) &&
			!(len(line) > len(location) && equalFold(line[:len(location)], location)) {
			continue
		}
		b = append(b, line...)
	}
	return b
}

// rescuable are the failures in which a stale answer is better than none.
var rescuable = [kinds]bool{
	noEndpoint: true, overloaded: true, connectFailed: true, resetByEndpoint: true, attemptTimeout: true,
	totalTimeout: true, protocolError: true, staleReset: true, badStatus: true, supplanted: true, shed: true, expired: true,
}

// rescue answers a request that has failed with a stale answer, if there is one, and returns whether there
// was. One that has failed before the gate let it in gets none: nobody knows whether it may.
func (c *cached) rescue(r *request) bool {
	if !rescuable[r.kind] || !r.let || r.upgrade {
		return false
	}
	g := r.caching
	if g == nil {
		if g = &r.in.caching; !g.seek(c, r) {
			return false
		}
	}
	e := g.spare
	if e == nil || !e.IfError(r.p.sinceStart(time.Now())) {
		return false
	}
	g.rescued = r.kind
	if r.kind = g.answer(r, e, cacheStale); r.kind != success {
		r.status, r.closing = 499, true
	}
	return true
}

// seek looks for a stale answer to a request that failed before the cache was asked, of any variant that gets
// requests.
func (g *caching) seek(c *cached, r *request) bool {
	if r.variant != nil {
		return false
	}
	defer func() { r.variant = nil }() // the request has got none
	for i, v := range r.route.variants {
		if r.route.split.Variants()[i].Weight <= 0 {
			continue
		}
		r.variant = v
		g.begin(c, r)
		if g.result != cacheMiss {
			return false
		}
		if g.look(r, r.p.sinceStart(time.Now())); g.spare != nil || c.cfg.SharedByVariants {
			break
		}
	}
	return true
}

// supplants reports whether an answer of an endpoint is one that a stale answer is better than.
func (g *caching) supplants(r *request, p *response) bool {
	if g == nil || g.spare == nil || r.sent {
		return false
	}
	switch p.status {
	case 500, 502, 503, 504: // RFC 5861, 4
		return g.spare.IfError(r.p.sinceStart(time.Now()))
	}
	return false
}
