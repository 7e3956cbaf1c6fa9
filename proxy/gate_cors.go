package proxy

import (
	"slices"
	"strconv"
	"strings"

	"weir/config"
)

// cors answers browsers that ask whether pages of another origin may use a route, and tells them with each answer
// (https://fetch.spec.whatwg.org/#http-cors-protocol).
type cors struct {
	any    bool // every origin, which then is not told apart
	exact  map[string]bool
	wild   []wildOrigin
	always []byte // lines of every answer to an origin that may ask
	asked  []byte // and of one to a preflight
	echo   bool   // a preflight may ask for all fields
}

// wildOrigin is one like https://*.example.com.
type wildOrigin struct{ before, after string }

const varyOrigin = "Vary: Origin\r\n"

func newCORS(c *config.CORS) *cors {
	if c == nil {
		return nil
	}
	k := &cors{any: slices.Contains(c.Origins, "*"), exact: map[string]bool{}, echo: slices.Contains(c.Headers, "*")}
	for _, o := range c.Origins {
		if before, after, wild := strings.Cut(o, "*"); wild {
			k.wild = append(k.wild, wildOrigin{before, after})
		} else {
			k.exact[o] = true
		}
	}
	if c.Credentials && !k.any { // to everybody they must not be given
		k.always = append(k.always, "Access-Control-Allow-Credentials: true\r\n"...)
	}
	k.always = appendList(k.always, "Access-Control-Expose-Headers: ", c.Expose)
	k.asked = appendList(k.asked, "Access-Control-Allow-Methods: ", c.Methods)
	if !k.echo {
		k.asked = appendList(k.asked, "Access-Control-Allow-Headers: ", c.Headers)
	}
	if c.MaxAge > 0 {
		k.asked = strconv.AppendInt(append(k.asked, "Access-Control-Max-Age: "...), int64(c.MaxAge.Seconds()), 10)
		k.asked = append(k.asked, "\r\n"...)
	}
	return k
}

func appendList(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	return appendField(b, name, []byte(strings.Join(values, ", ")))
}

// allows reports whether pages of an origin may ask. An origin that it allows holds nothing that could not stand
// in an answer.
func (k *cors) allows(origin []byte) bool {
	if len(origin) == 0 {
		return false
	}
	if k.any || k.exact[string(origin)] {
		return true
	}
	for _, w := range k.wild {
		if len(origin) <= len(w.before)+len(w.after) || string(origin[:len(w.before)]) != w.before ||
			string(origin[len(origin)-len(w.after):]) != w.after {
			continue
		}
		if isLabels(origin[len(w.before) : len(origin)-len(w.after)]) {
			return true
		}
	}
	return false
}

// isLabels reports whether b is one or more labels of a host name.
func isLabels(b []byte) bool {
	for i, c := range b {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
		if !letter && (c != '.' || i == 0 || i == len(b)-1 || b[i-1] == '.') {
			return false
		}
	}
	return len(b) > 0
}

// preflight answers the question of a browser whether a page may send what it wants to; false where the request
// is none. An origin that may not is not told what others may.
func (k *cors) preflight(r *request) bool {
	if r.preflightFor() == nil {
		return false
	}
	lines := append(r.in.key[:0], "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n"...)
	if k.allows(lookup(r.raw, "origin")) {
		lines = append(lines, k.asked...)
		if names := lookup(r.raw, "access-control-request-headers"); k.echo && isNames(names) {
			lines = appendField(lines, "Access-Control-Allow-Headers: ", names)
		}
	}
	r.in.key = lines
	r.answer(204, lines, nil)
	return true
}

// preflightFor is the method of the request that a preflight asks about; nil where r is no preflight.
func (r *request) preflightFor() []byte {
	if methods[r.method] != "OPTIONS" || len(lookup(r.raw, "origin")) == 0 {
		return nil
	}
	return lookup(r.raw, "access-control-request-method")
}

// isNames reports whether b is a list of field names.
func isNames(b []byte) bool {
	for _, c := range b {
		if !tokenByte[c] && c != ',' && c != ' ' {
			return false
		}
	}
	return len(b) > 0
}

// find returns the index of the route of a request, -1 where there is none. A preflight belongs to the route of
// the request that it asks about, if that answers it.
func (t *table) find(r *request, host, path []byte) int {
	if t.cors {
		if method := r.preflightFor(); method != nil {
			i := t.router.match(host, path, method, r.lookup)
			if i >= 0 && t.routes[i].gate != nil && t.routes[i].gate.cors != nil {
				return i
			}
		}
	}
	return t.router.match(host, path, r.head.Method(), r.lookup)
}

// appendCORS appends what tells a browser whether its page may read the answer, also one of weir's own.
func (r *request) appendCORS(b []byte) []byte {
	if r.route == nil || r.route.gate == nil || r.route.gate.cors == nil {
		return b
	}
	k := r.route.gate.cors
	if k.any {
		return append(append(b, "Access-Control-Allow-Origin: *\r\n"...), k.always...)
	}
	b = append(b, varyOrigin...)
	if origin := lookup(r.raw, "origin"); k.allows(origin) {
		b = append(appendField(b, "Access-Control-Allow-Origin: ", origin), k.always...)
	}
	return b
}

// removeCORS takes what an endpoint says of other origins out of the lines b[from:], where the route says it.
func (r *request) removeCORS(b []byte, from int) []byte {
	if r.route.gate == nil || r.route.gate.cors == nil {
		return b
	}
	const prefix = "access-control-"
	return removeFields(b, from, func(name []byte) bool {
		return len(name) > len(prefix) && equalFold(name[:len(prefix)], prefix)
	})
}
