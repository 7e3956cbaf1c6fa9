package proxy

import (
	"bytes"
	"io"
	"sync"
)

// framing is how the body of an answer is delimited towards the client.
type framing uint8

const (
	framedNone    framing = iota // no body
	framedLength                 // Content-Length
	framedChunked                // chunks
	framedClose                  // the end of the connection: HTTP/1.0 clients
)

// uploading is a body on its way to the endpoint. What came in one read from the client leaves in one
// write: pieces gather in buf until the client has to be waited for (conn.Read flushes) or buf is full.
// While buf has held all of it, head included, another attempt sends it again.
type uploading struct {
	e        *epConn
	pool     *sync.Pool
	held     *[]byte // buf's, from the pool; nil before the upload and after it was given back
	buf      []byte
	from, to int  // buf[from:to] waits to be sent
	ended    bool // the end of a chunked body is in buf
	lost     bool // some of what was sent is not in buf any more
	failed   kind // of a flush inside conn.Read
}

// minPiece is the room, in bytes, below which buf counts as full.
const minPiece = 8 << 10

// upload sends head and body to the endpoint as the client sends it, from the beginning where an attempt
// before has sent some of it. It ends early, and says so, when the endpoint has answered; the rest of the
// body is then not read.
func (r *request) upload(e *epConn) kind {
	if e.used && !e.quiet() {
		return stale
	}
	if k := r.invite(); k != success {
		return k
	}
	r.c.enter(phaseUpload)
	defer r.c.enter(phaseAwait)
	defer r.keepBody()
	return r.uploadTo(e)
}

// uploadTo is upload once the client was told to send, on whatever strand.
func (r *request) uploadTo(e *epConn) kind {
	u := &r.up
	u.e, u.from, u.failed = e, 0, success
	r.copied.again()
	if u.held == nil {
		r.takeBuffer(&r.p.relays)
		if len(r.buf.out) > len(u.buf)-2*minPiece {
			u.lost = true
			if k := r.push(e, r.buf.out); k != success {
				return k
			}
		} else {
			u.to = copy(u.buf, r.buf.out)
		}
	}
	for r.bodyLeft > 0 {
		if r.duplex != nil {
			if k := r.restUpload(); k != success {
				return k
			}
		}
		if k := r.uploadPiece(); k != success {
			return k
		}
	}
	r.in.meter.settle(r)
	if !r.chunkedBody || u.ended {
		return r.flush()
	}
	u.ended = true
	end := r.buf.out[:0]
	if r.duplex != nil {
		end = nil // the answer's head may be in there
	}
	end = r.appendTrailers(append(end, "0\r\n"...))
	if len(end) <= len(u.buf)-u.to {
		u.to += copy(u.buf[u.to:], end)
		return r.flush()
	}
	u.lost = true
	if k := r.flush(); k != success {
		return k
	}
	return r.push(e, end)
}

// keepBody gives the buffer of an upload back unless another attempt may need it.
func (r *request) keepBody() {
	r.copied.uploaded()
	if r.bodyLeft == 0 {
		r.in.narrow(r.c)
	}
	if r.up.e.stream == nil { // else the endpoint may say that it has not acted upon it
		r.up.lost = r.up.lost || r.retries+1 >= r.route.retry.Attempts || !r.idempotent()
	}
	if r.up.lost {
		r.dropBody()
	}
}

// takeBuffer takes a buffer of the pool for the upload, p.relays or p.pieces.
func (r *request) takeBuffer(pool *sync.Pool) {
	r.up.pool, r.up.held = pool, pool.Get().(*[]byte)
	r.up.buf, r.up.from, r.up.to = *r.up.held, 0, 0
}

func (r *request) dropBody() {
	if r.up.held != nil {
		r.up.pool.Put(r.up.held)
		r.up.held, r.up.buf, r.up.lost = nil, nil, true
	}
}

// uploadPiece reads a piece of the body behind what waits to be sent.
func (r *request) uploadPiece() kind {
	u := &r.up
	if len(u.buf)-u.to < minPiece {
		if k := r.flush(); k != success {
			return k
		}
		u.from, u.to, u.lost = 0, 0, true
		if len(u.buf) < relayBuffer {
			r.dropBody()
			r.takeBuffer(&r.p.relays)
		}
	}
	at, lead := u.to, 0
	if r.chunkedBody {
		lead = chunkLead
	}
	n, k := r.readBody(u.buf[at+lead : len(u.buf)-chunkTail])
	if k == earlyAnswer && r.duplex == nil {
		r.c.forgive()
	}
	if k != success {
		return k
	}
	if lead > 0 && n > 0 {
		n = copy(u.buf[at:], frameChunk(u.buf[at:], n))
	}
	u.to = at + n
	return success
}

// flush sends what waits.
func (r *request) flush() kind {
	u := &r.up
	if u.from == u.to {
		return success
	}
	k := r.push(u.e, u.buf[u.from:u.to])
	u.from = u.to
	return k
}

// push writes to the endpoint. One that closes or stops reading may have answered.
func (r *request) push(e *epConn, piece []byte) kind {
	c := r.c
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Idle))
	r.copied.add(piece)
	n, err := e.write(piece)
	for err != nil && c.falseAlarm() {
		piece = piece[n:]
		n, err = e.write(piece)
	}
	if err == nil {
		return success
	}
	if r.duplex != nil {
		return earlyAnswer // or what else it is: who waits for the answer finds out
	}
	switch c.interruptedBy() {
	case reasonNone:
		return earlyAnswer
	case reasonEarly:
		c.forgive()
		return earlyAnswer
	}
	return r.endpointFailed(false)
}

// appendTrailers appends the client's trailer section and the empty line that ends it. fasthttp has
// refused those that must not be trailers; it keeps the others behind the header fields of the same
// name.
func (r *request) appendTrailers(b []byte) []byte {
	for name := range r.head.Trailers() {
		values := r.head.PeekAll(unsafeString(name))
		for _, v := range values[min(occurrences(r.raw, name), len(values)):] {
			b = append(append(b, name...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// occurrences counts the header lines called name.
func occurrences(raw, name []byte) (n int) {
	for one := range eachField(raw) {
		if bytes.EqualFold(one, name) {
			n++
		}
	}
	return n
}

// deliver sends the answer to the client; n bytes of it, the head first, are in r.buf.in.
func (r *request) deliver(e *epConn, p *response, n int) kind {
	r.sent = true
	if r.duplex == nil {
		r.dropBody()
	}
	if p.fields.events || p.fields.grpc {
		r.unbind()
	}
	f := p.framing(r)
	r.c.hard = f == framedClose
	if f == framedClose || r.unread() || r.p.stopping.Load() {
		r.closing = true
	}
	keep := p.reusable(r)
	body := r.buf.in[p.size:n]
	r.tee.begin(p, r.buf.in[:p.size])
	r.caching.judge(r, p)
	if c := r.route.compression; c != nil && c.takes(r, p) {
		return r.relayCompressed(e, p, n)
	}
	if p.fields.events && f != framedNone {
		return r.relayEvents(e, p, n, f)
	}
	out := r.appendResponse(r.buf.out[:0], r.buf.in[:p.size], p, f)
	r.buf.out = out
	switch {
	case f == framedNone:
		if len(body) == 0 && !p.saysBody() {
			r.letGo(e, keep)
			r.caching.whole(r)
		}
		r.account()
		return r.toClient(out)
	case p.fields.chunked:
		return r.relayChunks(e, out, body, f, keep)
	case p.fields.length >= 0:
		return r.relaySized(e, out, body, p.fields.length, keep)
	}
	return r.relayToEnd(e, out, body, f)
}

// reusable reports whether the endpoint's connection can serve again after the answer, if it has the whole request.
func (p *response) reusable(r *request) bool {
	return !p.fields.closes && (!p.http10 || p.fields.keepAlive) && !r.cutShort
}

// framing decides how the body goes to the client.
func (p *response) framing(r *request) framing {
	switch {
	case p.bodiless(r.isHead):
		return framedNone
	case p.fields.length >= 0:
		return framedLength
	case r.http10:
		return framedClose
	}
	return framedChunked
}

// saysBody reports whether the endpoint announced a body where there can be none, so that what comes
// next on its connection cannot be trusted.
func (p *response) saysBody() bool {
	return p.status == 204 && (p.fields.chunked || p.fields.length > 0)
}

// fromEndpoint reads the next piece of the answer's body; io.EOF is left to the caller.
func (r *request) fromEndpoint(e *epConn, b []byte) (int, error) {
	r.c.deadline.Store(r.c.listener.clock.after(r.route.cfg.Timeouts.Idle))
	return e.read(b)
}

// relaySized relays a body of length bytes: out holds the head and goes first, body is what came with
// it.
func (r *request) relaySized(e *epConn, out, body []byte, length int64, keep bool) kind {
	take := min(int64(len(body)), length)
	left := length - take
	out = append(out, body[:take]...)
	r.tee.add(body[:take])
	r.buf.out = out
	keep = keep && int64(len(body)) == take
	buf := r.buf.in
	if left > int64(len(buf)) {
		bp := r.p.relays.Get().(*[]byte)
		defer r.p.relays.Put(bp)
		buf = *bp
	}
	if left == 0 {
		r.bytesOut = take
		r.letGo(e, keep)
		r.caching.whole(r)
		r.account()
		return r.toClient(out)
	}
	for n := int(take); ; out = buf[:n] {
		if left == 0 {
			r.letGo(e, keep)
			r.caching.whole(r)
		}
		if k := r.toClient(out); k != success {
			return k
		}
		r.bytesOut += int64(n)
		if left == 0 {
			return success
		}
		var err error
		n, err = r.fromEndpoint(e, buf[:min(int64(len(buf)), left)])
		if err != nil {
			return r.endpointFailed(false)
		}
		left -= int64(n)
		r.tee.add(buf[:n])
	}
}

// relayToEnd relays a body that ends with the endpoint's connection: out holds the head and goes
// first, body is what came with it.
func (r *request) relayToEnd(e *epConn, out, body []byte, f framing) kind {
	buf, large := r.buf.in, false
	n := len(body)
	r.tee.add(body)
	if f == framedChunked {
		out = appendChunk(out, body)
	} else {
		out = append(out, body...)
	}
	r.buf.out = out
	for {
		r.arrived(n, false)
		if k := r.toClient(out); k != success {
			return k
		}
		r.bytesOut += int64(n)
		if len(out) >= len(r.buf.in)-chunkLead-chunkTail && !large {
			bp := r.p.relays.Get().(*[]byte)
			defer r.p.relays.Put(bp)
			buf, large = *bp, true
		}
		var err error
		n, err = r.fromEndpoint(e, buf[chunkLead:len(buf)-chunkTail])
		if err == io.EOF {
			break
		}
		if err != nil {
			return r.endpointFailed(false)
		}
		r.tee.add(buf[chunkLead : chunkLead+n])
		if out = buf[chunkLead : chunkLead+n]; f == framedChunked {
			out = frameChunk(buf, n)
		}
	}
	r.ended(success)
	if f == framedChunked {
		return r.toClient([]byte("0\r\n\r\n"))
	}
	return success
}

// relayChunks relays a chunked body. Its framing is checked as it passes; pieces go on as they come,
// so an event reaches the client when the endpoint sends it. A body that breaks off never gets its
// last chunk.
func (r *request) relayChunks(e *epConn, out, body []byte, f framing, keep bool) kind {
	s := chunkScanner{unwrap: f == framedClose, takesReports: r.asked}
	r.tee.addChunks(body)
	n, done, ok := s.scan(body)
	out = append(out, body[:n]...)
	r.buf.out = out
	buf, large := r.buf.in, false
	for ok && !done {
		if len(out) > 0 {
			if k := r.toClient(out); k != success {
				return k
			}
		}
		r.bytesOut = s.data
		r.arrived(int(s.data), false)
		if len(out) >= len(r.buf.in) && !large {
			bp := r.p.relays.Get().(*[]byte)
			defer r.p.relays.Put(bp)
			buf, large = *bp, true
		}
		m, err := r.fromEndpoint(e, buf)
		if err != nil {
			return r.endpointFailed(false)
		}
		r.tee.addChunks(buf[:m])
		n, done, ok = s.scan(buf[:m])
		out = buf[:n]
	}
	if !ok {
		return protocolError
	}
	r.hearTrailers(s.trailers)
	if len(s.reports) > 0 {
		r.takeTrailingReport(s.reports)
	}
	r.arrived(int(s.data), false)
	r.letGo(e, keep && s.rest == 0)
	r.caching.whole(r)
	if f == framedChunked {
		out = append(append(out, s.trailers...), "\r\n"...)
	}
	r.bytesOut = s.data
	if !r.begun {
		r.account()
	}
	return r.toClient(out)
}
