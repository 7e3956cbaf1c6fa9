package proxy

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"

	"weir/config"
	"weir/proxy/grpc"
)

// compression sends a route's answers compressed, to clients that take them so.
type compression struct {
	codings []coding // in the order of preference
	types   []string // lower case; those of a kind end in a slash
	minSize int64
	live    *compressionLive
}

// compressionLive is what was compressed, by coding. It outlives tables.
type compressionLive struct{ in, out [codings]atomic.Uint64 }

// coding is a content coding.
type coding uint8

const (
	identity coding = iota
	codedGzip
	codedBrotli
	codedZstd
	codings
)

var codingName = [codings]string{"identity", "gzip", "br", "zstd"}

func newCompression(c *config.Compress, prev *compression) *compression {
	if c == nil {
		return nil
	}
	n := &compression{minSize: int64(c.MinSize), live: new(compressionLive)}
	if prev != nil {
		n.live = prev.live
	}
	for _, name := range c.Encodings {
		if i := slices.Index(codingName[:], name); i > 0 {
			n.codings = append(n.codings, coding(i))
		}
	}
	for _, t := range c.Types {
		n.types = append(n.types, strings.TrimSuffix(strings.ToLower(t), "*"))
	}
	return n
}

// takes reports whether the answer p is to be compressed, and notes in it how. A HEAD is answered as the GET
// would be (RFC 9110, 9.3.2).
func (c *compression) takes(r *request, p *response) bool {
	switch {
	case r.http10 || p.status < 200 || p.status == 204 || p.status == 205 || p.status == 206 || p.status == 304:
		return false
	case p.fields.length >= 0 && (p.fields.length < c.minSize || p.fields.length == 0) || p.fields.trailer:
		return false
	}
	if p.coding = c.choose(r); p.coding == identity {
		return false
	}
	kind, fixed := content(r.buf.in[p.at:p.end])
	if fixed || !c.has(kind) || noTransform(r.raw) {
		p.coding = identity
	}
	return p.coding != identity
}

// has reports whether answers of this media type are compressed. Events are not: they are small, and each is to
// arrive when it is sent. Messages of gRPC are compressed one by one, if at all.
func (c *compression) has(kind []byte) bool {
	if len(kind) == 0 || isEvents(kind) || grpc.IsContentType(kind) {
		return false
	}
	for _, t := range c.types {
		n := len(t)
		if t == "*/" || !strings.HasSuffix(t, "/") && equalFold(kind, t) || strings.HasSuffix(t, "/") && len(kind) > n && equalFold(kind[:n], t) {
			return true
		}
	}
	return false
}

// content reads the lines of an answer: its media type, and whether it must go on as it is because it is encoded
// already, is a part, says that it must, or comes with a digest of itself.
func content(lines []byte) (kind []byte, fixed bool) {
	for name, value := range eachField(lines) {
		switch len(name) {
		case 6:
			fixed = fixed || equalFold(name, "digest")
		case 11:
			fixed = fixed || equalFold(name, "content-md5") || equalFold(name, "repr-digest")
		case 12:
			if equalFold(name, "content-type") {
				kind, _, _ = bytes.Cut(value, []byte(";"))
				kind = bytes.TrimSpace(kind)
			}
		case 13:
			fixed = fixed || equalFold(name, "content-range") || equalFold(name, "cache-control") && hasToken(value, "no-transform")
		case 14:
			fixed = fixed || equalFold(name, "content-digest")
		case 16:
			fixed = fixed || equalFold(name, "content-encoding")
		}
	}
	return kind, fixed
}

// noTransform reports whether the client asks for an answer as it is (RFC 9111, 5.2.1.6).
func noTransform(lines []byte) bool {
	for name, value := range eachField(lines) {
		if len(name) == 13 && equalFold(name, "cache-control") && hasToken(value, "no-transform") {
			return true
		}
	}
	return false
}

// varies reports whether answers with these lines depend on what the client takes.
func (c *compression) varies(r *request, lines []byte) bool {
	kind, _ := content(lines)
	return c.has(kind) || r.status == 304 && len(kind) == 0
}

// vary says so in the lines b[from:]. What a 304 confirms may have been compressed, and then its tag was a weak one.
func (c *compression) vary(r *request, b []byte, from int) []byte {
	if r.status == 304 && c.choose(r) != identity {
		b = weaken(b, from)
	}
	for name, value := range eachField(b[from:]) {
		if len(name) == 4 && equalFold(name, "vary") && (hasToken(value, "accept-encoding") || hasToken(value, "*")) {
			return b
		}
	}
	return append(b, "Vary: Accept-Encoding\r\n"...)
}

// mark says in the lines b[from:] that the body is compressed: its bytes are others than the endpoint's, and no
// part of them can be asked for.
func (c coding) mark(b []byte, from int) []byte {
	b = weaken(b, from)
	b = removeField(b, from, "accept-ranges")
	return append(append(append(b, "Content-Encoding: "...), codingName[c]...), "\r\n"...)
}

// weaken makes a strong ETag among the lines b[from:] a weak one.
func weaken(b []byte, from int) []byte {
	for at := from; at < len(b); {
		next := at + bytes.IndexByte(b[at:], '\n') + 1
		if next-at > len("etag:") && b[at+4] == ':' && equalFold(b[at:at+4], "etag") {
			if v := trim(b, at+5, next-2); v.from < v.to && b[v.from] == '"' {
				return slices.Insert(b, int(v.from), 'W', '/')
			}
		}
		at = next
	}
	return b
}
