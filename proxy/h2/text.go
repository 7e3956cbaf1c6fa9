package h2

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Body says how the end of a body is found in HTTP/1.1: its length if that is not negative, or one of these.
type Body int64

// The bodies without a length.
const (
	NoBody     Body = -1 // nothing follows the head
	Chunked    Body = -2
	UntilClose Body = -3 // only of an answer: it ends with the connection
)

// AppendRequest appends the HTTP/1.1 head of a request whose fields came over HTTP/2. body: NoBody where the fields
// ended the stream, the length where all of it is there, Chunked else (a content-length among the fields is kept
// then, and goes before chunks). The returned Body is what the head says: it frames the DATA.
//
// All that RFC 9113, 8.2 and 8.3 ask for is checked; nothing that another parser could read differently gets into the
// text. An error means Reset(ProtocolError).
func AppendRequest(b []byte, fields []Field, body Body) ([]byte, Body, error) {
	before := b
	p, rest, err := requestPseudo(fields)
	if err != nil {
		return before, NoBody, err
	}
	path := p.path
	if p.method == "CONNECT" {
		path = p.authority
	}
	b = append(append(append(append(b, p.method...), ' '), path...), " HTTP/1.1\r\n"...)
	if p.authority != "" {
		b = appendLine(b, "host", p.authority)
	}
	w := writer{b: b, host: p.authority, length: -1}
	for i := range rest {
		if err := w.requestField(rest, i); err != nil {
			return before, NoBody, err
		}
	}
	if w.host == "" {
		return before, NoBody, errors.New("neither :authority nor host: one of them must say whom the request is for")
	}
	switch {
	case body >= 0 && w.length >= 0 && w.length != int64(body), body == NoBody && w.length > 0:
		return before, NoBody, fmt.Errorf("content-length is %d, but %d bytes came", w.length, max(body, 0))
	case body == NoBody && w.length < 0 && (p.method == "POST" || p.method == "PUT" || p.method == "PATCH"):
		w.length = 0
	case body >= 0:
		w.length = int64(body)
	case body != NoBody && w.length >= 0:
		body = Body(w.length)
	}
	return w.end(body), body, nil
}

// AppendResponse appends the HTTP/1.1 head of an answer whose fields came over HTTP/2, interim ones too, and returns
// how its body is framed; where trailers are announced, by chunks. end: the fields ended the stream. head: the request's method was HEAD. An error means
// Reset(ProtocolError).
func AppendResponse(b []byte, fields []Field, end, head bool) ([]byte, Body, error) {
	if len(fields) == 0 || fields[0].Name != ":status" {
		return b, NoBody, errors.New("an answer whose first field is not :status")
	}
	status, code := fields[0].Value, statusOf(fields[0].Value)
	if code == 0 || code == 101 {
		return b, NoBody, fmt.Errorf(":status is %q: HTTP/2 has 100, 102 to 999", status)
	}
	w := writer{b: b, length: -1}
	w.b = append(append(append(w.b, "HTTP/1.1 "...), status...), ' ')
	w.b = append(append(w.b, reason(code)...), "\r\n"...)
	for _, f := range fields[1:] {
		if err := w.field(f); err != nil {
			return b, NoBody, err
		}
	}
	body := Chunked
	switch {
	case code < 200 || code == 204:
		w.length, body = -1, NoBody
	case head || code == 304:
		body = NoBody
	case end && w.length > 0:
		return b, NoBody, fmt.Errorf("content-length is %d, but no bytes came", w.length)
	case end:
		w.length, body = 0, 0
	case w.trailer: // for which only chunks have a place
		w.length = -1
	case w.length >= 0:
		body = Body(w.length)
	}
	return w.end(body), body, nil
}

// AppendTrailers appends trailer lines, without the empty line behind them. Fields that must not be in a trailer
// section are left out, malformed ones are an error, which means Reset(ProtocolError).
func AppendTrailers(b []byte, fields []Field) ([]byte, error) {
	w := writer{b: b, length: -1}
	for _, f := range fields {
		switch f.Name {
		case "content-length", "content-type", "content-encoding", "host", "trailer", "te":
			if err := checkField(f); err != nil {
				return b, err
			}
		default:
			if err := w.field(f); err != nil {
				return b, err
			}
		}
	}
	return w.b, nil
}

// pseudo are the pseudo-fields of a request.
type pseudo struct{ method, scheme, authority, path string }

// requestPseudo reads the pseudo-fields, which come first; rest are the other fields.
func requestPseudo(fields []Field) (p pseudo, rest []Field, err error) {
	n := 0
	for n < len(fields) && strings.HasPrefix(fields[n].Name, ":") {
		f, into := fields[n], (*string)(nil)
		switch f.Name {
		case ":method":
			into = &p.method
		case ":scheme":
			into = &p.scheme
		case ":authority":
			into = &p.authority
		case ":path":
			into = &p.path
		default:
			return p, nil, fmt.Errorf("pseudo-field %q: a request has :method, :scheme, :authority and :path", f.Name)
		}
		if *into != "" || f.Value == "" {
			return p, nil, fmt.Errorf("%s is empty or there twice", f.Name)
		}
		for i := range len(f.Value) {
			if f.Value[i] <= ' ' || f.Value[i] == 0x7f {
				return p, nil, fmt.Errorf("%s has a space or control character: %q", f.Name, f.Value)
			}
		}
		*into = f.Value
		n++
	}
	return p, fields[n:], p.check()
}

func (p *pseudo) check() error {
	switch {
	case p.method == "":
		return errors.New("no :method")
	case !isToken(p.method):
		return fmt.Errorf(":method is not a token: %q", p.method)
	case p.method == "CONNECT":
		if p.scheme != "" || p.path != "" || p.authority == "" {
			return errors.New("CONNECT has :authority, and neither :scheme nor :path")
		}
	case p.scheme != "http" && p.scheme != "https":
		return fmt.Errorf(":scheme is %q, not http or https", p.scheme)
	case p.path == "":
		return errors.New("no :path")
	case p.path[0] != '/' && (p.path != "*" || p.method != "OPTIONS"):
		return fmt.Errorf(":path does not begin with a slash: %q", p.path)
	}
	return nil
}

// writer appends the lines of a head. What frames the body waits for the end.
type writer struct {
	b      []byte
	host   string
	length int64 // content-length; -1 without
	cookie bool  // is written

	trailer bool // trailers are announced
}

// requestField appends one field of a request's, fields[i].
func (w *writer) requestField(fields []Field, i int) error {
	f := fields[i]
	switch f.Name {
	case "host":
		if err := checkField(f); err != nil {
			return err
		}
		if w.host != "" && !strings.EqualFold(w.host, f.Value) {
			return fmt.Errorf("host is %q, but :authority or another host %q", f.Value, w.host)
		}
		if w.host == "" && f.Value != "" {
			w.host = f.Value
			w.b = appendLine(w.b, "host", f.Value)
		}
		return nil
	case "te":
		if f.Value != "trailers" {
			return fmt.Errorf("te is %q: HTTP/2 has only trailers", f.Value)
		}
		return nil
	case "cookie":
		return w.cookies(fields[i:])
	}
	return w.field(f)
}

// cookies joins the crumbs of a cookie into one line, where the first of them stands.
func (w *writer) cookies(fields []Field) error {
	if w.cookie {
		return nil
	}
	w.cookie = true
	w.b = append(w.b, "cookie: "...)
	for i, f := range fields {
		if f.Name != "cookie" {
			continue
		}
		if err := checkField(f); err != nil {
			return err
		}
		if i > 0 {
			w.b = append(w.b, "; "...)
		}
		w.b = append(w.b, f.Value...)
	}
	w.b = append(w.b, "\r\n"...)
	return nil
}

func (w *writer) field(f Field) error {
	if err := checkField(f); err != nil {
		return err
	}
	if f.Name == "content-length" {
		n := parseLength(f.Value)
		if n < 0 || w.length >= 0 {
			return fmt.Errorf("content-length is no number, or there twice: %q", f.Value)
		}
		w.length = n
		return nil
	}
	w.trailer = w.trailer || f.Name == "trailer"
	w.b = appendLine(w.b, f.Name, f.Value)
	return nil
}

// end appends what frames the body, and the empty line.
func (w *writer) end(body Body) []byte {
	if w.length >= 0 {
		w.b = append(strconv.AppendInt(append(w.b, "content-length: "...), w.length, 10), "\r\n"...)
	} else if body == Chunked {
		w.b = append(w.b, "transfer-encoding: chunked\r\n"...)
	}
	return append(w.b, "\r\n"...)
}

func appendLine(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
}

// checkField refuses what RFC 9113, 8.2 does, and every control character but the tab.
func checkField(f Field) error {
	if f.Name == "" {
		return errors.New("a field without a name")
	}
	for i := range len(f.Name) {
		switch c := f.Name[i]; {
		case c == ':':
			return fmt.Errorf("pseudo-field %q behind other fields, or where there are none", f.Name)
		case !tokenByte[c] || 'A' <= c && c <= 'Z':
			return fmt.Errorf("field name %q: names are tokens in lower case", f.Name)
		}
	}
	if connectionSpecific(f.Name) {
		return fmt.Errorf("field %q concerns a connection of HTTP/1.1", f.Name)
	}
	v := f.Value
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("the value of %s has a control character: %q", f.Name, v)
		}
	}
	if v != "" && (isBlank(v[0]) || isBlank(v[len(v)-1])) {
		return fmt.Errorf("the value of %s has a space or tab around it: %q", f.Name, v)
	}
	return nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// connectionSpecific are the fields that concern one connection of HTTP/1.1 and do not exist in HTTP/2.
func connectionSpecific(name string) bool {
	switch len(name) {
	case 7:
		return name == "upgrade"
	case 10:
		return name == "connection" || name == "keep-alive"
	case 16:
		return name == "proxy-connection"
	case 17:
		return name == "transfer-encoding"
	}
	return false
}

// parseLength accepts up to 18 digits and nothing else; -1 is anything else.
func parseLength(v string) int64 {
	if len(v) == 0 || len(v) > 18 {
		return -1
	}
	n := int64(0)
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return -1
		}
		n = n*10 + int64(v[i]-'0')
	}
	return n
}

// statusOf is the status of three digits, 100 to 999; 0 is anything else.
func statusOf(v string) int {
	if n := parseLength(v); len(v) == 3 && n >= 100 {
		return int(n)
	}
	return 0
}

func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

// tokenByte marks the characters of a token (RFC 9110, 5.6.2).
var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()
