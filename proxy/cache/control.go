package cache

import (
	"bytes"
	"time"
)

// Unset is a duration that a field does not give.
const Unset = time.Duration(-1)

// Control is what the Cache-Control fields of a head say (RFC 9111, 5.2; RFC 5861). A directive that is limited
// to some fields, as in private="Set-Cookie", counts for the whole answer.
type Control struct {
	NoStore, NoCache, Private, MustRevalidate, OnlyIfCached bool
	// Shared is proxy-revalidate, which s-maxage implies: what is stale must be asked for again.
	Shared                             bool
	MaxAge, SMaxAge, MinFresh          time.Duration
	StaleIfError, StaleWhileRevalidate time.Duration
}

func newControl() Control {
	return Control{MaxAge: Unset, SMaxAge: Unset, MinFresh: Unset, StaleIfError: Unset, StaleWhileRevalidate: Unset}
}

// add reads the value of one field.
func (c *Control) add(value []byte) {
	for len(value) > 0 {
		var one []byte
		one, value = directive(value)
		name, arg, _ := bytes.Cut(one, []byte("="))
		c.set(bytes.TrimSpace(name), bytes.Trim(bytes.TrimSpace(arg), `"`))
	}
}

// directive cuts the first directive off a list; a comma in quotes does not end it.
func directive(list []byte) (one, rest []byte) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch {
		case quoted && list[i] == '\\':
			i++
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return bytes.TrimSpace(list[:i]), list[i+1:]
		}
	}
	return bytes.TrimSpace(list), nil
}

func (c *Control) set(name, arg []byte) {
	switch {
	case fold(name, "no-store"):
		c.NoStore = true
	case fold(name, "no-cache"):
		c.NoCache = true
	case fold(name, "private"):
		c.Private = true
	case fold(name, "must-revalidate"):
		c.MustRevalidate = true
	case fold(name, "proxy-revalidate"):
		c.Shared = true
	case fold(name, "only-if-cached"):
		c.OnlyIfCached = true
	case fold(name, "max-age"):
		first(&c.MaxAge, arg)
	case fold(name, "s-maxage"):
		c.Shared = true
		first(&c.SMaxAge, arg)
	case fold(name, "min-fresh"):
		first(&c.MinFresh, arg)
	case fold(name, "stale-if-error"):
		first(&c.StaleIfError, arg)
	case fold(name, "stale-while-revalidate"):
		first(&c.StaleWhileRevalidate, arg)
	}
}

// first sets a duration that was not set yet: of several that contradict each other the first counts.
func first(d *time.Duration, arg []byte) {
	if *d == Unset {
		*d = seconds(arg)
	}
}

// maxSeconds stands for all that is longer (RFC 9111, 1.2.2).
const maxSeconds = 1 << 31

// seconds reads a number of seconds. What is none is 0: an answer whose freshness cannot be read is stale
// (RFC 9111, 4.2.1).
func seconds(arg []byte) time.Duration {
	n := int64(0)
	for _, c := range arg {
		if c < '0' || c > '9' {
			return 0
		}
		n = min(n*10+int64(c-'0'), maxSeconds)
	}
	return time.Duration(n) * time.Second
}

// fold compares without regard to case; s is ASCII, and with lengths that are equal so are the letters that count.
func fold(b []byte, s string) bool { return len(b) == len(s) && bytes.EqualFold(b, []byte(s)) }

// eachField calls f with the name and the value of each of these header lines.
func eachField(lines []byte, f func(name, value []byte)) {
	for line := range bytes.Lines(lines) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok {
			f(name, bytes.TrimSpace(value))
		}
	}
}
