package proxy

import (
	"bytes"
	"unsafe"

	orca "weir/backend/load"
	"weir/proxy/grpc"
)

// span is a part of a head: [from, to).
type span struct{ from, to int32 }

func (s span) in(b []byte) []byte { return b[s.from:s.to] }

// maxFields is how many header fields a head may have, maxDrops how many of them weir takes out.
const (
	maxFields = 100
	maxDrops  = 48
)

// fields is what one pass over the header lines of a head found: which lines do not go on, and
// where the values are that weir itself needs. It points into the head, copies nothing, and lives
// in a request.
type fields struct {
	drops  [maxDrops]span // whole lines, in order
	ndrops int
	bare   bool // some line ends in LF alone: the lines must be written anew

	length         int64 // Content-Length, -1 without
	chunked        bool
	coded          bool // in another way than just chunked
	closes         bool // Connection: close
	keepAlive      bool // Connection: keep-alive
	upgrades       bool // Connection: upgrade
	websocket      bool // Upgrade: websocket, perhaps among others
	expect         span
	host           span
	requestID      span
	traceparent    span
	proto          span // X-Forwarded-Proto
	fhost          span // X-Forwarded-Host
	forwarded      int  // how many X-Forwarded-For there are
	firstForwarded span // the first of them
	certs          bool // X-Forwarded-Client-Cert
	timeout        span // X-Request-Timeout, the first; it goes on
	trailer        bool // there is a Trailer
	events         bool // an answer is an event stream
	grpc           bool // Content-Type is that of gRPC
	grpcTimeout    span // grpc-timeout; it goes on
	grpcStatus     span // grpc-status of an answer without trailers; it goes on
	loadFormat     bool // a client asks for endpoint-load-metrics
	load           span // endpoint-load-metrics of an answer
	loadBinary     span // endpoint-load-metrics-bin
	// takesReports says that load and loadBinary do not go on. Who reads an answer's head sets it.
	takesReports bool
	nominated    [maxDrops]span
	nnominated   int
}

// problem is what makes a head unacceptable; "" when nothing does.
type problem string

const (
	badLine     problem = "malformed header line"
	badName     problem = "invalid character in a header name"
	badFold     problem = "a header line is folded over two lines"
	badLength   problem = "invalid or repeated Content-Length"
	badCoding   problem = "transfer coding other than chunked"
	badFraming  problem = "both Content-Length and Transfer-Encoding"
	tooMany     problem = "more than 100 header fields"
	tooManyDrop problem = "too many hop-by-hop or forwarding fields"
)

// side says whose head is read: they have different fields that do not go on.
type side bool

const (
	fromClient   side = true
	fromEndpoint side = false
)

// read walks the header lines b[at:end], end being just behind the last one's line feed.
func (f *fields) read(b []byte, at, end int, from side) problem {
	if p := f.pass(b, at, end, from, 0); p != "" || f.nnominated == 0 {
		return p
	}
	// Connection names further fields to remove. They may stand before it, hence a second pass.
	return f.pass(b, at, end, from, f.nnominated)
}

// pass walks the lines once; the first nominated of f.nominated are known from an earlier pass.
func (f *fields) pass(b []byte, at, end int, from side, nominated int) problem {
	f.ndrops, f.bare, f.nnominated = 0, false, 0
	f.length, f.chunked, f.coded, f.closes, f.keepAlive, f.forwarded, f.trailer, f.events, f.grpc = -1, false, false, false, false, 0, false, false, false
	f.upgrades, f.websocket, f.certs = false, false, false
	f.expect, f.host, f.requestID, f.traceparent, f.proto, f.fhost, f.timeout = span{}, span{}, span{}, span{}, span{}, span{}, span{}
	f.grpcTimeout, f.grpcStatus, f.load, f.loadBinary, f.loadFormat = span{}, span{}, span{}, span{}, false
	for count := 0; at < end; count++ {
		if count == maxFields {
			return tooMany
		}
		nl := bytes.IndexByte(b[at:end], '\n')
		if nl < 0 {
			return badLine
		}
		stop := at + nl
		if nl > 0 && b[stop-1] == '\r' {
			stop--
		} else {
			f.bare = true
		}
		colon := at
		for colon < stop && tokenByte[b[colon]] {
			colon++
		}
		if colon == stop || b[colon] != ':' || colon == at {
			return nameProblem(b[at:stop], colon-at)
		}
		drop, p := f.field(b, at, colon, stop, from)
		if p != "" {
			return p
		}
		if !drop && nominated > 0 {
			drop = f.isNominated(b, b[at:colon], nominated)
		}
		if drop {
			if f.ndrops == maxDrops {
				return tooManyDrop
			}
			f.drops[f.ndrops] = span{int32(at), int32(at + nl + 1)}
			f.ndrops++
		}
		at += nl + 1
	}
	switch {
	case f.chunked && f.length >= 0:
		return badFraming
	case f.coded:
		return badCoding
	}
	return ""
}

func nameProblem(line []byte, colon int) problem {
	switch {
	case len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
		return badFold
	case bytes.IndexByte(line, ':') > colon:
		return badName
	}
	return badLine
}

// field looks at one line; drop means that it does not go on as it stands. Names are told apart by
// their length first: that settles most lines without comparing a byte.
func (f *fields) field(b []byte, at, colon, stop int, from side) (drop bool, p problem) {
	name := b[at:colon]
	switch len(name) {
	case 2:
		drop = equalFold(name, "te")
	case 4:
		if equalFold(name, "host") {
			f.host = trim(b, colon+1, stop)
		}
	case 6:
		if from == fromClient && equalFold(name, "expect") {
			f.expect, drop = trim(b, colon+1, stop), true
		}
	case 7:
		if equalFold(name, "trailer") {
			f.trailer, drop = true, true
		} else if equalFold(name, "upgrade") {
			f.websocket, drop = f.websocket || lists(b[colon+1:stop], "websocket"), true
		}
	case 9:
		drop = from == fromClient && equalFold(name, "x-real-ip")
	case 10:
		if equalFold(name, "connection") {
			return true, f.connection(b, trim(b, colon+1, stop))
		}
		drop = equalFold(name, "keep-alive")
	case 11:
		if from == fromClient && equalFold(name, "traceparent") {
			f.traceparent, drop = trim(b, colon+1, stop), true
		} else if from == fromEndpoint && equalFold(name, "grpc-status") {
			f.grpcStatus = trim(b, colon+1, stop)
		}
	case 12:
		switch {
		case equalFold(name, "x-request-id"):
			f.requestID, drop = trim(b, colon+1, stop), true
		case equalFold(name, "content-type"):
			kind := trim(b, colon+1, stop).in(b)
			f.grpc = grpc.IsContentType(kind)
			f.events = from == fromEndpoint && isEvents(kind)
		case from == fromClient:
			if equalFold(name, "grpc-timeout") {
				f.grpcTimeout = trim(b, colon+1, stop)
			}
		default:
			drop = equalFold(name, "x-weir-cache")
		}
	case 14:
		if equalFold(name, "content-length") {
			return true, f.contentLength(trim(b, colon+1, stop).in(b))
		}
		drop = equalFold(name, "http2-settings") || from == fromEndpoint && equalFold(name, "x-weir-variant")
	case 15:
		if from == fromClient && equalFold(name, "x-forwarded-for") {
			if f.forwarded++; f.forwarded == 1 {
				f.firstForwarded = trim(b, colon+1, stop)
			}
			drop = true
		}
	case 16:
		if from == fromClient && equalFold(name, "x-forwarded-host") {
			f.fhost, drop = trim(b, colon+1, stop), true
		} else {
			drop = equalFold(name, "proxy-connection")
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			f.coded = f.coded || f.chunked || !equalFold(trim(b, colon+1, stop).in(b), "chunked")
			f.chunked = true
			return true, ""
		}
		if from == fromClient && equalFold(name, "x-forwarded-proto") {
			f.proto, drop = trim(b, colon+1, stop), true
		} else if from == fromClient && f.timeout == (span{}) && equalFold(name, "x-request-timeout") {
			f.timeout = trim(b, colon+1, stop)
		}
	case 18:
		drop = equalFold(name, "proxy-authenticate")
	case 19:
		drop = equalFold(name, "proxy-authorization")
	case len(xfcc):
		drop = from == fromClient && equalFold(name, xfcc)
		f.certs = f.certs || drop
	case len(orca.ResponseHeader):
		if f.takesReports && equalFold(name, orca.ResponseHeader) {
			f.load, drop = trim(b, colon+1, stop), true
		}
	case len(orca.BinaryResponseHeader):
		if f.takesReports && equalFold(name, orca.BinaryResponseHeader) {
			f.loadBinary, drop = trim(b, colon+1, stop), true
		}
	case len(orca.RequestHeader):
		f.loadFormat = f.loadFormat || equalFold(name, orca.RequestHeader)
	}
	return drop, ""
}

func (f *fields) contentLength(v []byte) problem {
	n, ok := parseLength(v)
	if !ok || f.length >= 0 {
		return badLength
	}
	f.length = n
	return ""
}

// isEvents reports whether a content type is that of server-sent events.
func isEvents(v []byte) bool {
	kind, _, _ := bytes.Cut(v, []byte(";"))
	return equalFold(bytes.TrimSpace(kind), "text/event-stream")
}

// lists reports whether word, in lower case, is in a list of them.
func lists(list []byte, word string) bool {
	for one := range bytes.SplitSeq(list, []byte(",")) {
		if equalFold(bytes.TrimSpace(one), word) {
			return true
		}
	}
	return false
}

// connection reads the options of a Connection field and notes the fields it names.
func (f *fields) connection(b []byte, v span) problem {
	for v.from < v.to {
		end := v.to
		if i := bytes.IndexByte(v.in(b), ','); i >= 0 {
			end = v.from + int32(i)
		}
		o := trim(b, int(v.from), int(end))
		v.from = end + 1
		switch opt := o.in(b); {
		case len(opt) == 0:
		case equalFold(opt, "close"):
			f.closes = true
		case equalFold(opt, "keep-alive"):
			f.keepAlive = true
		case equalFold(opt, "upgrade"):
			f.upgrades = true
		case protected(opt):
		case f.nnominated == len(f.nominated):
			return tooManyDrop
		default:
			f.nominated[f.nnominated] = o
			f.nnominated++
		}
	}
	return ""
}

// isNominated compares with the names noted by the first pass only: the second one notes them again.
func (f *fields) isNominated(b, name []byte, n int) bool {
	for _, o := range f.nominated[:n] {
		if bytes.EqualFold(o.in(b), name) {
			return true
		}
	}
	return false
}

// protected are the fields that a Connection field cannot remove: framing, routing, and what weir
// vouches for.
func protected(name []byte) bool {
	switch len(name) {
	case 4:
		return equalFold(name, "host")
	case 9:
		return equalFold(name, "x-real-ip")
	case 11:
		return equalFold(name, "traceparent")
	case 12:
		return equalFold(name, "x-request-id") || equalFold(name, "content-type")
	case 14:
		return equalFold(name, "content-length")
	case 15:
		return equalFold(name, "x-forwarded-for")
	case 16:
		return equalFold(name, "x-forwarded-host") || equalFold(name, "content-encoding")
	case 17:
		return equalFold(name, "transfer-encoding") || equalFold(name, "x-forwarded-proto")
	case len(xfcc):
		return equalFold(name, xfcc)
	}
	return false
}

// appendKept appends the lines b[at:end] that were not dropped, each ending in CRLF.
func (f *fields) appendKept(dst, b []byte, at, end int) []byte {
	if f.bare {
		return f.appendLines(dst, b, at, end)
	}
	for _, d := range f.drops[:f.ndrops] {
		dst = append(dst, b[at:d.from]...)
		at = int(d.to)
	}
	return append(dst, b[at:end]...)
}

func (f *fields) appendLines(dst, b []byte, at, end int) []byte {
	d := 0
	for at < end {
		next := at + bytes.IndexByte(b[at:end], '\n') + 1
		if d < f.ndrops && int(f.drops[d].from) == at {
			d++
		} else {
			dst = append(append(dst, bytes.TrimSuffix(b[at:next-1], []byte("\r"))...), "\r\n"...)
		}
		at = next
	}
	return dst
}

// trim is b[from:to] without the spaces and tabs around it.
func trim(b []byte, from, to int) span {
	for from < to && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	for to > from && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	return span{int32(from), int32(to)}
}

// parseLength accepts digits only: no sign, no list, nothing that two parsers read differently.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// equalFold compares ASCII letters without regard to case; s is lower case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// tokenByte marks the characters of a token (RFC 9110, 5.6.2).
var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// unsafeString is b as a string, for calls that only look at it.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unsafeBytes is s as bytes, for those who only look at them.
func unsafeBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
