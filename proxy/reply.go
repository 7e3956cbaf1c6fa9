package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// reply answers with weir's own error: the kind's status, and {"error","code","request_id"}. A call of gRPC gets
// grpc-status and grpc-message instead; that its status is 200 there does not make it one.
func (r *request) reply() {
	f := r.kind.failure()
	r.status, r.sent = f.status, true
	if r.unread() || !r.valid || r.kind == badMethod || r.p.stopping.Load() {
		r.closing = true
	}
	answer := r.appendReply(nil, f)
	r.account()
	if r.c.send(answer) != nil {
		r.closing = true
	}
}

func (r *request) appendReply(b []byte, f *failure) []byte {
	message := f.message
	if r.kind == shed {
		message = r.in.turn.refused
	}
	var body []byte
	if r.isCall() {
		b = appendStatusLine(b, fasthttp.StatusOK)
	} else {
		b = appendStatusLine(b, f.status)
	}
	from := len(b)
	if r.isCall() {
		b = appendCallStatus(b, f.call, message)
	} else {
		b = append(b, "Content-Type: application/json\r\n"...)
		body = r.errorBody(f, message)
	}
	if f.status == fasthttp.StatusMethodNotAllowed {
		b = append(b, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	b = r.appendWait(b)
	if r.kind == unauthorized {
		b = append(b, r.challenge...)
	}
	if r.route != nil && r.route.edits != nil {
		b = r.route.edits.response(r, b, from)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
	b = r.appendOwn(append(b, "\r\n"...))
	if !r.isHead {
		b = append(b, body...)
	}
	return b
}

func (r *request) errorBody(f *failure, message string) []byte {
	body := append([]byte(`{"error":`), strconv.Quote(message)...)
	body = append(append(append(body, `,"code":"`...), f.code...), `","request_id":"`...)
	return append(append(body, r.id...), "\"}\n"...)
}

// appendWait appends when a request that there was no room for may come again.
func (r *request) appendWait(b []byte) []byte {
	after := r.retryAfter
	switch r.kind {
	case rateLimited:
		b = r.refusal.appendFields(b, after)
	case shed:
		b = appendRetryAfter(b, after)
	case authBusy, authUnready:
		after = time.Second
		b = appendRetryAfter(b, after)
	default:
		return b
	}
	if r.isCall() {
		b = appendPushback(b, after)
	}
	return b
}

// refuse answers a head that could not be parsed. The connection ends after it. To gRPC, which is spoken over HTTP/2, it
// answers as such: there a head that cannot be parsed at all has no answer, and one that is too large is known.
func (c *conn) refuse(in *intake, err error) {
	c.finished = true
	why := c.interruptedBy()
	if c.broken || why != reasonNone && why != reasonTimeout {
		return // nobody listens
	}
	p, r := c.listener.p, &in.req
	*r = request{p: p, c: c, in: in, start: time.Now(), client: c.peer, closing: true, lookup: r.lookup}
	r.identify()
	if c.stream != nil && c.stream.call {
		r.fields.grpc, r.method = true, methodIndex([]byte("POST"))
	}
	r.kind = headProblem(in, err, why)
	c.forgive()
	c.phase.Store(phaseBusy)
	r.reply()
	c.linger = true
}

// headProblem says what is wrong with a head that fasthttp refused.
func headProblem(in *intake, err error, why reason) kind {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case why == reasonTimeout:
		return clientSlow
	case err == errHTTP1:
		return onlyHTTP2
	case errors.As(err, &small) && !in.req.c.sawLine:
		return uriTooLong
	case errors.As(err, &small):
		return headTooLarge
	case errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding), codedOtherwise(in):
		return badEncoding
	}
	return malformed
}

// codedOtherwise reports whether what makes the head in the buffer unacceptable is a transfer coding.
func codedOtherwise(in *intake) bool {
	b, _ := in.br.Peek(in.br.Buffered())
	size, line := headLen(b, 0), bytes.IndexByte(b, '\n')+1
	var f fields
	return size > line && f.read(b, line, line+headerEnd(b[line:size]), fromClient) == badCoding
}
