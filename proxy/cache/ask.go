package cache

import (
	"bytes"
	"time"
)

// Ask is what a request says of caches.
type Ask struct {
	Control
	// Partial: it asks for a part, or under a condition that only the endpoint can judge.
	Partial bool
	// Fetch: it wants an answer that was made for it.
	Fetch bool

	noneMatch     []byte // If-None-Match; several lines follow each other
	modifiedSince []byte // If-Modified-Since
	pragma        bool
	controlled    bool
}

// ReadAsk reads the header lines of a request; nothing is copied but a condition of several lines.
func ReadAsk(lines []byte) Ask {
	a := Ask{Control: newControl()}
	for line := range bytes.Lines(lines) {
		colon := bytes.IndexByte(line, ':')
		if colon < 5 || colon > 19 { // no name that matters
			continue
		}
		a.field(line[:colon], line[colon+1:])
	}
	a.Fetch = a.NoCache || a.MaxAge == 0 || a.pragma && !a.controlled
	return a
}

func (a *Ask) field(name, value []byte) {
	switch len(name) {
	case 5:
		a.Partial = a.Partial || fold(name, "range")
	case 6:
		a.pragma = a.pragma || fold(name, "pragma") && fold(bytes.TrimSpace(value), "no-cache")
	case 8:
		a.Partial = a.Partial || fold(name, "if-match") || fold(name, "if-range")
	case 13:
		switch {
		case fold(name, "cache-control"):
			a.controlled = true
			a.add(value)
		case fold(name, "if-none-match") && a.noneMatch == nil:
			a.noneMatch = bytes.TrimSpace(value)
		case fold(name, "if-none-match"):
			a.noneMatch = append(append(bytes.Clone(a.noneMatch), ','), bytes.TrimSpace(value)...)
		}
	case 17:
		if fold(name, "if-modified-since") {
			a.modifiedSince = bytes.TrimSpace(value)
		}
	case 19:
		a.Partial = a.Partial || fold(name, "if-unmodified-since")
	}
}

// Conditional reports whether the client has an answer already and asks whether it is still right.
func (a *Ask) Conditional() bool { return a.noneMatch != nil || a.modifiedSince != nil }

// Takes reports whether an answer that is so old, and stays fresh for left, is good enough for who asks.
func (a *Ask) Takes(age, left time.Duration) bool {
	return !(a.MaxAge != Unset && age > a.MaxAge || a.MinFresh != Unset && left < a.MinFresh)
}

// Has reports whether the client has the answer e already (RFC 9110, 13.1).
func (a *Ask) Has(e *Entry) bool {
	if e.Status != 200 {
		return false
	}
	if a.noneMatch != nil {
		return matches(a.noneMatch, e.etag())
	}
	if a.modifiedSince == nil {
		return false
	}
	since, ok := parseTime(a.modifiedSince)
	return ok && !e.modified.IsZero() && !e.modified.After(since)
}

// matches compares an entity tag with a list of them, weakly.
func matches(list, tag []byte) bool {
	if string(list) == "*" {
		return true
	}
	tag = opaque(tag)
	for len(tag) > 0 && len(list) > 0 {
		var one []byte
		one, list = directive(list) // tags are quoted
		if bytes.Equal(opaque(one), tag) {
			return true
		}
	}
	return false
}

func opaque(tag []byte) []byte { return bytes.TrimPrefix(tag, []byte("W/")) }

// parseTime reads an HTTP date in any of its three forms (RFC 9110, 5.6.7).
func parseTime(b []byte) (time.Time, bool) {
	for _, layout := range [...]string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
