package proxy

import (
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// reply answers with weir's own error: the kind's status, and {"error","code","request_id"}.
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
	body := append([]byte(`{"error":`), strconv.Quote(f.message)...)
	body = append(append(append(body, `,"code":"`...), f.code...), `","request_id":"`...)
	body = append(append(body, r.id...), "\"}\n"...)
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(f.status), 10)
	b = append(append(append(b, ' '), fasthttp.StatusMessage(f.status)...), "\r\nContent-Type: application/json\r\n"...)
	if f.status == fasthttp.StatusMethodNotAllowed {
		b = append(b, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
	b = r.appendOwn(append(b, "\r\n"...))
	if !r.isHead {
		b = append(b, body...)
	}
	return b
}

// refuse is fasthttp's error handler: the head could not be read, or what it reads of the body before
// the handler runs. The connection ends after it.
func (p *Proxy) refuse(ctx *fasthttp.RequestCtx, err error) {
	c := ctx.Conn().(*conn)
	r := &c.req
	if r.admitted {
		r.kind, r.closing = r.bodyFailed(), true
		r.finish()
		return
	}
	c.finished = true
	if c.broken || c.phase.Load() == phaseIdle && errors.Is(err, os.ErrDeadlineExceeded) {
		return // nobody listens, or nothing was asked
	}
	why := c.interruptedBy()
	if why != reasonNone && why != reasonTimeout {
		return
	}
	*r = request{p: p, c: c, ctx: ctx, start: time.Now(), client: c.peer, closing: true, lookup: r.lookup}
	r.identify()
	r.kind = headProblem(c, err, why)
	c.forgive()
	c.phase.Store(phaseBusy)
	r.reply()
	c.linger = true
}

// headProblem says what is wrong with a head that fasthttp refused.
func headProblem(c *conn, err error, why reason) kind {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case why == reasonTimeout:
		return clientSlow
	case errors.As(err, &small) && !c.sawLine:
		return uriTooLong
	case errors.As(err, &small):
		return headTooLarge
	case errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding):
		return badEncoding
	}
	return malformed
}
