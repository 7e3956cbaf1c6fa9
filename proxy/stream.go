package proxy

import (
	"bytes"
	"sync/atomic"
	"time"

	"weir/internal/stats"
)

// An answer that comes in pieces over time is a stream: one without a Content-Length, and above all server-sent
// events (https://html.spec.whatwg.org/multipage/server-sent-events.html), the text/event-stream of language models.

// streamLive are the figures of a variant's streams.
type streamLive struct {
	open      atomic.Int64    // event streams under way
	firstByte stats.Histogram // of answers without a Content-Length: from the request's head to the first byte of the body
	recent    stats.Window    // the same, of the last minute
	gap       stats.Histogram // between two pieces of an event stream
}

// streaming is what is known of the answer that a request streams.
type streaming struct {
	last   time.Time // when its last piece came; zero before the first
	lines  eventLines
	breaks bool // an event can tell the client that it is broken off
}

// arrived counts a piece of the body of an answer without a Content-Length.
func (r *request) arrived(n int, events bool) {
	s := &r.stream
	first := s.last.IsZero()
	if n == 0 || !first && !events {
		return
	}
	now, live := time.Now(), &r.variant.live.streams
	if first {
		live.firstByte.Record(now.Sub(r.start))
		live.recent.Record(now.Sub(r.start))
	} else {
		live.gap.Record(now.Sub(s.last))
	}
	s.last = now
}

// relayEvents relays an event stream, n bytes of which, the head first, are in r.buf.in. Each piece goes on as it
// comes, in a chunk of its own: wherever the endpoint stops, the client is between two chunks, and can be told. While
// none comes, no buffer is held.
func (r *request) relayEvents(e *epConn, p *response, n int, f framing) kind {
	live := &r.variant.live.streams
	live.open.Add(1)
	defer live.open.Add(-1)
	body := answerBody{
		r: r, e: e, chunks: chunkScanner{unwrap: true, takesReports: r.asked}, framed: p.fields.chunked, left: p.fields.length, keep: p.reusable(r),
		events: true,
	}
	out := r.appendResponse(r.buf.out[:0], r.buf.in[:p.size], p, f)
	data, k := body.take(r.buf.in[p.size:n])
	if k != success {
		return k
	}
	if f == framedChunked {
		out = appendChunk(out, data)
	} else {
		out = append(out, data...)
	}
	r.buf.out = out
	r.stream.breaks = f == framedChunked && r.route.cfg.Stream.ErrorEvent
	r.easeIntake()
	source := lending{lead: chunkLead, tail: chunkTail}
	source.open(&e.socket, &r.p.pieces)
	defer source.giveBack()
	for {
		if body.done && f == framedChunked {
			out = append(append(append(out, "0\r\n"...), body.chunks.trailers...), "\r\n"...)
		}
		if len(out) > 0 {
			if k := r.toClient(out); k != success {
				return k
			}
		}
		r.bytesOut += int64(len(data))
		if body.done {
			return success
		}
		r.stream.lines.pass(data)
		r.ease()
		source.giveBack()
		r.c.deadline.Store(r.c.listener.clock.after(r.route.cfg.Timeouts.Idle))
		n, err := source.read()
		raw := source.piece(n)
		if data, k = body.came(raw, err); k != success {
			return k
		}
		if out = data; f == framedChunked && len(data) > 0 {
			out = frameChunk(*source.lent, len(data))
		}
	}
}

// tellBroken ends an event stream that its endpoint has not brought to its end with an event that says so. A client
// could not tell it from the rest of an event that was begun, which has to stay unfinished: nobody then takes it for
// whole.
func (r *request) tellBroken() {
	s := &r.stream
	switch r.kind {
	case resetByEndpoint, attemptTimeout, totalTimeout, expired, protocolError:
	default:
		return
	}
	if !s.breaks || !r.begun || s.lines.begun() {
		return
	}
	r.c.forgive()
	event := s.lines.end(nil)
	event = append(event, "event: error\ndata: "...)
	f := r.kind.failure()
	event = append(append(event, r.errorBody(f, f.message)...), '\n')
	_ = r.c.send(appendChunk(nil, event)) // the answer is cut, whatever becomes of it
}

// eventLines follows the lines of an event stream as far as it must be known whether an event has begun.
type eventLines struct {
	open bool // there are whole lines of an event
	line eventLine
}

// eventLine is what is there of the last line.
type eventLine uint8

const (
	noLine      eventLine = iota
	lineComment           // it begins with a colon, and is no part of an event
	lineEnding            // such a line, up to a carriage return
	lineCR                // it is a carriage return alone: empty, whether or not a line feed follows
	lineField             // any other
)

// pass takes the next bytes. Lines end in a line feed; the standard also has those that end in a carriage return alone,
// which here make one line with the next: an event may seem to be open then that is not.
func (l *eventLines) pass(b []byte) {
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		l.add(line)
		if !ended {
			return
		}
		switch l.line {
		case noLine, lineCR:
			l.open = false
		case lineField:
			l.open = true
		}
		l.line = noLine
	}
}

// add takes a part of a line.
func (l *eventLines) add(b []byte) {
	if len(b) == 0 {
		return
	}
	cr := bytes.IndexByte(b, '\r')
	switch comment := l.line == lineComment || l.line == noLine && b[0] == ':'; {
	case l.line == noLine && cr == 0 && len(b) == 1:
		l.line = lineCR
	case comment && cr < 0:
		l.line = lineComment
	case comment && cr == len(b)-1:
		l.line = lineEnding
	default:
		l.line = lineField
	}
}

// begun reports whether an event has begun, and is not whole.
func (l *eventLines) begun() bool { return l.line == lineField || l.open && l.line != lineCR }

// end appends what ends a line that is no part of an event.
func (l *eventLines) end(b []byte) []byte {
	if l.line == lineComment {
		b = append(b, '\n')
	}
	return b
}
