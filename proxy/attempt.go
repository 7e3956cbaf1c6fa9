package proxy

import (
	"errors"
	"io"
	"slices"
	"time"

	"weir/balancer"
)

// Sizes of the buffers of an attempt, in bytes.
const (
	smallBuffer     = 16 << 10  // head, and body of most requests and answers
	relayBuffer     = 256 << 10 // pieces of a large body; with half of it 150 KB cost a tenth more
	smallBody       = 16 << 10  // a sized body up to here is read whole before an endpoint is chosen
	maxResponseHead = 64 << 10
	maxPooled       = 2 * maxResponseHead
	maxInterim      = 32 // 1xx answers passed on; more are dropped
	maxInterimBytes = 1 << 20
)

// gather builds what goes to the endpoint: the head, and a small body with it, so that both leave in
// one write and the endpoint is not held up by a slow client.
func (r *request) gather() kind {
	r.buf = r.p.buffers.Get().(*buffers)
	out := r.appendHead(r.buf.out[:0])
	r.buf.out = out
	if r.bodyLeft == 0 || r.chunkedBody || r.bodyLeft > smallBody {
		return success
	}
	if k := r.invite(); k != success {
		return k
	}
	head := len(out)
	out = slices.Grow(out, int(r.bodyLeft))[:head+int(r.bodyLeft)]
	for at := head; r.bodyLeft > 0; {
		n, k := r.readBody(out[at:])
		if k != success {
			return k
		}
		at += n
	}
	r.buf.out = out
	return success
}

// invite tells a client that waits for it to send its body.
func (r *request) invite() kind {
	if !r.expects {
		return success
	}
	r.expects = false
	if r.c.send([]byte("HTTP/1.1 100 Continue\r\n\r\n")) != nil {
		return clientGone
	}
	return success
}

// forward makes attempts until one succeeds or retry.go says that it was the last. It ends what choose began.
func (r *request) forward() kind {
	for {
		r.began = time.Now()
		k := r.attempt(false)
		if r.mayRenew(k) {
			k = r.attempt(true)
		}
		if r.endpoint != nil {
			r.ended(k)
		}
		if k == success {
			return k
		}
		if k = r.again(k); k != success {
			return k
		}
	}
}

// safe reports whether a method asks for no change (RFC 9110, 9.2.1).
func safe(method int) bool {
	switch methods[method] {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// attempt is one exchange with the endpoint: request out, answer back to the client.
func (r *request) attempt(fresh bool) kind {
	c, t := r.c, r.endpoint.Transport.(*transport)
	r.attempts++
	c.deadline.Store(0) // the body's; until there is a connection, connect_timeout is the bound
	for {
		e, err := r.connection(t, fresh)
		if err != nil {
			if errors.Is(err, errNoConnection) {
				return overloaded
			}
			return connectFailed
		}
		c.attach(e)
		n, k := r.send(e)
		if k == stale { // nothing was sent: the next connection is as good as the first
			c.detach()
			t.drop(e)
			fresh = true
			continue
		}
		if k == success {
			k = r.receive(e, n)
		}
		if c.ep != nil {
			r.letGo(e, false)
		}
		return k
	}
}

// letGo ends the endpoint's part of the attempt; what is left to do concerns the client alone. keep:
// the answer was read whole and nothing behind it, so the connection can serve again.
func (r *request) letGo(e *epConn, keep bool) {
	switch untouched := r.c.detach(); {
	case keep && untouched:
		e.t.put(e)
	case r.bodyLeft > 0: // it must not take what it has of the body for all of it
		e.reset()
		e.t.release()
	default:
		e.t.drop(e)
	}
	if keep {
		r.ended(success)
	}
}

// ended tells the endpoint how the attempt went.
func (r *request) ended(k kind) {
	outcome := k.failure().outcome
	if k == success && r.status >= 500 {
		outcome = balancer.Status
	}
	e := r.endpoint
	r.endpoint = nil
	e.Done(outcome, time.Since(r.began))
}

func (r *request) connection(t *transport, fresh bool) (*epConn, error) {
	start := time.Now()
	e, err := t.get(r.c.strand, fresh)
	if err != nil || !e.used {
		r.connect += time.Since(start)
	}
	return e, err
}

// Verdicts that never leave an attempt.
const (
	stale       kind = 254 // the connection was closed while idle, nothing was sent
	earlyAnswer kind = 255 // the endpoint answers before it has the whole body
)

// send sends the request and waits for the first bytes of the answer, n of them in r.buf.in.
func (r *request) send(e *epConn) (n int, k kind) {
	c := r.c
	if r.bodyLeft > 0 || r.up.held != nil {
		if k := r.upload(e); k != success && k != earlyAnswer {
			return 0, k
		}
		return r.await(e)
	}
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Attempt))
	c.phase.Store(phaseAwait)
	n, sent, err := e.exchange(r.buf.out, r.buf.in, e.used)
	switch {
	case err == nil:
		return n, success
	case err == errStale:
		return 0, stale
	case !sent && c.interruptedBy() == reasonNone:
		return 0, stale
	}
	return 0, r.endpointFailed(e.used)
}

// await waits for the first bytes of the answer to a request that was sent in pieces.
func (r *request) await(e *epConn) (n int, k kind) {
	c := r.c
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Attempt))
	n, err := e.read(r.buf.in)
	if err != nil {
		return 0, r.endpointFailed(e.used)
	}
	return n, success
}

// endpointFailed says why reading from or writing to the endpoint failed. reused: on a connection
// that had served before, and before the first byte of the answer.
func (r *request) endpointFailed(reused bool) kind {
	switch r.c.interruptedBy() {
	case reasonTimeout:
		return attemptTimeout
	case reasonTotal:
		return totalTimeout
	case reasonGone:
		return clientGone
	case reasonStop:
		return internal
	}
	if reused {
		return staleReset
	}
	return resetByEndpoint
}

// receive reads the answer's head, passes interim answers on, and delivers the answer. n bytes of it
// are in r.buf.in.
func (r *request) receive(e *epConn, n int) kind {
	var p response
	searched, interim, interimBytes := 0, 0, 0
	for {
		size := headLen(r.buf.in[:n], searched)
		if size == 0 {
			if !mayBeHTTP(r.buf.in[:n]) || n >= maxResponseHead {
				return protocolError
			}
			if n == len(r.buf.in) {
				r.buf.in = append(r.buf.in, make([]byte, len(r.buf.in))...)
			}
			searched = n
			m, err := e.read(r.buf.in[n:])
			if err != nil {
				return r.endpointFailed(false)
			}
			n += m
			continue
		}
		if !p.parse(r.buf.in, size) || p.status == 101 {
			return protocolError
		}
		if p.status >= 200 {
			break
		}
		interim++
		if interimBytes += size; interimBytes > maxInterimBytes {
			return protocolError
		}
		if p.status > 100 && !r.http10 && interim <= maxInterim {
			if k := r.passInterim(&p); k != success {
				return k
			}
		}
		n, searched = copy(r.buf.in, r.buf.in[size:n]), 0
	}
	if r.retriesStatus(&p) {
		return badStatus
	}
	r.firstByte = time.Since(r.start)
	return r.deliver(e, &p, n)
}

// mayBeHTTP reports whether b can be the beginning of an answer, so that an endpoint that speaks
// something else is found out by its first bytes and not by a timeout.
func mayBeHTTP(b []byte) bool {
	const prefix = "HTTP/1."
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

func (r *request) passInterim(p *response) kind {
	r.interim = true
	b := p.appendStatus(r.buf.out[:0], r.buf.in)
	b = append(p.fields.appendKept(b, r.buf.in, p.at, p.end), "\r\n"...)
	deadline := r.c.deadline.Load()
	if r.c.send(b) != nil {
		return clientGone
	}
	r.c.deadline.Store(deadline)
	r.buf.out = b
	return success
}

// readBody reads a piece of the request's body.
func (r *request) readBody(p []byte) (int, kind) {
	if r.chunkedBody {
		return r.readChunked(p)
	}
	n, err := r.in.br.Read(p[:min(int64(len(p)), r.bodyLeft)])
	r.c.bodyRead += int64(n)
	r.bodyLeft -= int64(n)
	if err != nil && r.bodyLeft > 0 {
		return n, r.bodyFailed()
	}
	return n, success
}

// readChunked reads a piece of a chunked body's data; fasthttp takes its framing away.
func (r *request) readChunked(p []byte) (int, kind) {
	m := &r.in.msg
	if m.BodyStream() == nil {
		if err := m.ContinueReadBodyStream(r.in.br, 0, false); err != nil {
			return 0, r.bodyFailed()
		}
	}
	n, err := m.BodyStream().Read(p)
	r.c.bodyRead += int64(n)
	switch {
	case r.c.bodyRead > r.bodyLimit:
		return n, bodyTooLarge
	case err == io.EOF && !r.c.eof: // fasthttp takes the end of the connection for the end of the trailers
		r.bodyLeft = 0
	case err != nil:
		return n, r.bodyFailed()
	}
	return n, success
}

// bodyFailed says why reading the request's body failed.
func (r *request) bodyFailed() kind {
	if k := r.up.failed; k != success {
		return k
	}
	switch r.c.interruptedBy() {
	case reasonTimeout:
		return clientSlow
	case reasonTotal:
		return totalTimeout
	case reasonEarly:
		return earlyAnswer
	case reasonGone, reasonStop:
		return clientGone
	}
	if r.c.eof || r.c.broken {
		return clientGone
	}
	return malformed
}
