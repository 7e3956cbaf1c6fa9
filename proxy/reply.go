package proxy

import (
	"bytes"
	"errors"
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
	if r.kind == rateLimited {
		b = appendRetryAfter(b, r.retryAfter)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
	b = r.appendOwn(append(b, "\r\n"...))
	if !r.isHead {
		b = append(b, body...)
	}
	return b
}

// refuse answers a head that could not be parsed. The connection ends after it.
func (c *conn) refuse(in *intake, err error) {
	c.finished = true
	why := c.interruptedBy()
	if c.broken || why != reasonNone && why != reasonTimeout {
		return // nobody listens
	}
	p, r := c.listener.p, &in.req
	*r = request{p: p, c: c, in: in, start: time.Now(), client: c.peer, closing: true, lookup: r.lookup}
	r.identify()
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
