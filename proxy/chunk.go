package proxy

import (
	"bytes"
	"strconv"
)

// chunkScanner follows the chunked framing of an answer while its bytes pass by (RFC 9112, 7.1). It
// is strict: sizes are hex digits, lines end in CRLF, nothing stands between data and CRLF. What it
// lets pass no two parsers can read differently.
type chunkScanner struct {
	// unwrap takes the framing away and leaves the data, for clients that do not know chunks.
	unwrap bool

	state  chunkState
	left   uint64 // of the chunk's data
	digits int
	line   int // bytes of the present size line or of all trailers
	data   int64
	// takesReports keeps reports of load from who gets the trailers: they are in reports.
	takesReports bool
	reports      []byte
	trailers     []byte // lines that may go on, each with its CRLF
	field        []byte // the trailer line being read
	rest         int    // bytes behind the end of the body: they belong to nobody
}

type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	wantSizeLF
	inData
	wantDataCR
	wantDataLF
	inTrailer
)

// maxChunkLine bounds a size line with its extensions, and the trailer section, in bytes.
const maxChunkLine = 16 << 10

// scan takes the next bytes of the body. b[:n] is then what goes to the client: the body as it came
// up to the trailer section, without chunk extensions, or, unwrapped, the data alone. done: the body
// is over; ok: its framing is right so far.
func (s *chunkScanner) scan(b []byte) (n int, done, ok bool) {
	for i := 0; i < len(b); {
		switch s.state {
		case inData:
			k := int(min(uint64(len(b)-i), s.left))
			if n != i {
				copy(b[n:], b[i:i+k])
			}
			n += k
			i += k
			s.data += int64(k)
			if s.left -= uint64(k); s.left == 0 {
				s.state = wantDataCR
			}
		case inTrailer:
			used, end, ok := s.trailer(b[i:])
			if end {
				s.rest = len(b) - i - used
			}
			return n, end, ok
		default:
			c := b[i]
			i++
			extension := s.state == inExtension || c == ';'
			if !s.step(c) {
				return n, false, false
			}
			if !s.unwrap && (!extension || s.state == wantSizeLF) {
				b[n] = c
				n++
			}
		}
	}
	return n, false, true
}

// step takes one byte of a size line or of the CRLF behind data.
func (s *chunkScanner) step(c byte) bool {
	switch s.state {
	case inSize:
		return s.size(c)
	case inExtension:
		if s.line++; s.line > maxChunkLine || c == '\n' || c == 0 {
			return false
		}
		if c == '\r' {
			s.state = wantSizeLF
		}
		return true
	case wantSizeLF:
		if c != '\n' {
			return false
		}
		s.digits, s.line, s.state = 0, 0, inData
		if s.left == 0 {
			s.state = inTrailer
		}
		return true
	case wantDataCR:
		s.state = wantDataLF
		return c == '\r'
	case wantDataLF:
		s.state = inSize
		return c == '\n'
	}
	return false
}

func (s *chunkScanner) size(c byte) bool {
	if d := unhex(c); d >= 0 {
		if s.digits++; s.digits > 15 {
			return false
		}
		if s.digits == 1 {
			s.left = 0
		}
		s.left = s.left<<4 | uint64(d)
		return true
	}
	if s.digits == 0 {
		return false
	}
	switch c {
	case '\r':
		s.state = wantSizeLF
	case ';':
		s.state = inExtension
	default:
		return false
	}
	return true
}

// trailer takes bytes of the trailer section up to the empty line that ends it.
func (s *chunkScanner) trailer(b []byte) (used int, end, ok bool) {
	for used < len(b) {
		part := b[used:]
		nl := bytes.IndexByte(part, '\n')
		if nl >= 0 {
			part = part[:nl+1]
		}
		used += len(part)
		if s.line += len(part); s.line > maxChunkLine {
			return used, false, false
		}
		s.field = append(s.field, part...)
		if nl < 0 {
			return used, false, true
		}
		line := s.field
		s.field = s.field[:0]
		if len(line) < 2 || line[len(line)-2] != '\r' {
			return used, false, false
		}
		if len(line) == 2 {
			return used, true, true
		}
		if !s.keepTrailer(line) {
			return used, false, false
		}
	}
	return used, false, true
}

// keepTrailer keeps a trailer line, unless it is one that must not be a trailer (RFC 9110, 6.5.1):
// framing, routing and what weir itself answers for.
func (s *chunkScanner) keepTrailer(line []byte) bool {
	colon := 0
	for colon < len(line) && tokenByte[line[colon]] {
		colon++
	}
	if colon == 0 || line[colon] != ':' || controls(line[:len(line)-2]) {
		return false
	}
	name := line[:colon]
	if protected(name) || equalFold(name, "trailer") || equalFold(name, "connection") || equalFold(name, "x-weir-variant") {
		return true
	}
	if s.takesReports && isReport(name) {
		s.reports = append(s.reports, line...)
		return true
	}
	s.trailers = append(s.trailers, line...)
	return true
}

// A chunk's size stands in front of its data in the same buffer: room for 8 hex digits and CRLF, and
// behind the data for CRLF and the last chunk.
const (
	chunkLead = 10
	chunkTail = 2 + 5
)

// frameChunk makes a chunk of the n bytes at b[chunkLead:]; it starts somewhere in the lead, so the
// size needs no padding.
func frameChunk(b []byte, n int) []byte {
	var size [8]byte
	digits := strconv.AppendUint(size[:0], uint64(n), 16)
	from := chunkLead - 2 - len(digits)
	copy(b[from:], digits)
	copy(b[chunkLead-2:], "\r\n")
	copy(b[chunkLead+n:], "\r\n")
	return b[from : chunkLead+n+2]
}

// appendChunk appends data as a chunk; none where there is no data, which would be the last one.
func appendChunk(b, data []byte) []byte {
	if len(data) == 0 {
		return b
	}
	b = append(strconv.AppendInt(b, int64(len(data)), 16), "\r\n"...)
	return append(append(b, data...), "\r\n"...)
}
