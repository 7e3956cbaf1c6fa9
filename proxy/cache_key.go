package proxy

import (
	"weir/config"
	"weir/proxy/cache"
)

// begin says what the cache can be to the request, and makes its key where it is asked.
func (g *caching) begin(c *cached, r *request) {
	*g = caching{of: c, key: g.key, lines: g.lines[:0]}
	r.caching = g
	method := methods[r.method]
	switch {
	case r.isCall(): // its status stands in trailers, which are not kept
		return
	case c.methods[r.method]:
	case !safe(r.method):
		g.unsafe = true
		g.aim(r)
		return
	default:
		return
	}
	g.ask = cache.ReadAsk(r.raw)
	body, ok := r.heldBody()
	switch {
	case !ok, len(body) > 0 && method != "POST": // what a body of a GET means nobody knows
		g.result = cacheBypass
	case g.ask.NoStore, g.ask.Partial, c.cfg.Credentials == config.CacheBypass && c.credentials(r):
		g.result = cacheBypass
	default:
		g.result = cacheMiss
		if r.buf != nil {
			g.lines = append(g.lines, r.buf.out[:r.gathered.from]...)
		} else {
			g.lines = r.appendHead(g.lines)
		}
		g.aim(r)
		g.base = g.sum(r, body)
	}
}

// heldBody is the request's body, where all of it is in memory and nothing behind it.
func (r *request) heldBody() (body []byte, ok bool) {
	switch {
	case r.unread():
		return nil, false
	case r.buf == nil: // refused before it was gathered
		return nil, !r.chunkedBody && r.fields.length <= 0
	case r.gathered.to == 0 || int(r.gathered.to) < len(r.buf.out):
		return nil, false
	}
	return r.body(), true
}

// credentials reports whether the request brings any.
func (c *cached) credentials(r *request) bool {
	for _, name := range c.secrets {
		if lookup(r.raw, name) != nil {
			return true
		}
	}
	return false
}

// aim finds the number of what the request is for, whoever asks.
func (g *caching) aim(r *request) {
	b := appendLower(g.key[:0], r.hostAsked())
	b = append(append(b, ' '), r.target...)
	g.target, g.key = g.of.live.Target(b), b
}

// hostAsked is the host that the request is for.
func (r *request) hostAsked() []byte {
	if r.authority != nil {
		return r.authority
	}
	return r.fields.host.in(r.raw)
}

func appendLower(b, s []byte) []byte {
	for _, c := range s {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

// sum is the request's key: all that its answer may depend upon, as far as the route's configuration and HTTP
// say. What trusted proxies forward of scheme and host the endpoint sees, too.
func (g *caching) sum(r *request, body []byte) cache.Key {
	c, v := g.of, r.variant
	b := cache.Part(c.live.Begin(g.key), c.rules)
	if !c.cfg.SharedByVariants {
		b = cache.Part(cache.Part(b, v.pool), v.version)
	}
	method := methods[r.method]
	if r.isHead {
		method = "GET"
	}
	b = cache.Part(b, method)
	b = cache.Part(b, r.target)
	if r.route.edits != nil {
		b = cache.Part(b, r.sentTarget())
	}
	from := len(b) + 4
	b = cache.Part(b, r.hostAsked())
	copy(b[from:from], appendLower(b[from:from], b[from:]))
	if len(r.table.trusted) > 0 && r.table.trusts(r.c.peer) {
		b = cache.Part(cache.Part(b, r.fields.proto.in(r.raw)), r.fields.fhost.in(r.raw))
	}
	for _, s := range c.key {
		if s.Kind == config.AffinityHeader { // of several lines all count
			b = cache.Fields(b, r.raw, s.Name)
		} else {
			b = cache.Part(b, r.sourceText(s))
		}
	}
	if c.cfg.Credentials == config.CacheSeparate {
		for _, name := range c.secrets {
			b = cache.Fields(b, r.raw, name)
		}
	}
	if method == "POST" {
		for _, name := range [...]string{"content-type", "content-encoding", "accept", "inference-header-content-length"} {
			b = cache.Fields(b, r.raw, name)
		}
		b = r.appendBody(b, body)
	}
	g.key = b
	return cache.Sum(b)
}

// digestPiece is how much of a body is digested at once, in bytes: 0.2 ms. On a loop others have their turn after
// it.
const digestPiece = 256 << 10

// appendBody appends the part of a key that a body is.
func (r *request) appendBody(b, body []byte) []byte {
	for len(body) > digestPiece {
		b = cache.Body(b, body[:digestPiece])
		body = body[digestPiece:]
		if d, ok := r.c.descriptor.(turner); ok {
			d.giveTurn()
		}
	}
	return cache.Body(b, body)
}
