package h2

import (
	"errors"
	"fmt"
)

// Exchange is a request that came over a stream of a server's, and its answer, both as the text of HTTP/1.1. Like all
// here it does no I/O and does not wait: its owner passes the events of the stream on to it and tries again after
// them.
//
// The zero value is ready for Begin. What it holds of a request is bounded by the stream's window.
type Exchange struct {
	outgoing
	incoming
	fields []Field // of the head, until Open makes text of them
	head   bool    // the method is HEAD
	bare   bool    // the head has ended the stream
}

// ErrGone is what Read and Write say of a stream that the client has reset, or that ended with its connection.
var ErrGone = errors.New("the client has ended the stream")

// Begin makes x the exchange over s, which Events.Headers has just told of with these. Its memory is that of the one
// before.
func (x *Exchange) Begin(s *Stream, fields []Field, end bool) {
	*x = Exchange{outgoing: x.outgoing.again(), incoming: x.incoming.again(s), fields: append(x.fields[:0], fields...)}
	x.ended, x.bare = end, end
	for i := range fields {
		if fields[i].Name == ":method" {
			x.head = fields[i].Value == "HEAD"
		}
	}
}

// End gives the stream back, and resets it where it has not ended.
func (x *Exchange) End() {
	clear(x.fields)
	if cap(x.fields) > maxFields {
		x.fields = nil
	}
	x.incoming.end()
}

// Stream is the exchange's; nil before Begin and after End.
func (x *Exchange) Stream() *Stream { return x.stream }

// Whole reports whether all of the request has come.
func (x *Exchange) Whole() bool { return x.ended && x.err == nil }

// Answered reports whether Write has taken all of the answer.
func (x *Exchange) Answered() bool { return x.state == outDone }

// Gone reports whether the client has ended the stream, or its connection.
func (x *Exchange) Gone() bool { return x.err != nil }

// Trailers takes Events.Headers of the stream, the second time.
func (x *Exchange) Trailers(fields []Field) {
	var err error
	if x.trailers, err = AppendTrailers(x.trailers[:0], fields); err != nil {
		x.fault()
		return
	}
	x.ended = true
}

// Data takes Events.Data of the stream.
func (x *Exchange) Data(p []byte, end bool) {
	x.data.write(p)
	x.ended = x.ended || end
}

// Closed takes Events.Closed of the stream. What the client has sent before it is not read any more: the answer would
// be nobody's.
func (x *Exchange) Closed() {
	x.ended, x.err = true, ErrGone
	x.data.clear()
	x.text, x.textAt = x.text[:0], 0
}

// fault resets the stream because of what the client sent.
func (x *Exchange) fault() {
	x.stream.Reset(ProtocolError)
	x.Closed()
}

// Open makes the text of the request's head, before Read. A body that has come whole by then gets its length instead
// of chunks, where it has no trailers. After an error the stream is reset.
func (x *Exchange) Open() error {
	body := Chunked
	switch {
	case !x.ended || len(x.trailers) > 0:
	case x.data.n > 0 || !x.bare:
		body = Body(x.data.n)
	default:
		body = NoBody
	}
	var err error
	if x.text, body, err = AppendRequest(x.text[:0], x.fields, body); err != nil {
		x.fault()
		return err
	}
	x.frame(body)
	return nil
}

// Write takes text of the answer: interim heads and the head, each whole with one call, and then the body as the head
// frames it; what follows where there is no body, or behind it, is an error. n < len(p) and nil: flow control or the
// bound of Pending stops it, and the stream's Writable tells when the rest may be tried. l is used for lists that are
// sent.
func (x *Exchange) Write(p []byte, l *List) (n int, err error) {
	for n < len(p) {
		switch {
		case x.err != nil:
			return n, x.err
		case x.state == outDone:
			return n, fmt.Errorf("%d bytes behind the end of the answer", len(p)-n)
		}
		var k int
		if x.state == outHead {
			k, err = x.writeHead(p[n:], l)
		} else {
			k, err = x.body(p[n:], x.stream, l)
		}
		n += k
		if err != nil || k == 0 {
			return n, err
		}
	}
	return n, nil
}

func (x *Exchange) writeHead(p []byte, l *List) (int, error) {
	end, err := headEnd(p)
	if err != nil {
		return 0, err
	}
	body, err := l.Response(p[:end])
	if err != nil {
		return 0, err
	}
	if isInterim(l.Fields) {
		x.stream.WriteHeaders(l.Fields, false)
		return end, nil
	}
	if body == UntilClose && !x.head {
		return 0, errors.New("an answer whose body has neither a length nor chunks")
	}
	if x.head {
		body = NoBody
	}
	x.stream.WriteHeaders(l.Fields, body == NoBody || body == 0)
	x.begin(body)
	return end, nil
}
