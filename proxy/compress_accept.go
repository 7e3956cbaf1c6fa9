package proxy

import "bytes"

// acceptance is what a client says of content codings, as qualities in thousandths; -1: nothing.
type acceptance struct {
	of  [codings]int16
	any int16 // "*"
	// said: there is an Accept-Encoding.
	said bool
}

// choose returns the coding that the client likes best, of equal ones the route; identity where that is no worse,
// and where the client says nothing.
func (c *compression) choose(r *request) coding {
	a := accepted(r.raw)
	if !a.said {
		return identity
	}
	best, quality := identity, a.quality(identity)
	for _, one := range c.codings {
		if q := a.quality(one); q > quality {
			best, quality = one, q
		}
	}
	return best
}

// quality is what a coding is worth to the client. Identity, where it is not spoken of, is better only than what
// is refused (RFC 9110, 12.5.3).
func (a *acceptance) quality(c coding) int16 {
	switch q := a.of[c]; {
	case q >= 0:
		return q
	case c == identity:
		return 0
	default:
		return max(a.any, 0)
	}
}

// accepted reads the fields Accept-Encoding of a request.
func accepted(lines []byte) acceptance {
	a := acceptance{any: -1}
	for i := range a.of {
		a.of[i] = -1
	}
	for name, list := range eachField(lines) {
		if len(name) != 15 || !equalFold(name, "accept-encoding") {
			continue
		}
		a.said = true
		for len(list) > 0 {
			one, rest, _ := bytes.Cut(list, []byte(","))
			a.read(one)
			list = rest
		}
	}
	return a
}

// read takes one element of the list. What is malformed is not accepted.
func (a *acceptance) read(one []byte) {
	name, weight, weighted := bytes.Cut(one, []byte(";"))
	name = bytes.TrimSpace(name)
	q, ok := int16(1000), true
	if weighted {
		q, ok = parseQuality(bytes.TrimSpace(weight))
	}
	if !ok {
		return
	}
	if string(name) == "*" {
		a.any = q
		return
	}
	if equalFold(name, "x-gzip") { // RFC 9110, 8.4.1.3
		name = name[2:]
	}
	for i, known := range codingName {
		if equalFold(name, known) {
			a.of[i] = q
		}
	}
}

// parseQuality reads q=0.5 in thousandths (RFC 9110, 12.4.2).
func parseQuality(s []byte) (q int16, ok bool) {
	if len(s) < 3 || s[0]|0x20 != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0, false
	}
	q = int16(s[2]-'0') * 1000
	if s = s[3:]; len(s) == 0 {
		return q, true
	}
	if s[0] != '.' || len(s) > 4 {
		return 0, false
	}
	for i, worth := 1, int16(100); i < len(s); i, worth = i+1, worth/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		q += int16(s[i]-'0') * worth
	}
	return q, q <= 1000
}
