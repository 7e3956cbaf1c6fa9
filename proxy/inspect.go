package proxy

import (
	"bytes"
	"slices"
	"strconv"

	"weir/config"
)

// maxInspected is the largest body, in bytes, that is read whole before the choice because it has to be looked
// into. Larger ones pass unseen.
const maxInspected = 1 << 20

// inspects is how large a body of the route may be that is read whole before the choice; 0 where nobody looks
// into bodies, and only small ones are.
func inspects(c config.Route) int64 {
	switch {
	case c.Affinity != nil && c.Affinity.Source == config.AffinityJSON,
		c.RateLimit != nil && c.RateLimit.Cost == config.CostRows,
		c.Cache != nil && slices.Contains(c.Cache.Methods, "POST"):
		return maxInspected
	}
	return 0
}

// body is the request's body where gather has read it whole, else nil. It holds until an answer comes.
func (r *request) body() []byte {
	if r.gathered.to == 0 {
		return nil
	}
	return r.buf.out[r.gathered.from:r.gathered.to]
}

// gatherSized reads a body of known length behind the head. The buffer grows with what comes, not with what
// was announced.
func (r *request) gatherSized() kind {
	head := len(r.buf.out)
	for out := r.buf.out; r.bodyLeft > 0; r.buf.out = out {
		out = slices.Grow(out, int(min(r.bodyLeft, max(smallBody, int64(len(out)-head)))))
		n, k := r.readBody(out[len(out):cap(out)])
		if k != success {
			return k
		}
		out = out[:len(out)+n]
	}
	r.gathered = span{int32(head), int32(len(r.buf.out))}
	return success
}

// gatherChunks reads a chunked body up to the bound. One that is whole by then goes on with its length, or with
// its trailers where it has some; of a longer one, what was read is the first chunk of an upload.
func (r *request) gatherChunks() kind {
	head := len(r.buf.out)
	from := head + chunkLead
	most := from + int(r.route.inspect) + 1 // one more, to see that it is longer
	out := slices.Grow(r.buf.out, chunkLead+smallBody+chunkTail)[:from]
	for r.bodyLeft > 0 && len(out) < most {
		out = slices.Grow(out, min(most-len(out), max(smallBody, len(out)-from))+chunkTail)
		n, k := r.readBody(out[len(out):min(most, cap(out)-chunkTail)])
		if k != success {
			return k
		}
		out = out[:len(out)+n]
	}
	r.buf.out = out[:head]
	if data := out[from:]; r.bodyLeft == 0 && !r.fields.trailer && len(r.appendTrailers(nil)) == len("\r\n") {
		r.sayLength(len(data))
		head = len(r.buf.out)
		r.buf.out = append(r.buf.out, data...) // which lies further on in the same array
		r.gathered = span{int32(head), int32(head + len(data))}
		return success
	}
	if n := len(out) - from; n > 0 {
		chunk := frameChunk(out[head:from+n+chunkTail], n)
		r.buf.out = append(r.buf.out, chunk...)
	}
	if r.bodyLeft == 0 {
		end := len(r.buf.out) - len("\r\n")
		if len(out) == from {
			end = head
		}
		r.gathered = span{int32(end - (len(out) - from)), int32(end)}
		r.buf.out = r.appendTrailers(append(r.buf.out, "0\r\n"...))
	}
	return success
}

// sayLength makes the head, which is all that is in r.buf.out, announce a body of n bytes instead of chunks.
func (r *request) sayLength(n int) {
	r.fields.length = int64(n)
	line := []byte("\r\nTransfer-Encoding: chunked\r\n")
	at := bytes.Index(r.buf.out, line)
	var own [40]byte
	sized := strconv.AppendInt(append(own[:0], "\r\nContent-Length: "...), int64(n), 10)
	sized = append(sized, "\r\n"...)
	r.buf.out = slices.Replace(r.buf.out, at, at+len(line), sized...)
}

// sendLarge is send for a request that was gathered whole and does not leave in one write: the endpoint may answer
// before it has read all of it.
func (r *request) sendLarge(e *epConn) (n int, k kind) {
	if e.used && !e.quiet() {
		return 0, stale
	}
	r.c.enter(phaseUpload)
	k = r.push(e, r.buf.out)
	r.c.enter(phaseAwait)
	if r.cutShort = k == earlyAnswer; k != success && !r.cutShort {
		return 0, k
	}
	return r.await(e)
}
