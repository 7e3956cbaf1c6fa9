package proxy

import (
	"bytes"
	"io"
	"strconv"
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
	u := &r.up
	u.e, u.from, u.failed = e, 0, success
	r.c.enter(phaseUpload)
	defer r.c.enter(phaseAwait)
	defer r.keepBody()
	if u.held == nil {
		u.held = r.p.relays.Get().(*[]byte)
		u.buf = *u.held
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
		if k := r.uploadPiece(); k != success {
			return k
		}
	}
	if !r.chunkedBody || u.ended {
		return r.flush()
	}
	u.ended = true
	end := r.appendTrailers(append(r.buf.out[:0], "0\r\n"...))
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
	r.up.lost = r.up.lost || r.retries+1 >= r.route.retry.Attempts || !r.idempotent()
	if r.up.lost {
		r.dropBody()
	}
}

func (r *request) dropBody() {
	if r.up.held != nil {
		r.p.relays.Put(r.up.held)
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
	}
	at, lead := u.to, 0
	if r.chunkedBody {
		lead = chunkLead
	}
	n, k := r.readBody(u.buf[at+lead : len(u.buf)-chunkTail])
	if k == earlyAnswer {
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
	_, err := e.write(piece)
	if err == nil {
		return success
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

// A chunk's size stands in front of its data in the same buffer: room for 8 hex digits and CRLF, and
// behind the data for CRLF and the last chunk.
const (
	chunkLead = 10
	chunkTail = 2 + 5
)

// frameChunk makes a chunk of the n bytes at b[chunkLead:]; it starts somewhere in the lead, so the
// size needs no padding.
func frameChunk(b []byte, n int) []byte {
	var size [8]byte
	digits := strconv.AppendUint(size[:0], uint64(n), 16)
	from := chunkLead - 2 - len(digits)
	copy(b[from:], digits)
	copy(b[chunkLead-2:], "\r\n")
	copy(b[chunkLead+n:], "\r\n")
	return b[from : chunkLead+n+2]
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
	for line := range bytes.Lines(raw) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], name) {
			n++
		}
	}
	return n
}

// deliver sends the answer to the client; n bytes of it, the head first, are in r.buf.in.
func (r *request) deliver(e *epConn, p *response, n int) kind {
	r.status, r.sent = p.status, true
	f := p.framing(r)
	r.c.hard = f == framedClose
	if f == framedClose || r.bodyLeft > 0 || r.p.stopping.Load() {
		r.closing = true
	}
	keep := !p.fields.closes && (!p.http10 || p.fields.keepAlive) && r.bodyLeft == 0
	body := r.buf.in[p.size:n]
	out := r.appendResponse(r.buf.out[:0], r.buf.in[:p.size], p, f)
	r.buf.out = out
	switch {
	case f == framedNone:
		if len(body) == 0 && !p.saysBody() {
			r.letGo(e, keep)
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

func (r *request) toClient(b []byte) kind {
	if r.c.send(b) != nil {
		return clientGone // or so slow that it comes to the same
	}
	return success
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
		r.account()
		return r.toClient(out)
	}
	for n := int(take); ; out = buf[:n] {
		if left == 0 {
			r.letGo(e, keep)
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
	}
}

// relayToEnd relays a body that ends with the endpoint's connection: out holds the head and goes
// first, body is what came with it.
func (r *request) relayToEnd(e *epConn, out, body []byte, f framing) kind {
	bp := r.p.relays.Get().(*[]byte)
	defer r.p.relays.Put(bp)
	buf := *bp
	if k := r.toClient(out); k != success {
		return k
	}
	n := copy(buf[chunkLead:], body)
	for {
		if n > 0 {
			piece := buf[chunkLead : chunkLead+n]
			if f == framedChunked {
				piece = frameChunk(buf, n)
			}
			if k := r.toClient(piece); k != success {
				return k
			}
			r.bytesOut += int64(n)
		}
		var err error
		n, err = r.fromEndpoint(e, buf[chunkLead:len(buf)-chunkTail])
		if err == io.EOF {
			break
		}
		if err != nil {
			return r.endpointFailed(false)
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
	s := chunkScanner{unwrap: f == framedClose}
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
		if len(out) >= len(r.buf.in) && !large {
			bp := r.p.relays.Get().(*[]byte)
			defer r.p.relays.Put(bp)
			buf, large = *bp, true
		}
		m, err := r.fromEndpoint(e, buf)
		if err != nil {
			return r.endpointFailed(false)
		}
		n, done, ok = s.scan(buf[:m])
		out = buf[:n]
	}
	if !ok {
		return protocolError
	}
	r.letGo(e, keep && s.rest == 0)
	if f == framedChunked {
		out = append(append(out, s.trailers...), "\r\n"...)
	}
	r.bytesOut = s.data
	return r.toClient(out)
}
