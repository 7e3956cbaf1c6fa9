package proxy

import (
	"bytes"
	"slices"
	"strings"

	"weir/config"
)

// redirect answers with another place.
type redirect struct {
	https  bool
	status int
	to     template
}

func newRedirect(c *config.Redirect) *redirect {
	if c == nil {
		return nil
	}
	return &redirect{https: c.HTTPS, status: c.Status, to: parseTemplate(c.To)}
}

// answer sends the client there. To https it is the same host, without the port, which is that of http, and the
// same target, byte for byte.
func (d *redirect) answer(r *request) kind {
	place := r.in.key[:0]
	if d.https {
		host, _ := splitPort(r.host())
		if r.authority == nil && len(r.fields.host.in(r.raw)) == 0 { // HTTP/1.0
			return malformed
		}
		place = append(append(place, "https://"...), host...)
		if r.target[0] == '/' { // it may be *
			place = appendPlace(place, r.target)
		}
	} else {
		place = appendPlace(place, d.place(r))
	}
	r.in.key = place
	r.answer(d.status, appendField(nil, "Location: ", place), nil)
	return success
}

// place is where to, with the query of the request unless it has one of its own; a lone ? at its end stands for none.
func (d *redirect) place(r *request) []byte {
	to := d.onHost(r)
	if bytes.IndexByte(to, '?') >= 0 || bytes.IndexByte(to, '#') >= 0 {
		return bytes.TrimSuffix(to, []byte("?"))
	}
	if i := bytes.IndexByte(r.target, '?'); i >= 0 {
		to = append(to, r.target[i:]...)
	}
	return to
}

// onHost is place without the query. A path that the client has sent cannot make it another host's: //evil.com is
// one to browsers.
func (d *redirect) onHost(r *request) []byte {
	to := d.to.append(nil, r)
	if d.to[0].variable == textual && d.to[0].text != "/" {
		return to
	}
	n := 0
	for n < len(to) && (to[n] == '/' || to[n] == '\\') {
		n++
	}
	if n > 1 {
		to = to[n-1:]
		to[0] = '/'
	}
	return to
}

// appendPlace appends a part of a URL. What could end the header line, or be read in two ways, is escaped.
func appendPlace(b, place []byte) []byte {
	for _, c := range place {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' {
			b = appendEscape(b, c)
		} else {
			b = append(b, c)
		}
	}
	return b
}

// fixed is an answer that is always the same.
type fixed struct {
	status      int
	lines, body []byte
}

func newFixed(c *config.Respond) *fixed {
	if c == nil {
		return nil
	}
	f := &fixed{status: c.Status, body: []byte(c.Body)}
	typed := func(h config.Header) bool { return strings.EqualFold(h.Name, "Content-Type") }
	if len(f.body) > 0 && !slices.ContainsFunc(c.Headers, typed) {
		f.lines = append(f.lines, "Content-Type: text/plain; charset=utf-8\r\n"...)
	}
	for _, h := range c.Headers {
		f.lines = appendField(f.lines, h.Name+": ", []byte(h.Value))
	}
	f.lines = slices.Clip(f.lines)
	return f
}
