package h2

import (
	"bytes"
	"errors"
	"fmt"
)

// outgoing is text on its way to a stream: a request, or an answer.
type outgoing struct {
	state   outState
	left    int64  // of a sized body, or of the chunk
	digits  int    // of the size line
	trailer []byte // lines, as far as they have come
}

type outState uint8

const (
	outHead  outState = iota
	outSized          // body
	outSize           // line of a chunk
	outExtension
	outSizeLF
	outChunk
	outChunkCR
	outChunkLF
	outTrailer
	outDone
)

// maxTrailer bounds the trailers that are sent, in bytes.
const maxTrailer = 16 << 10

// again is o for the next text, with its memory.
func (o *outgoing) again() outgoing { return outgoing{trailer: o.trailer[:0]} }

// headEnd is the length of the head that text begins with. Heads come whole.
func headEnd(p []byte) (int, error) {
	n := bytes.Index(p, []byte("\r\n\r\n"))
	if n < 0 {
		return 0, errors.New("a head that is not whole")
	}
	return n + len("\r\n\r\n"), nil
}

// begin: the head was sent, and says how the body is framed.
func (o *outgoing) begin(body Body) {
	switch {
	case body == Chunked:
		o.state = outSize
	case body > 0:
		o.state, o.left = outSized, int64(body)
	default:
		o.state = outDone
	}
}

// lastChunk is what follows the data of a last chunk where there are no trailers.
const lastChunk = "\r\n0\r\n\r\n"

// body takes what comes next behind the head; 0 where it cannot be sent now.
func (o *outgoing) body(p []byte, s *Stream, l *List) (int, error) {
	switch o.state {
	case outSized:
		k := int(min(int64(len(p)), o.left))
		k = s.WriteData(p[:k], int64(k) == o.left)
		if o.left -= int64(k); o.left == 0 {
			o.state = outDone
		}
		return k, nil
	case outChunk:
		return o.writeChunk(p, s), nil
	case outTrailer:
		return o.writeTrailer(p, s, l)
	}
	return 1, o.framing(p[0])
}

// writeChunk takes data of a chunk. With the last of it goes the end of the stream, if that is there.
func (o *outgoing) writeChunk(p []byte, s *Stream) int {
	n := int(min(int64(len(p)), o.left))
	last := int64(n) == o.left && string(p[n:]) == lastChunk
	k := s.WriteData(p[:n], last)
	if o.left -= int64(k); o.left > 0 {
		return k
	}
	if last {
		o.state = outDone
		return k + len(lastChunk)
	}
	o.state = outChunkCR
	return k
}

// framing takes a byte of a size line, or of the end of a chunk.
func (o *outgoing) framing(b byte) error {
	switch {
	case o.state == outSize && b == ';' && o.digits > 0, o.state == outExtension && b != '\r' && b != '\n':
		o.state = outExtension
		return nil
	case o.state == outSize && b == '\r' && o.digits > 0, o.state == outExtension && b == '\r':
		o.state, o.digits = outSizeLF, 0
		return nil
	case o.state == outSize && hex(b) >= 0 && o.digits < 15:
		o.left = o.left<<4 | int64(hex(b))
		o.digits++
		return nil
	case o.state == outSizeLF && b == '\n':
		if o.state = outChunk; o.left == 0 {
			o.state = outTrailer
		}
		return nil
	case o.state == outChunkCR && b == '\r':
		o.state = outChunkLF
		return nil
	case o.state == outChunkLF && b == '\n':
		o.state = outSize
		return nil
	}
	return fmt.Errorf("byte %q where a chunk's size or end was due", b)
}

func hex(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// writeTrailer takes a line of the trailers, or a part of one. The empty one ends it.
func (o *outgoing) writeTrailer(p []byte, s *Stream, l *List) (int, error) {
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		n = len(p)
	}
	from := bytes.LastIndexByte(o.trailer, '\n') + 1
	if o.trailer = append(o.trailer, p[:n]...); len(o.trailer) > maxTrailer {
		return n, fmt.Errorf("trailers of more than %d bytes", maxTrailer)
	}
	if string(o.trailer[from:]) != "\r\n" {
		return n, nil
	}
	o.state = outDone
	if err := l.Trailers(o.trailer[:from]); err != nil {
		return n, err
	}
	if len(l.Fields) == 0 {
		s.WriteData(nil, true)
		return n, nil
	}
	s.WriteHeaders(l.Fields, true)
	return n, nil
}
