package proxy

import (
	"bytes"
	"math/rand/v2"
	"net/netip"

	"weir/config"
)

// scratchLen has room for a made-up request id (32), a traceparent (55) and, at its end, the text of
// an address (maxAddr).
const (
	scratchLen = 136
	maxAddr    = 46
)

const hexDigits = "0123456789abcdef"

func appendHex(b []byte, v uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[v>>shift&15])
	}
	return b
}

// identify takes the client's request id and trace context where they are valid and makes them where not.
func (r *request) identify() {
	r.id = r.fields.requestID.in(r.raw)
	made := r.scratch[:0]
	if !validID(r.id) {
		made = appendHex(appendHex(made, rand.Uint64()), rand.Uint64())
		r.id = made
	}
	r.trace = r.fields.traceparent.in(r.raw)
	valid := validTrace(r.trace)
	if t := r.p.tracing.Load(); t != nil {
		r.meetTracer(t, valid, made)
	} else if !valid {
		at := len(made)
		// Sampled: a backend that follows its parent records as it would have without weir.
		made = append(made, "00-"...)
		made = appendHex(appendHex(made, rand.Uint64()|1), rand.Uint64())
		made = append(appendHex(append(made, '-'), rand.Uint64()|1), "-01"...)
		r.trace = made[at:]
	}
}

// validID accepts 1 to 128 characters of A-Z a-z 0-9 . _ : -.
func validID(id []byte) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for _, c := range id {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '.' || c == ':') {
			return false
		}
	}
	return true
}

// validTrace checks a traceparent after W3C Trace Context, section 3.2: version, 32 and 16
// lower-case hex digits that are not all zero, flags. Later versions may append fields.
func validTrace(t []byte) bool {
	if len(t) < 55 || t[2] != '-' || t[35] != '-' || t[52] != '-' || string(t[:2]) == "ff" {
		return false
	}
	if len(t) > 55 && (string(t[:2]) == "00" || t[55] != '-') {
		return false
	}
	return isHex(t[:2]) && isHex(t[3:35]) && isHex(t[36:52]) && isHex(t[53:55]) && !allZero(t[3:35]) && !allZero(t[36:52])
}

func isHex(b []byte) bool {
	for _, c := range b {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "0")) == 0 }

// traceID is the part of the trace context that a log is searched by.
func (r *request) traceID() []byte {
	if len(r.trace) < 35 {
		return nil
	}
	return r.trace[3:35]
}

// clientText is the client's address as text.
func (r *request) clientText() []byte {
	if r.client == r.c.peer {
		return r.c.ip
	}
	return appendClient(r.scratch[scratchLen-maxAddr:scratchLen-maxAddr], r.client)
}

// unixClient is the text of a client that has no address, on a Unix socket.
const unixClient = "unix:"

// appendClient appends the text of a client's address.
func appendClient(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, unixClient...)
	}
	return a.AppendTo(b)
}

// parseClient is its inverse.
func parseClient(text []byte) (netip.Addr, error) {
	if string(text) == unixClient {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(unsafeString(text))
	return a.Unmap(), err
}

// trusts reports whether a is a proxy whose X-Forwarded-* fields are believed.
func (t *table) trusts(a netip.Addr) bool {
	for _, p := range t.trusted {
		if config.Covers(p, a) {
			return true
		}
	}
	return false
}

// believe finds the client's address: the peer, or, behind trusted proxies, the rightmost address of
// X-Forwarded-For that is not one of them.
func (r *request) believe() {
	if r.fields.forwarded == 0 || len(r.table.trusted) == 0 || !r.table.trusts(r.c.peer) {
		return
	}
	list := r.fields.firstForwarded.in(r.raw)
	if r.fields.forwarded > 1 {
		list = r.forwardedFor(nil)
	}
	for len(list) > 0 {
		one := list
		if i := bytes.LastIndexByte(list, ','); i >= 0 {
			one, list = list[i+1:], list[:i]
		} else {
			list = nil
		}
		a, err := parseClient(bytes.TrimSpace(one))
		if err != nil {
			return // what stands left of it cannot be believed either
		}
		r.client = a
		if !r.table.trusts(r.client) {
			return
		}
	}
}

// forwardedFor appends the values of all X-Forwarded-For fields, joined by commas.
func (r *request) forwardedFor(dst []byte) []byte {
	if r.fields.forwarded == 1 {
		return append(dst, bytes.TrimSpace(r.fields.firstForwarded.in(r.raw))...)
	}
	from := len(dst)
	for name, v := range eachField(r.raw) {
		if len(v) == 0 || !equalFold(name, "x-forwarded-for") {
			continue
		}
		if len(dst) > from {
			dst = append(dst, ", "...)
		}
		dst = append(dst, v...)
	}
	return dst
}

// cookie finds a cookie among "a=1; b=2".
func cookie(list []byte, name string) []byte {
	for len(list) > 0 {
		one := list
		if i := bytes.IndexByte(list, ';'); i >= 0 {
			one, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		one = bytes.TrimSpace(one)
		if len(one) > len(name) && one[len(name)] == '=' && string(one[:len(name)]) == name {
			return bytes.Trim(one[len(name)+1:], `"`)
		}
	}
	return nil
}

// queryValue finds a parameter of the target's query and decodes its value, so that a subject is the
// same however its characters were escaped.
func (r *request) queryValue(name string) []byte {
	i := bytes.IndexByte(r.target, '?')
	if i < 0 {
		return nil
	}
	for q := r.target[i+1:]; len(q) > 0; {
		one := q
		if i := bytes.IndexByte(q, '&'); i >= 0 {
			one, q = q[:i], q[i+1:]
		} else {
			q = nil
		}
		if len(one) > len(name) && one[len(name)] == '=' && string(one[:len(name)]) == name {
			return unescape(one[len(name)+1:])
		}
	}
	return nil
}

// unescape decodes %XX and + of a query value; what is no escape stays as it is.
func unescape(v []byte) []byte {
	if bytes.IndexByte(v, '%') < 0 && bytes.IndexByte(v, '+') < 0 {
		return v
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '+':
			out = append(out, ' ')
		case v[i] == '%' && i+2 < len(v) && unhex(v[i+1]) >= 0 && unhex(v[i+2]) >= 0:
			out = append(out, byte(unhex(v[i+1])<<4|unhex(v[i+2])))
			i += 2
		default:
			out = append(out, v[i])
		}
	}
	return out
}
