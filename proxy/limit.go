package proxy

import (
	"math"
	"net/netip"
	"strconv"
	"time"

	"weir/config"
	"weir/proxy/limit"
)

// limitedKeys is how many keys of a route are remembered: 4 MiB. Where more are short of their burst at one
// time, further ones share a bucket (package limit).
const limitedKeys = 1 << 18

// limited is the rate limit of a route. It outlives tables as long as the key stays the same.
type limited struct {
	source, header string
	keys           *limit.Limiter
}

// newLimited returns the limit that c asks for, which is prev where that has the same keys, and nil where there
// is none. Its figures come into force when the table does (ApplyFor).
func newLimited(c *config.RateLimit, prev *limited) *limited {
	if c == nil {
		return nil
	}
	if prev != nil && prev.source == c.Source && prev.header == c.Name {
		return prev
	}
	return &limited{source: c.Source, header: c.Name, keys: limit.New(float64(c.Rate), c.Burst, limitedKeys)}
}

// sinceStart is the clock of limits.
func (p *Proxy) sinceStart(t time.Time) int64 { return int64(t.Sub(p.started)) }

// admits takes the request from its key's bucket. Where that is used up, it notes when it will not be.
func (l *limited) admits(r *request) (ok bool) {
	ok, r.retryAfter, _ = l.keys.Take(l.key(r), 1, r.p.sinceStart(r.start))
	return ok
}

// key is what the request is counted by: the field of the header, or where it has none the client's address,
// so that leaving the field out is no way around the limit. Of an IPv6 address it is the network of 64 bits, the
// least that one client has.
func (l *limited) key(r *request) []byte {
	b := r.in.key[:0]
	if l.source == config.AffinityHeader {
		if v := r.lookup(l.header); len(v) > maxKey {
			return v
		} else if len(v) > 0 {
			r.in.key = append(append(b, 'h'), v...) // no address can be taken for it
			return r.in.key
		}
	}
	r.in.key = appendNetwork(append(b, 'a'), r.client)
	return r.in.key
}

// maxKey is how long a key that is copied may be.
const maxKey = 256

func appendNetwork(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		ip := a.As4()
		return append(b, ip[:]...)
	}
	ip := a.As16()
	return append(b, ip[:8]...)
}

// appendRetryAfter says after how many seconds a request would be admitted.
func appendRetryAfter(b []byte, after time.Duration) []byte {
	seconds := int64(math.Ceil(after.Seconds()))
	return append(strconv.AppendInt(append(b, "Retry-After: "...), max(seconds, 1), 10), "\r\n"...)
}
