package proxy

import (
	"bytes"

	"weir/config"
)

// template is a text with variables, as the configuration has it: {host}, {header:NAME}; {{ stands for a
// brace. It is parsed when a route is built.
type template []part

// part is a variable or, with variable textual, the text between two of them.
type part struct {
	variable variable
	text     string // or what the variable is about: the name of a field
}

// variable is what a part stands for.
type variable uint8

const (
	textual variable = iota
	varClientIP
	varRequestID
	varHost
	varMethod
	varPath
	varRoute
	varVariant
	varVersion
	varEndpoint
	varHeader
	varJWT
	varUser
	varClientCert
)

// variables are those of config.Variables, without the colon of those that take a name.
var variables = map[string]variable{
	"client_ip": varClientIP, "request_id": varRequestID, "host": varHost, "method": varMethod, "path": varPath,
	"route": varRoute, "variant": varVariant, "version": varVersion, "endpoint": varEndpoint, "header": varHeader,
	"jwt": varJWT, "user": varUser, "client_cert": varClientCert,
}

// parseTemplate reads a text that config has checked; what is no template stands for itself.
func parseTemplate(s string) (t template) {
	parts, err := config.ParseTemplate(s)
	if err != nil {
		return template{{text: s}}
	}
	for _, p := range parts {
		t = append(t, part{variables[p.Variable], p.Text})
	}
	return t
}

// literal reports whether t has no variable.
func (t template) literal() bool { return len(t) == 0 || len(t) == 1 && t[0].variable == textual }

// late reports whether t depends on where a request goes.
func (t template) late() bool {
	for _, p := range t {
		switch p.variable {
		case varVariant, varVersion, varEndpoint:
			return true
		}
	}
	return false
}

// append appends the text for r. Nothing that a client sent ends the line.
func (t template) append(b []byte, r *request) []byte {
	for i := range t {
		switch p := &t[i]; p.variable {
		case textual:
			b = append(b, p.text...)
		case varRoute, varVariant, varVersion, varEndpoint, varUser:
			b = appendPlain(b, p.name(r))
		default:
			b = appendPlain(b, p.value(r))
		}
	}
	return b
}

// value is what a variable stands for; empty where the request has no such thing.
func (p *part) value(r *request) []byte {
	switch p.variable {
	case varClientIP:
		return r.clientText()
	case varClientCert:
		return r.c.identity.text()
	case varRequestID:
		return r.id
	case varHost:
		if r.authority != nil {
			return r.authority
		}
		return r.fields.host.in(r.raw)
	case varMethod:
		return r.head.Method()
	case varPath:
		path, _, _ := bytes.Cut(r.target, []byte("?"))
		return path
	case varHeader:
		return lookup(r.raw, p.text)
	case varJWT:
		return r.claim(p.text)
	}
	return nil
}

// name is what a variable stands for that is a name of the configuration, or that weir has verified.
func (p *part) name(r *request) string {
	switch {
	case p.variable == varUser:
		return r.who
	case p.variable == varRoute && r.route != nil:
		return r.route.cfg.Name
	case p.variable == varVariant && r.variant != nil:
		return r.variant.pool
	case p.variable == varVersion && r.variant != nil:
		return r.variant.version
	case p.variable == varEndpoint && r.last != nil:
		return r.last.Address
	}
	return ""
}

// appendPlain appends v without its control characters, and without the spaces around it.
func appendPlain[T []byte | string](b []byte, v T) []byte {
	from := len(b)
	for i := 0; i < len(v); i++ {
		if c := v[i]; c > ' ' && c != 0x7f || len(b) > from && (c == ' ' || c == '\t') {
			b = append(b, c)
		}
	}
	for len(b) > from && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
