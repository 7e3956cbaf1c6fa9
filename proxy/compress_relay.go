package proxy

import (
	"bytes"
	"io"
)

// packPiece is how much is compressed at once, in bytes: 0.3 ms. On a loop others have their turn after it.
const packPiece = 64 << 10

// answerBody is the body of an answer as it is read from the endpoint, whatever its framing.
type answerBody struct {
	r      *request
	e      *epConn
	chunks chunkScanner
	framed bool  // in chunks
	left   int64 // of a sized body; -1: of any other
	done   bool  // all of it was read
	keep   bool  // the endpoint's connection can serve again after it
	events bool  // it is an event stream
}

// take takes the next bytes of the connection and returns those of the body.
func (b *answerBody) take(raw []byte) ([]byte, kind) {
	switch {
	case b.framed:
		n, done, ok := b.chunks.scan(raw)
		if !ok {
			return nil, protocolError
		}
		b.done = done
		b.keep = b.keep && b.chunks.rest == 0
		raw = raw[:n]
	case b.left >= 0:
		n := min(int64(len(raw)), b.left)
		b.keep = b.keep && int64(len(raw)) == n
		b.left -= n
		b.done = b.left == 0
		raw = raw[:n]
	}
	if b.events || b.left < 0 {
		b.r.arrived(len(raw), b.events)
	}
	if b.done {
		b.r.letGo(b.e, b.keep)
	}
	b.r.tee.add(raw)
	if b.done {
		b.r.caching.whole(b.r)
	}
	return raw, success
}

// next reads the next piece into buf.
func (b *answerBody) next(buf []byte) ([]byte, kind) {
	n, err := b.r.fromEndpoint(b.e, buf)
	return b.came(buf[:n], err)
}

// came is next once a piece, or err, has come.
func (b *answerBody) came(raw []byte, err error) ([]byte, kind) {
	if err == io.EOF && !b.framed && b.left < 0 {
		b.done = true
		b.r.ended(success)
		return nil, success
	}
	if err != nil {
		return nil, b.r.endpointFailed(false)
	}
	return b.take(raw)
}

// relayCompressed is deliver's way for an answer that is compressed; n bytes of it are in r.buf.in.
func (r *request) relayCompressed(e *epConn, p *response, n int) kind {
	if p.bodiless(r.isHead) {
		p.fields.length = -1 // it would be another
		out := r.packedHead(p, framedNone)
		r.buf.out = out
		if n == p.size {
			r.letGo(e, p.reusable(r))
		}
		r.account()
		return r.toClient(out)
	}
	pk, err := r.p.packers.get(p.coding)
	if err != nil {
		return internal
	}
	s := packing{r: r, p: p, pk: pk, sized: p.fields.length >= 0, body: answerBody{
		r: r, e: e, chunks: chunkScanner{unwrap: true, takesReports: r.asked}, framed: p.fields.chunked, left: p.fields.length, keep: p.reusable(r),
	}}
	k := s.relay(n)
	live := r.route.compression.live
	live.in[p.coding].Add(uint64(s.in))
	live.out[p.coding].Add(uint64(r.bytesOut))
	r.p.packers.put(p.coding, pk)
	return k
}

// packedHead makes the head of an answer that is compressed.
func (r *request) packedHead(p *response, f framing) []byte {
	out := r.appendResponse(r.buf.out[:0], r.buf.in[:p.size], p, f)
	lines := bytes.IndexByte(out, '\n') + 1
	out = p.coding.mark(out[:len(out)-len("\r\n")], lines)
	return append(out, "\r\n"...)
}

// packing is an answer on its way through an encoder.
type packing struct {
	r       *request
	p       *response
	pk      *packer
	body    answerBody
	sized   bool   // the endpoint has announced a length
	begun   bool   // the head says chunked
	pending []byte // it, until it goes with what comes first
	in      int    // bytes compressed
	turn    int    // of them since others had theirs
}

func (s *packing) relay(n int) kind {
	r := s.r
	data, k := s.body.take(r.buf.in[s.p.size:n])
	switch {
	case k != success:
		return s.broken(k)
	case s.body.done && len(s.body.chunks.trailers) == 0, s.sized && s.body.left <= int64(len(r.buf.in)-n):
		return s.whole(data, n)
	}
	return s.stream(data)
}

// whole relays an answer that fits into r.buf.in, where n bytes of it are: it leaves in one write, with its length.
func (s *packing) whole(data []byte, n int) kind {
	r := s.r
	for {
		if k := s.pack(data); k != success {
			return k
		}
		if s.body.done {
			break
		}
		var k kind
		if data, k = s.body.next(r.buf.in[n:]); k != success {
			return s.broken(k)
		}
		n += len(data)
	}
	if s.pk.Close() != nil {
		return internal
	}
	body := s.pk.out[chunkLead:]
	s.p.fields.length = int64(len(body))
	out := append(r.packedHead(s.p, framedLength), body...)
	r.buf.out = out
	r.bytesOut = int64(len(body))
	r.account()
	return r.toClient(out)
}

// broken ends an answer of which the endpoint has not sent all. The client gets what there is, as it would of one
// that is not compressed, and no end.
func (s *packing) broken(k kind) kind {
	if k == clientGone || k == internal {
		return k
	}
	if !s.begun {
		s.pending = s.r.packedHead(s.p, framedChunked)
	}
	_ = s.pk.Flush()
	s.r.c.forgive()
	_ = s.send(nil)
	return k
}

// stream relays an answer in pieces. One without a length is one whose pieces may be far apart: each goes on as
// it comes.
func (s *packing) stream(data []byte) kind {
	r := s.r
	s.pending, s.begun = r.packedHead(s.p, framedChunked), true
	buf, large := r.buf.in, false
	for {
		if k := s.pack(data); k != success {
			return k
		}
		if s.body.done {
			break
		}
		if !s.sized && len(data) > 0 && s.pk.Flush() != nil {
			return internal
		}
		if !s.sized || len(s.pk.out) >= smallBuffer {
			if k := s.send(nil); k != success {
				return k
			}
		}
		if len(data) == len(buf) && !large {
			bp := r.p.relays.Get().(*[]byte)
			defer r.p.relays.Put(bp)
			buf, large = (*bp)[:packPiece], true
		}
		var k kind
		if data, k = s.body.next(buf); k != success {
			return s.broken(k)
		}
	}
	if s.pk.Close() != nil {
		return internal
	}
	return s.send(append(append([]byte("0\r\n"), s.body.chunks.trailers...), "\r\n"...))
}

// pack compresses a piece.
func (s *packing) pack(data []byte) kind {
	for len(data) > 0 {
		n := min(len(data), packPiece)
		if _, err := s.pk.Write(data[:n]); err != nil {
			return internal
		}
		data = data[n:]
		s.in += n
		if s.turn += n; s.turn >= packPiece {
			s.turn = 0
			if d, ok := s.r.c.descriptor.(turner); ok {
				d.giveTurn()
			}
		}
	}
	return success
}

// turner is a descriptor whose strand shares a processor with others.
type turner interface{ giveTurn() }

// send sends what the encoder has written as a chunk, behind the head where that is still here, and then end.
func (s *packing) send(end []byte) kind {
	n := len(s.pk.out) - chunkLead
	b := s.pk.out[:0]
	if n > 0 {
		b = frameChunk(append(s.pk.out, "\r\n"...), n)
	}
	b = append(b, end...)
	if s.pending != nil {
		b = append(s.pending, b...)
		s.pending, s.r.buf.out = nil, b
	}
	s.pk.out = s.pk.out[:chunkLead]
	if len(b) == 0 {
		return success
	}
	k := s.r.toClient(b)
	if k == success {
		s.r.bytesOut += int64(n)
	}
	return k
}
