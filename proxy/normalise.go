package proxy

import (
	"bytes"
	"net/netip"
)

// normalisePath returns the form of a request target that routes are compared with: the path
// without query, percent-decoded, dot segments (also encoded ones) resolved, and runs of slashes
// merged; a slash at the end stays. An encoded slash is no separator: it remains, as %2F.
//
// ok is false, and the request malformed (400), when the target is not in origin-form ("/…"), has
// control characters, spaces, a fragment or a broken percent-encoding, contains an encoded
// NUL, or climbs above the root.
//
// The result is a part of target where nothing needed to change, else it is written into the
// capacity of dst (which must not overlap target). The target itself is never changed: it goes to the
// endpoint byte for byte.
func normalisePath(dst, target []byte) (path []byte, ok bool) {
	if len(target) == 0 || target[0] != '/' {
		return nil, false
	}
	path, query := target, []byte(nil)
	if end := bytes.IndexByte(target, '?'); end >= 0 {
		path, query = target[:end], target[end:]
	}
	plain := true
	for i, c := range path {
		switch targetByte[c] {
		case byteBad:
			return nil, false
		case bytePath:
			// "//", "/." and what follows may need work; "/.well-known" goes the long way too.
			plain = plain && c != '%' && (i == 0 || path[i-1] != '/')
		}
	}
	if !validQuery(query) {
		return nil, false
	}
	if plain {
		return path, true
	}
	return rewritePath(dst, path)
}

// What a byte is in a request target.
const (
	bytePlain = iota
	bytePath  // in a path, what normalising looks at
	byteBad   // may not be there: controls, spaces, the start of a fragment
)

var targetByte = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c <= ' ' || c == 0x7f || c == '#':
			t[c] = byteBad
		case c == '/' || c == '.' || c == '%':
			t[c] = bytePath
		}
	}
	return t
}()

// validQuery reports whether the query has only bytes that may stand in a request target.
func validQuery(query []byte) bool {
	for _, c := range query {
		if targetByte[c] == byteBad {
			return false
		}
	}
	return true
}

// rewritePath is the long way of normalisePath: it writes segment after segment into dst.
func rewritePath(dst, path []byte) ([]byte, bool) {
	out := append(dst[:0], '/')
	start := 1 // of the segment being written; the byte before it is always a slash
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			if path[i] != '%' {
				out = append(out, path[i])
				continue
			}
			var ok bool
			if out, ok = appendDecoded(out, path[i:]); !ok {
				return nil, false
			}
			i += 2
			continue
		}
		switch segment := out[start:]; {
		case len(segment) == 0:
		case string(segment) == ".":
			out = out[:start]
		case string(segment) == "..":
			if start == 1 {
				return nil, false
			}
			out = out[:bytes.LastIndexByte(out[:start-1], '/')+1]
		case i < len(path):
			out = append(out, '/')
		}
		start = len(out)
	}
	return out, true
}

// appendDecoded appends the byte that the escape at the start of s stands for.
func appendDecoded(out, s []byte) ([]byte, bool) {
	if len(s) < 3 {
		return nil, false
	}
	high, low := unhex(s[1]), unhex(s[2])
	if high < 0 || low < 0 {
		return nil, false
	}
	switch c := byte(high<<4 | low); c {
	case 0:
		return nil, false
	case '/':
		return append(out, "%2F"...), true
	default:
		return append(out, c), true
	}
}

// unhex returns the value of a hexadecimal digit, -1 for any other byte.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// splitAbsolute splits an absolute-form target ("http://host:port/path?query", or https) into
// its authority, which replaces the Host field, and the origin-form rest, which always
// begins with a slash. ok is false for every other form and for an authority that validHost
// refuses (user information, for one). Both parts are parts of target, except where the path is empty.
func splitAbsolute(target []byte) (authority, rest []byte, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) < len(scheme) || !bytes.EqualFold(target[:len(scheme)], []byte(scheme)) {
			continue
		}
		authority = target[len(scheme):]
		if end := bytes.IndexAny(authority, "/?#"); end >= 0 {
			authority, rest = authority[:end], authority[end:]
		}
		if len(rest) == 0 || rest[0] != '/' {
			rest = append([]byte{'/'}, rest...)
		}
		return authority, rest, validHost(authority)
	}
	return nil, nil, false
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// validHost reports whether a Host field value is a registered name, an IPv4 address or a bracketed
// IPv6 address, with or without port. It is as strict as RFC 9110 asks (no space, '/', '@',
// control or non-ASCII byte, not empty) and refuses percent-encoded names as well, which no honest
// client sends.
func validHost(host []byte) bool {
	name, port := splitPort(host)
	if !validPort(port) {
		return false
	}
	if len(name) > 0 && name[0] == '[' {
		return validIPv6(name)
	}
	for _, c := range name {
		if !regNameByte[c] {
			return false
		}
	}
	return len(name) > 0
}

// splitPort cuts the port, with its colon, off a host.
func splitPort(host []byte) (name, port []byte) {
	if len(host) > 0 && host[0] == '[' {
		if end := bytes.IndexByte(host, ']'); end >= 0 {
			return host[:end+1], host[end+1:]
		}
		return host, nil
	}
	if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		return host[:colon], host[colon:]
	}
	return host, nil
}

// validPort accepts nothing, a lone colon, and a colon with a port of 0 to 65535.
func validPort(port []byte) bool {
	if len(port) == 0 {
		return true
	}
	if port[0] != ':' || len(port) > len(":65535") {
		return false
	}
	n := 0
	for _, c := range port[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

func validIPv6(literal []byte) bool {
	if len(literal) < 2 || literal[len(literal)-1] != ']' {
		return false
	}
	addr, err := netip.ParseAddr(string(literal[1 : len(literal)-1]))
	return err == nil && addr.Is6() && addr.Zone() == ""
}

// regNameByte marks what may stand in a registered name (RFC 3986: unreserved or a sub-delimiter).
var regNameByte = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	for _, c := range "-._~!$&'()*+,;=" {
		t[c] = true
	}
	return t
}()

// maxHostName is the longest host that can be configured (RFC 1035's 253 bytes, and room for a
// trailing dot); a longer one matches only routes without a host.
const maxHostName = 254

// canonicalHost writes the name of host as routes hold it into the capacity of dst: without port
// and trailing dot, in lower case. ok is false when it is too long to be that of a route.
func canonicalHost(dst, host []byte) (name []byte, ok bool) {
	name, _ = splitPort(host)
	name = bytes.TrimSuffix(name, []byte("."))
	if len(name) > maxHostName {
		return nil, false
	}
	dst = dst[:0]
	for _, c := range name {
		dst = append(dst, lowerByte(c))
	}
	return dst, true
}
