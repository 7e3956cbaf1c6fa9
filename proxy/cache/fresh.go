package cache

import (
	"bytes"
	"time"
)

// Policy is what a route says of the answers it keeps.
type Policy struct {
	// TTL is how long answers of a status are fresh that do not say so themselves. Others are not kept.
	TTL map[int]time.Duration
	// How much longer an answer may be used that does not say so itself.
	StaleIfError, StaleWhileRevalidate time.Duration
	MaxObject                          int
}

// Life is for how long an answer may be used, from when it came.
type Life struct {
	Age     time.Duration // that it had when it came
	Fresh   time.Duration // up to this age
	IfError time.Duration // and from there on, while endpoints fail
	Refresh time.Duration // and while a new one is fetched
}

// Refusal says why an answer is not kept.
type Refusal string

const (
	Kept         Refusal = ""
	BadStatus    Refusal = "status"   // it has no TTL
	Forbidden    Refusal = "no-store" // or private
	Personal     Refusal = "set-cookie"
	VariesAlways Refusal = "vary"
	Endless      Refusal = "stream"
	Outdated     Refusal = "stale" // and there is no use for a stale one
	TooLarge     Refusal = "size"
)

// Transient reports whether the next answer may well be kept.
func (f Refusal) Transient() bool { return f == BadStatus || f == Outdated }

// head is what the header lines of an answer say of its freshness.
type head struct {
	Control
	date, expires time.Time
	hasExpires    bool
	age           time.Duration
	setsCookie    bool
	trailer       bool
	stream        bool
	vary          []byte // the values of all Vary fields, with commas
}

func readHead(lines []byte) head {
	h := head{Control: newControl()}
	eachField(lines, func(name, value []byte) {
		switch len(name) {
		case 3:
			if fold(name, "age") {
				h.age = seconds(value)
			}
		case 4:
			if fold(name, "date") {
				h.date, _ = parseTime(value)
			} else if fold(name, "vary") {
				h.vary = append(append(h.vary, value...), ',')
			}
		case 7:
			if fold(name, "expires") { // one that cannot be read has passed (RFC 9111, 5.3)
				h.expires, _ = parseTime(value)
				h.hasExpires = true
			} else if fold(name, "trailer") {
				h.trailer = true
			}
		case 10:
			h.setsCookie = h.setsCookie || fold(name, "set-cookie")
		case 12:
			if fold(name, "content-type") {
				kind, _, _ := bytes.Cut(value, []byte(";"))
				h.stream = fold(bytes.TrimSpace(kind), "text/event-stream")
			}
		case 13:
			if fold(name, "cache-control") {
				h.add(value)
			}
		}
	})
	return h
}

// Judge says whether an answer with these header lines is kept, and for how long. It came at this time, delay
// after it was asked for.
func (p *Policy) Judge(status int, lines []byte, came time.Time, delay time.Duration) (Life, Refusal) {
	ttl, ok := p.TTL[status]
	if !ok || status < 200 || status == 206 || status == 304 {
		return Life{}, BadStatus
	}
	h := readHead(lines)
	switch {
	case h.NoStore || h.Private:
		return Life{}, Forbidden
	case h.setsCookie:
		return Life{}, Personal
	case bytes.IndexByte(h.vary, '*') >= 0:
		return Life{}, VariesAlways
	case h.stream, h.trailer:
		return Life{}, Endless
	}
	l := h.life(ttl, came, delay)
	if h.MustRevalidate || h.Shared || h.NoCache {
		l.IfError, l.Refresh = 0, 0
	} else {
		l.IfError, l.Refresh = own(h.StaleIfError, p.StaleIfError), own(h.StaleWhileRevalidate, p.StaleWhileRevalidate)
	}
	if h.NoCache {
		l.Fresh = 0
	}
	if l.Age >= l.Fresh+max(l.IfError, l.Refresh) {
		return Life{}, Outdated
	}
	return l, Kept
}

// own is what an answer says itself, else what the route says.
func own(answer, route time.Duration) time.Duration {
	if answer != Unset {
		return answer
	}
	return route
}

// life computes age and lifetime (RFC 9111, 4.2.1 and 4.2.3).
func (h *head) life(ttl time.Duration, came time.Time, delay time.Duration) (l Life) {
	came = came.Truncate(time.Second) // dates have no more
	if l.Age = h.age; h.age > 0 {
		l.Age += delay
	}
	if !h.date.IsZero() {
		l.Age = max(l.Age, came.Sub(h.date))
	}
	switch {
	case h.SMaxAge != Unset:
		l.Fresh = h.SMaxAge
	case h.MaxAge != Unset:
		l.Fresh = h.MaxAge
	case h.hasExpires && !h.date.IsZero():
		l.Fresh = max(h.expires.Sub(h.date), 0)
	case h.hasExpires:
		l.Fresh = max(h.expires.Sub(came), 0)
	default:
		l.Fresh = ttl + l.Age // the route counts from when it came
	}
	return l
}

// Vary lists the names of the fields by which answers with these lines differ, in lower case, each followed
// by a comma; nil where they do not.
func Vary(lines []byte) (names []byte) {
	eachField(lines, func(name, value []byte) {
		if !fold(name, "vary") {
			return
		}
		for len(value) > 0 {
			var one []byte
			if one, value = directive(value); len(one) > 0 {
				names = append(append(names, bytes.ToLower(one)...), ',')
			}
		}
	})
	return names
}
