package h2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// List is a field list made of HTTP/1.1 text, for WriteHeaders. Its memory is used again by the next one; it has a
// copy of the text, so that nothing of the text is kept or changed.
type List struct {
	Fields []Field
	text   []byte

	body   Body
	grpc   bool
	length int // where content-length is in Fields; -1 without
}

// authorityAt is where Request puts :authority.
const authorityAt = 2

// Request makes l the list of a request: head is an HTTP/1.1 head up to and with its empty line. Host becomes
// :authority; fields that concern only a connection are left out; an application/grpc* request loses its
// Content-Length, which weir may have made, and gets te: trailers. secure: the scheme is https. The returned Body is
// how what follows is framed.
func (l *List) Request(head []byte, secure bool) (Body, error) {
	line, lines := l.begin(head)
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	if !isToken(method) || !strings.HasPrefix(version, "HTTP/1.") {
		return NoBody, fmt.Errorf("malformed request line %q", line)
	}
	if target == "" || target[0] != '/' && target != "*" {
		return NoBody, fmt.Errorf("request target %q: HTTP/2 has one that begins with a slash", target)
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	l.Fields = append(l.Fields, Field{Name: ":method", Value: method}, Field{Name: ":scheme", Value: scheme},
		Field{Name: ":authority"}, Field{Name: ":path", Value: target})
	if err := l.lines(lines, true); err != nil {
		return NoBody, err
	}
	if l.Fields[authorityAt].Value == "" {
		return NoBody, errors.New("a request without Host")
	}
	l.dropLength(l.grpc || l.body == Chunked)
	if l.grpc {
		l.Fields = append(l.Fields, Field{Name: "te", Value: "trailers"})
	}
	return l.body, nil
}

// Response makes l the list of an answer, interim ones too: head is an HTTP/1.1 head up to and with its empty
// line. The returned Body is how what follows is framed, where the request was not HEAD.
func (l *List) Response(head []byte) (Body, error) {
	line, lines := l.begin(head)
	version, rest, _ := strings.Cut(line, " ")
	status, _, _ := strings.Cut(rest, " ")
	code := statusOf(status)
	if !strings.HasPrefix(version, "HTTP/1.") || code == 0 {
		return NoBody, fmt.Errorf("malformed status line %q", line)
	}
	if code == 101 {
		return NoBody, errors.New("status 101: HTTP/2 has no change of protocols")
	}
	l.body = UntilClose
	l.Fields = append(l.Fields, Field{Name: ":status", Value: status})
	if err := l.lines(lines, false); err != nil {
		return NoBody, err
	}
	none := code < 200 || code == 204
	l.dropLength(l.grpc || none || l.body == Chunked)
	if none || code == 304 {
		l.body = NoBody
	}
	return l.body, nil
}

// Trailers makes l the list of trailer lines, with or without the empty line behind them.
func (l *List) Trailers(lines []byte) error {
	l.reset(lines)
	return l.lines(l.text, false)
}

func (l *List) reset(text []byte) {
	l.Fields, l.text = l.Fields[:0], append(l.text[:0], text...)
	l.body, l.grpc, l.length = NoBody, false, -1
}

// begin copies the head and cuts its first line off.
func (l *List) begin(head []byte) (line string, lines []byte) {
	l.reset(head)
	first, lines, _ := bytes.Cut(l.text, []byte("\n"))
	return unsafeString(bytes.TrimSuffix(first, []byte("\r"))), lines
}

// dropLength takes the content-length out, if it is there.
func (l *List) dropLength(drop bool) {
	if drop && l.length >= 0 {
		l.Fields = append(l.Fields[:l.length], l.Fields[l.length+1:]...)
	}
}

// lines adds the fields of header lines, up to an empty one. Names are put into lower case where they are.
func (l *List) lines(b []byte, request bool) error {
	for len(b) > 0 {
		line := b
		if nl := bytes.IndexByte(b, '\n'); nl >= 0 {
			line, b = b[:nl], b[nl+1:]
		} else {
			b = nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) == 0 {
			return nil
		}
		colon := 0
		for colon < len(line) && tokenByte[line[colon]] {
			if c := line[colon]; 'A' <= c && c <= 'Z' {
				line[colon] = c | 0x20
			}
			colon++
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return fmt.Errorf("malformed header line %q", line)
		}
		from, to := colon+1, len(line)
		for from < to && isBlank(line[from]) {
			from++
		}
		for from < to && isBlank(line[to-1]) {
			to--
		}
		if err := l.add(unsafeString(line[:colon]), unsafeString(line[from:to]), request); err != nil {
			return err
		}
	}
	return nil
}

// add adds a field, if it goes on.
func (l *List) add(name, value string, request bool) error {
	switch name {
	case "host":
		if !request {
			break
		}
		if l.Fields[authorityAt].Value != "" {
			return errors.New("a request with two Host fields")
		}
		l.Fields[authorityAt].Value = value
		return nil
	case "te":
		return nil
	case "content-type":
		l.grpc = strings.HasPrefix(value, "application/grpc")
	case "content-length":
		n := parseLength(value)
		if n < 0 || l.length >= 0 {
			return fmt.Errorf("content-length is no number, or there twice: %q", value)
		}
		l.length = len(l.Fields)
		if l.body != Chunked {
			l.body = Body(n)
		}
	case "transfer-encoding":
		if !strings.EqualFold(value, "chunked") {
			return fmt.Errorf("transfer coding %q: only chunked is known", value)
		}
		l.body = Chunked
		return nil
	case "http2-settings":
		return nil
	}
	if connectionSpecific(name) {
		return nil
	}
	l.Fields = append(l.Fields, Field{Name: name, Value: value, Sensitive: secret(name)})
	return nil
}

// secret are fields that are kept out of compression tables, which the streams of a connection share: others could
// find out their values from the lengths of what is sent (RFC 7541, 7.1).
func secret(name string) bool {
	switch len(name) {
	case 6:
		return name == "cookie"
	case 9:
		return name == "x-api-key"
	case 10:
		return name == "set-cookie"
	case 13:
		return name == "authorization"
	}
	return false
}

// unsafeString is b as a string, for those who know when b changes.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
