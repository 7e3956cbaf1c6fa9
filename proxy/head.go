package proxy

import (
	"bytes"
	"strconv"
)

// appendHead appends the head that goes to the endpoint: the request line and the client's lines as
// they came, less what concerns only this hop, then what weir vouches for.
func (r *request) appendHead(b []byte) []byte {
	b = append(append(b, r.head.Method()...), ' ')
	b = append(append(b, r.sentTarget()...), " HTTP/1.1\r\n"...)
	from := len(b)
	b = r.fields.appendKept(b, r.raw, 0, headerEnd(r.raw))
	host := r.fields.host.in(r.raw)
	switch {
	case r.authority != nil: // the target wins over a Host field that says otherwise
		b = removeField(b, from, "host")
		b = appendField(b, "Host: ", r.authority)
	case len(host) == 0: // HTTP/1.0
		b = removeField(b, from, "host")
		b = append(append(append(b, "Host: "...), r.c.localHost()...), "\r\n"...)
	}
	b = r.appendFraming(b)
	if r.upgrade {
		b = append(b, upgradeFields...)
	}
	b = r.appendForwarded(b, host)
	b = appendField(b, "X-Request-ID: ", r.id)
	b = appendField(b, "traceparent: ", r.trace)
	if r.time.form != noTime {
		b = r.appendTimeout(b, from)
	}
	if r.asked = false; r.route.asks != asksNone {
		b = r.appendAsk(b, from)
	}
	if d := r.route.edits; d != nil {
		b = d.request(r, b, from)
	}
	return append(b, "\r\n"...)
}

func (r *request) appendFraming(b []byte) []byte {
	switch {
	case r.fields.chunked && r.fields.length < 0: // it has a length where gather has read it whole
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if r.fields.trailer {
			b = appendField(b, "Trailer: ", lookup(r.raw, "trailer"))
		}
	case r.fields.length >= 0:
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.fields.length, 10)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendForwarded says who the client is. What the client itself said of that goes on only when the
// peer is a trusted proxy.
func (r *request) appendForwarded(b, host []byte) []byte {
	b = append(b, "X-Forwarded-For: "...)
	trusted := len(r.table.trusted) > 0 && r.table.trusts(r.c.peer)
	if trusted && r.fields.forwarded > 0 {
		n := len(b)
		if b = r.forwardedFor(b); len(b) > n {
			b = append(b, ", "...)
		}
	}
	b = append(append(b, r.c.ip...), "\r\nX-Forwarded-Proto: "...)
	if p := r.fields.proto.in(r.raw); trusted && len(p) > 0 {
		b = append(b, p...)
	} else if b = append(b, "http"...); r.c.secure {
		b = append(b, 's')
	}
	if f := r.fields.fhost.in(r.raw); trusted && len(f) > 0 {
		host = f
	}
	b = append(b, "\r\n"...)
	if len(host) > 0 {
		b = appendField(b, "X-Forwarded-Host: ", host)
	}
	if id := r.c.identity; id != nil {
		b = append(b, id.field...)
	} else if trusted && r.fields.certs {
		b = appendNamed(b, r.raw, xfcc)
	}
	return appendField(b, "X-Real-IP: ", r.clientText())
}

func appendField(b []byte, name string, value []byte) []byte {
	return append(append(append(b, name...), value...), "\r\n"...)
}

// response is the head of an answer, as the endpoint sent it.
type response struct {
	fields fields
	status int
	http10 bool
	line   span   // status code and reason
	at     int    // where the header lines begin
	end    int    // and end, without the empty line
	size   int    // of the whole head
	coding coding // that weir sends the body in
}

// headLen is the length of the head that b begins with, empty line included; 0 when b does not hold
// all of it. searched bytes of b are known to hold no end.
func headLen(b []byte, searched int) int {
	for at := max(searched-3, 0); ; {
		nl := bytes.IndexByte(b[at:], '\n')
		if nl < 0 {
			return 0
		}
		at += nl + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return at + 1
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at + 2
		}
	}
}

// parse reads the head b[:size].
func (p *response) parse(b []byte, size int) bool {
	b = b[:size]
	nl := bytes.IndexByte(b, '\n')
	line := bytes.TrimSuffix(b[:nl], []byte("\r"))
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return false
	}
	status, ok := parseLength(line[9:12])
	if !ok || status < 100 || status > maxCode || len(line) > 12 && line[12] != ' ' {
		return false
	}
	p.status, p.http10, p.size = int(status), line[7] == '0', size
	p.line = span{9, int32(len(line))}
	if controls(line) {
		return false
	}
	p.at, p.end = nl+1, size-1
	if b[p.end-1] == '\r' && p.end > p.at {
		p.end--
	}
	if p.fields.read(b, p.at, p.end, fromEndpoint) != "" {
		return false
	}
	if p.fields.chunked && p.http10 {
		return false
	}
	return clean(b)
}

// controls reports whether a line holds control characters other than the tab.
func controls(line []byte) bool {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// clean reports whether every carriage return stands before a line feed, and no NUL anywhere: what
// the next reader might take for a line end or for the end of the text.
func clean(b []byte) bool {
	if bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	for {
		i := bytes.IndexByte(b, '\r')
		if i < 0 {
			return true
		}
		if i+1 >= len(b) || b[i+1] != '\n' {
			return false
		}
		b = b[i+2:]
	}
}

// bodiless reports whether an answer with this status to this request has no body, whatever its
// fields say.
func (p *response) bodiless(isHead bool) bool {
	return isHead || p.status < 200 || p.status == 204 || p.status == 304
}

// appendResponse appends the head that goes to the client. framing says how the body will be sent.
func (r *request) appendResponse(b, head []byte, p *response, framing framing) []byte {
	b = p.appendStatus(b, head)
	from := len(b)
	b = p.fields.appendKept(b, head, p.at, p.end)
	if d := r.route.edits; d != nil {
		b = d.response(r, b, from)
	}
	b = r.removeCORS(b, from)
	switch {
	case framing == framedChunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if p.fields.trailer {
			b = appendField(b, "Trailer: ", lookup(head[p.at:p.end], "trailer"))
		}
	case p.fields.length >= 0 && p.status != 204 && p.status >= 200:
		b = strconv.AppendInt(append(b, "Content-Length: "...), p.fields.length, 10)
		b = append(b, "\r\n"...)
	}
	return r.appendOwn(b)
}

// appendStatus appends the status line, with the space that has to be there also without a reason.
func (p *response) appendStatus(b, head []byte) []byte {
	b = append(append(b, "HTTP/1.1 "...), p.line.in(head)...)
	if p.line.to-p.line.from == 3 {
		b = append(b, ' ')
	}
	return append(b, "\r\n"...)
}

// appendOwn appends weir's own fields and ends the head.
func (r *request) appendOwn(b []byte) []byte {
	if r.variant != nil {
		b = append(b, r.variant.header...)
	}
	b = r.appendCORS(b)
	b = appendField(b, "X-Request-ID: ", r.id)
	if g := r.caching; g != nil {
		b = append(b, cacheFields[g.result]...)
	}
	switch {
	case r.status == 101:
		b = append(b, upgradeFields...)
	case r.closing:
		b = append(b, "Connection: close\r\n"...)
	case r.http10:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}
