package proxy

import (
	"bytes"
	"slices"
	"strings"

	"weir/config"
)

// edits are the changes that a route makes to requests and answers.
type edits struct {
	rewrite *rewriting // nil: the client's target goes on
	asked   fieldEdits // of the request
	told    fieldEdits // of the answer
	varying *compression
	hsts    bool // added to answers over TLS
}

// newEdits returns nil for a route that changes nothing.
func newEdits(c config.Route, compress *compression) *edits {
	d := &edits{rewrite: newRewriting(c.Rewrite), varying: compress}
	d.asked = newFieldEdits(c.Headers.Request, nil)
	var preset []config.Header
	if c.Headers.Security {
		preset = securityFields()
		d.hsts = !speaksOf(c.Headers.Response, hstsName)
	}
	d.told = newFieldEdits(c.Headers.Response, preset)
	if d.rewrite == nil && d.asked.empty() && d.told.empty() && compress == nil && !d.hsts {
		return nil
	}
	return d
}

// HSTS is said for a year, and of this host alone: others may not be ready for it.
const (
	hstsName  = "Strict-Transport-Security"
	hstsField = hstsName + ": max-age=31536000\r\n"
)

func speaksOf(c config.HeaderChange, name string) bool {
	named := func(h config.Header) bool { return strings.EqualFold(h.Name, name) }
	return slices.ContainsFunc(c.Set, named) || slices.ContainsFunc(c.Add, named) ||
		slices.ContainsFunc(c.Remove, func(s string) bool { return strings.EqualFold(s, name) })
}

// securityFields harden a browser. HSTS is not among them: it may only be said over TLS.
func securityFields() []config.Header {
	return []config.Header{
		{Name: "X-Frame-Options", Value: "SAMEORIGIN"},
		{Name: "X-Content-Type-Options", Value: "nosniff"},
		{Name: "X-XSS-Protection", Value: "1; mode=block"},
		{Name: "Referrer-Policy", Value: "strict-origin-when-cross-origin"},
	}
}

// sentTarget returns the target that the endpoint sees.
func (r *request) sentTarget() []byte {
	if d := r.route.edits; d != nil {
		return d.path(r)
	}
	return r.target
}

// path returns the target that the endpoint sees. It is good until it is asked for again.
func (d *edits) path(r *request) []byte {
	if d.rewrite == nil || r.target[0] != '/' {
		return r.target
	}
	r.in.target = d.rewrite.append(r.in.target[:0], r.target)
	return r.in.target
}

// request changes the header lines b[from:] of a request to an endpoint, which end without the empty line.
func (d *edits) request(r *request, b []byte, from int) []byte {
	return d.asked.apply(r, b, from)
}

// settle makes the head of a request anew whose fields depend on which variant was chosen, which was not known when it
// was made. Every attempt goes to that variant.
func (r *request) settle() {
	if d := r.route.edits; r.route.asks != asksSome && (d == nil || !d.asked.late) {
		return
	}
	old := r.buf.out
	at := headLen(old, 0)
	b := r.appendHead(old)
	if r.gathered.to > 0 {
		moved := int32(len(b) - len(old) - at)
		r.gathered.from += moved
		r.gathered.to += moved
	}
	b = append(b, old[at:]...)
	r.buf.out = b[:copy(b, b[len(old):])]
}

// response changes those of an answer to the client, also of one that weir gives itself.
func (d *edits) response(r *request, b []byte, from int) []byte {
	if d.hsts && r.secure() {
		b = append(removeField(b, from, "strict-transport-security"), hstsField...)
	}
	if d.varying == nil {
		return d.told.apply(r, b, from)
	}
	varies := d.varying.varies(r, b[from:])
	b = d.told.apply(r, b, from)
	if varies {
		b = d.varying.vary(r, b, from)
	}
	return b
}

// fieldEdits change header lines: some are taken out, then others appended.
type fieldEdits struct {
	gone    names
	fields  []fieldEdit
	literal []byte // all of fields, where none has a variable
	late    bool   // some depend on where the request goes
}

// fieldEdit is a line to append.
type fieldEdit struct {
	name  string // "X-Env: "
	host  bool
	value template
}

// newFieldEdits sets the preset too, except for fields that the change has something to say of.
func newFieldEdits(c config.HeaderChange, preset []config.Header) fieldEdits {
	var f fieldEdits
	for _, name := range c.Remove {
		f.gone.add(name)
	}
	for _, h := range c.Set {
		f.gone.add(h.Name)
	}
	for _, h := range preset {
		if !f.gone.has([]byte(h.Name)) {
			f.gone.add(h.Name)
			f.append(h)
		}
	}
	for _, h := range c.Set {
		f.append(h)
	}
	for _, h := range c.Add {
		f.append(h)
	}
	for i := range f.fields {
		if !f.fields[i].value.literal() || f.fields[i].host {
			return f
		}
	}
	f.literal = []byte{}
	for i := range f.fields {
		f.literal = f.fields[i].append(nil, f.literal)
	}
	return f
}

func (f *fieldEdits) append(h config.Header) {
	e := fieldEdit{name: h.Name + ": ", host: strings.EqualFold(h.Name, "host"), value: parseTemplate(h.Value)}
	f.late = f.late || e.value.late()
	f.fields = append(f.fields, e)
}

func (f *fieldEdits) empty() bool { return len(f.gone.list) == 0 && len(f.fields) == 0 }

func (f *fieldEdits) apply(r *request, b []byte, from int) []byte {
	if len(f.gone.list) > 0 {
		b = removeFields(b, from, f.gone.has)
	}
	if f.literal != nil {
		return append(b, f.literal...)
	}
	for i := range f.fields {
		b = f.fields[i].append(r, b)
	}
	return b
}

// append appends the line. One without a value is left out, so that a field that weir vouches for is either
// right or absent, never the client's. A request has to have a Host: where the value is none, the client's stays.
func (e *fieldEdit) append(r *request, b []byte) []byte {
	from := len(b)
	b = append(b, e.name...)
	at := len(b)
	b = e.value.append(b, r)
	if e.host && !validHost(b[at:]) {
		b = append(b[:at], r.host()...)
	}
	if len(bytes.TrimSpace(b[at:])) == 0 {
		return b[:from]
	}
	return append(b, "\r\n"...)
}

// host is what the client has asked, as the endpoint is told without an edit.
func (r *request) host() []byte {
	if r.authority != nil {
		return r.authority
	}
	if h := r.fields.host.in(r.raw); len(h) > 0 {
		return h
	}
	return []byte(r.c.localHost()) // HTTP/1.0
}

// names is a set of field names, in any case.
type names struct {
	list    []string // lower case
	lengths uint64   // bit n: one has n bytes; bit 63: 63 or more
}

func (s *names) add(name string) {
	s.list = append(s.list, strings.ToLower(name))
	s.lengths |= 1 << min(len(name), 63)
}

func (s *names) has(name []byte) bool {
	if s.lengths>>min(len(name), 63)&1 == 0 {
		return false
	}
	for _, n := range s.list {
		if equalFold(name, n) {
			return true
		}
	}
	return false
}
