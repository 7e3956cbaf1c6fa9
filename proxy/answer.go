package proxy

import (
	"strconv"

	"github.com/valyala/fasthttp"
)

// answer sends an answer of weir's own that is no error, in one write: the status, whole header lines, and the
// body. What the client still sends of its request is read first where that is little, so that the connection
// can stay.
func (r *request) answer(status int, lines, body []byte) {
	r.skipBody()
	r.status, r.sent = status, true
	if r.unread() || r.p.stopping.Load() {
		r.closing = true
	}
	if r.buf == nil {
		r.buf = r.p.buffers.Get().(*buffers)
	}
	b := appendStatusLine(r.buf.out[:0], status)
	from := len(b)
	b = append(b, lines...)
	if r.route != nil && r.route.edits != nil {
		b = r.route.edits.response(r, b, from)
	}
	if status != fasthttp.StatusNoContent && status != fasthttp.StatusNotModified {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
		b = append(b, "\r\n"...)
	} else {
		body = nil
	}
	b = r.appendOwn(b)
	if !r.isHead {
		b = append(b, body...)
		r.bytesOut = int64(len(body))
	}
	r.buf.out = b
	r.account()
	if r.c.send(b) != nil {
		r.closing = true
	}
}

func appendStatusLine(b []byte, status int) []byte {
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(append(b, ' '), fasthttp.StatusMessage(status)...)
	return append(b, "\r\n"...)
}

// toClient sends a piece of an answer.
func (r *request) toClient(b []byte) kind {
	c := r.c
	c.wrote()
	n, err := c.write(b)
	if err != nil && n == 0 && !r.begun {
		// The watch has interrupted what has come to its end just now: that is not the client's fault.
		switch why := c.interruptedBy(); {
		case why == reasonTotal && !r.accounted:
			r.sent = false
			return r.late()
		case why == reasonTotal:
			c.total.Store(0) // all of the answer is here
			fallthrough
		case why == reasonTimeout:
			c.forgive()
			c.wrote()
			_, err = c.write(b)
		}
	}
	c.noteWrite(err)
	switch {
	case err == nil:
	case c.interruptedBy() == reasonTotal && r.late() == expired:
		return expired
	default:
		if k := r.endUpload(); k != success {
			r.sent = r.begun || n > 0
			return k
		}
		return clientGone // or so slow that it comes to the same
	}
	r.begun = true
	return success
}
