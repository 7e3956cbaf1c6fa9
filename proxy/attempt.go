package proxy

import (
	"errors"
	"io"
	"time"

	"weir/balancer"
)

// Sizes of the buffers of an attempt, in bytes.
const (
	smallBuffer     = 16 << 10    // head, and body of most requests and answers
	relayBuffer     = 256 << 10   // pieces of a large body; with half of it 150 KB cost a tenth more
	pieceBuffer     = 16<<10 + 32 // pieces of what may rest at any time: a frame of HTTP/2, or a record of TLS, and its framing
	smallBody       = 16 << 10    // a sized body up to here is read whole before an endpoint is chosen
	maxResponseHead = 64 << 10
	maxPooled       = 2 * maxResponseHead
	maxInterim      = 32 // 1xx answers passed on; more are dropped
	maxInterimBytes = 1 << 20
)

// gather builds what goes to the endpoint: the head, and a small body with it, so that both leave in
// one write and the endpoint is not held up by a slow client. A body that has to be looked into may be larger.
func (r *request) gather() kind {
	r.buf = r.p.buffers.Get().(*buffers)
	r.buf.out = r.appendHead(r.buf.out[:0])
	switch whole := max(smallBody, r.route.inspect); {
	case r.bodyLeft == 0:
		r.gathered = span{int32(len(r.buf.out)), int32(len(r.buf.out))}
		return success
	case r.chunkedBody && r.route.inspect == 0, !r.chunkedBody && r.bodyLeft > whole:
		return success
	}
	if k := r.invite(); k != success {
		return k
	}
	if r.chunkedBody {
		return r.gatherChunks()
	}
	return r.gatherSized()
}

// invite tells a client that waits for it to send its body.
func (r *request) invite() kind {
	if !r.expects {
		return success
	}
	r.expects = false
	if r.c.send([]byte("HTTP/1.1 100 Continue\r\n\r\n")) != nil {
		if r.c.interruptedBy() == reasonTotal {
			return r.late()
		}
		return clientGone
	}
	return success
}

// forward makes attempts until one succeeds or retry.go says that it was the last. It ends what choose began.
func (r *request) forward() kind {
	if r.bodyLeft == 0 {
		r.in.narrow(r.c)
	}
	for {
		r.began, r.joined = time.Now(), r.connect
		r.traced.begin(r)
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
	if r.time.form != noTime {
		r.retime()
	}
	c.deadline.Store(0) // the body's; until there is a connection, connect_timeout is the bound
	for tries := 0; ; tries++ {
		e, err := r.connection(t, fresh)
		if err != nil {
			return r.unconnected(err)
		}
		c.attach(e)
		n, k := r.send(e)
		if k == stale { // nothing was sent: the next connection is as good as the first
			c.detach()
			t.drop(e)
			if fresh = true; tries < maxStale {
				continue
			}
			return refused
		}
		if k == success {
			r.answered()
			k = r.receive(c.ep, n) // which a hedge may have changed
		}
		if c.ep != nil {
			r.letGo(c.ep, false)
		}
		return k
	}
}

// maxStale is how many connections, or streams, in a row may turn out to be of no use to an attempt before anything of
// it was processed. An HTTP/2 endpoint that always refuses is not asked for ever.
const maxStale = 8

// unconnected is what an attempt ends in that got no connection.
func (r *request) unconnected(err error) kind {
	switch err {
	case errNoConnection:
		return overloaded
	case errPending:
		return r.broken(breakerPending)
	}
	if _, other := errors.AsType[*notHTTP2Error](err); other {
		return protocolError
	}
	return connectFailed
}

// letGo ends the endpoint's part of the attempt; what is left to do concerns the client alone. keep:
// the answer was read whole and nothing behind it, so the connection can serve again.
func (r *request) letGo(e *epConn, keep bool) {
	_ = r.endUpload() // an answer that is whole stands
	keep = keep && r.bodyLeft == 0
	switch untouched := r.c.detach(); {
	case keep && untouched:
		e.t.put(e)
	case r.bodyLeft > 0: // it must not take what it has of the body for all of it
		e.t.abort(e)
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
	if k == success || k == badStatus {
		outcome = r.judged()
	}
	e := r.endpoint
	r.endpoint = nil
	r.took = time.Since(r.began)
	a := balancer.Attempt{Outcome: outcome, Took: r.took, Ended: r.began.Add(r.took), Connect: r.connect - r.joined, Rif: r.rif}
	if head := r.start.Add(r.firstByte).Sub(r.began); head > 0 { // else it is that of an attempt before
		a.Head = head
	}
	e.End(a)
	r.traced.ended(r, outcome)
	if r.tally != nil {
		r.tried(outcome)
	}
}

func (r *request) connection(t *transport, fresh bool) (*epConn, error) {
	start := time.Now()
	e, err := t.get(r.c.strand, fresh, r)
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
	if r.bothWays(e) {
		return r.sendBothWays(e)
	}
	if r.bodyLeft > 0 || r.up.held != nil {
		if k := r.upload(e); k != success && k != earlyAnswer {
			return 0, k
		}
		return r.await(e)
	}
	c.deadline.Store(c.listener.clock.after(r.route.cfg.Timeouts.Attempt))
	c.phase.Store(phaseAwait)
	c.heedDeparture()
	if len(r.buf.out) > relayBuffer/2 {
		return r.sendLarge(e)
	}
	if delay := r.hedgeAfter(); delay > 0 {
		return r.sendHedged(e, delay)
	}
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
	r.variant.load.sent(r)
	if delay := r.hedgeAfter(); delay > 0 {
		return r.awaitHedged(e, delay)
	}
	n, err := e.read(r.buf.in)
	return n, r.awaited(e, err)
}

// awaited is what the wait for the first bytes of an answer has come to. A request that an HTTP/2 endpoint has not
// acted upon goes to it once more while it is in memory.
func (r *request) awaited(e *epConn, err error) kind {
	switch {
	case err == nil:
		return success
	case err == errStale && !r.up.lost && r.c.interruptedBy() == reasonNone:
		return stale
	}
	return r.endpointFailed(e.used)
}

// endpointFailed says why reading from or writing to the endpoint failed. reused: on a connection
// that had served before, and before the first byte of the answer.
func (r *request) endpointFailed(reused bool) kind {
	if k := r.endUpload(); k != success {
		return k
	}
	switch r.c.interruptedBy() {
	case reasonTimeout:
		return attemptTimeout
	case reasonTotal:
		return r.late()
	case reasonGone:
		return clientGone
	case reasonStop:
		return internal
	}
	switch e := r.c.ep; {
	case e != nil && e.stream != nil && e.stream.faulty():
		return protocolError
	case r.timeOver():
		return expired
	case reused:
		return staleReset
	}
	return resetByEndpoint
}

// receive reads the answer's head, passes interim answers on, and delivers the answer. n bytes of it
// are in r.buf.in.
func (r *request) receive(e *epConn, n int) kind {
	p := &r.in.answer // not on the stack: what compresses it keeps it
	*p = response{}
	p.fields.takesReports = r.asked
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
		if !p.parse(r.buf.in, size) || p.status == 101 && !p.agrees(r) {
			return protocolError
		}
		if p.status == 101 {
			return r.tunnel(e, p, n)
		}
		if p.status >= 200 {
			break
		}
		interim++
		if interimBytes += size; interimBytes > maxInterimBytes {
			return protocolError
		}
		if p.status > 100 && !r.http10 && interim <= maxInterim {
			if k := r.passInterim(p); k != success {
				return k
			}
		}
		n, searched = copy(r.buf.in, r.buf.in[size:n]), 0
	}
	r.hear(p, r.buf.in)
	if r.asked {
		r.takeReport(p)
	}
	if r.retriesStatus(p) {
		return badStatus
	}
	if r.caching.supplants(r, p) {
		return supplanted
	}
	r.accepted()
	return r.deliver(e, p, n)
}

// accepted notes that an attempt's answer is the request's.
func (r *request) accepted() {
	r.firstByte = time.Since(r.start)
	r.duplex.answers(r)
	r.variant.load.answered(r)
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
		if r.c.interruptedBy() != reasonNone {
			return r.endpointFailed(false)
		}
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
		if r.duplex != nil {
			return clientGone // or what else it is: who waits for the answer knows
		}
		return r.late()
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
