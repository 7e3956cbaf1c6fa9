package proxy

import (
	"bytes"
	"strings"

	"weir/config"
)

// rewriting changes the path of a target. Like routes it goes by the normalised path, so that no way to write
// a path evades it; what it leaves of the client's target stays byte for byte.
type rewriting struct {
	strip    string // in the form of normalisePath, without a slash at the end; "": nothing
	segments int    // of it
	add      string // in front, without a slash at the end
	path     string // instead of all
	regex    *config.Regexp
	with     []byte // what regex finds is replaced by
}

func newRewriting(c *config.Rewrite) *rewriting {
	if c == nil {
		return nil
	}
	w := &rewriting{regex: c.Regex, with: []byte(c.Replacement), add: strings.TrimRight(pathText(c.AddPrefix), "/"), path: pathText(c.Path)}
	if c.StripPrefix != "" {
		w.strip = strings.TrimRight(configuredPath(c.StripPrefix), "/")
		w.segments = strings.Count(w.strip, "/")
	}
	return w
}

// append appends the target that the endpoint sees.
func (w *rewriting) append(b, target []byte) []byte {
	path, query := target, []byte(nil)
	if end := bytes.IndexByte(target, '?'); end >= 0 {
		path, query = target[:end], target[end:]
	}
	from := len(b)
	b = append(b, w.add...)
	switch {
	case w.path != "":
		b = append(b, w.path...)
	case w.regex != nil:
		b = w.replaced(b, path)
	default:
		b = append(b, w.stripped(path)...)
	}
	if len(b) == from {
		b = append(b, '/')
	}
	return append(b, query...)
}

// stripped is what is left of a path behind the prefix; all of it where it does not begin with that.
func (w *rewriting) stripped(path []byte) []byte {
	if w.segments == 0 {
		return path
	}
	normal, ok := normalisePath(nil, path)
	if !ok || !bytes.HasPrefix(normal, []byte(w.strip)) || len(normal) > len(w.strip) && normal[len(w.strip)] != '/' {
		return path
	}
	return oneSlash(path[w.cut(path):])
}

// cut is where the prefix ends in a path whose normalised form begins with it: behind the segment that is the
// prefix's last one, and that no dot segment takes back.
func (w *rewriting) cut(path []byte) (at int) {
	depth := 0
	for i := 0; i < len(path); {
		end := i + 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		switch dots(path[i+1 : end]) {
		case 0:
			if end > i+1 {
				if depth++; depth == w.segments {
					at = end
				}
			}
		case 2:
			depth--
		}
		i = end
	}
	return at
}

// dots is the number of dots of a dot segment, also of an encoded one; 0 of any other.
func dots(segment []byte) (n int) {
	for len(segment) > 0 {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && segment[0] == '%' && segment[1] == '2' && segment[2]|0x20 == 'e':
			segment = segment[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

// oneSlash takes further slashes off the beginning of a path: two of them may be taken for an authority.
func oneSlash(path []byte) []byte {
	for len(path) > 1 && path[0] == '/' && path[1] == '/' {
		path = path[1:]
	}
	return path
}

// replaced appends the path after the replacement. Of the normalised path a percent sign of the client's stays
// encoded, so that nothing is decoded twice.
func (w *rewriting) replaced(b, path []byte) []byte {
	guarded := path
	if bytes.Contains(path, []byte("%25")) {
		guarded = bytes.ReplaceAll(path, []byte("%25"), []byte("%2525"))
	}
	normal, ok := normalisePath(nil, guarded)
	if !ok || !w.regex.Match(normal) {
		return append(b, path...)
	}
	path = w.regex.ReplaceAll(normal, w.with)
	if len(path) == 0 || path[0] != '/' {
		b = append(b, '/')
	}
	return appendPath(b, oneSlash(path))
}

// pathText makes a path of the configuration fit for a target.
func pathText(path string) string { return string(appendPath(nil, []byte(path))) }

// appendPath appends a path, encoded where a target must not hold a byte as it is. What is encoded stays so.
func appendPath(b, path []byte) []byte {
	for i, c := range path {
		encoded := c == '%' && len(path) > i+2 && unhex(path[i+1]) >= 0 && unhex(path[i+2]) >= 0
		if regNameByte[c] || c == '/' || c == ':' || c == '@' || encoded {
			b = append(b, c)
		} else {
			b = appendEscape(b, c)
		}
	}
	return b
}

// appendEscape appends a byte as %XX.
func appendEscape(b []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(b, '%', digits[c>>4], digits[c&15])
}
