package bench

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxKept is how much of an answer's body a target gets to see, in bytes.
const MaxKept = 64 << 10

// Response is an answer as a [Target] judges it. Slices are valid until the next request on the
// same connection.
type Response struct {
	Status  int
	Variant []byte // of X-Weir-Variant
	Body    []byte // the first MaxKept bytes
	// InferHeader is the length of the JSON at the start of a binary tensor body
	// (Inference-Header-Content-Length); 0 when the whole body is JSON.
	InferHeader int
	// GRPC is the grpc-status of an answer over HTTP/2; NoGRPC when there was none.
	GRPC int
	// Bytes is the length of the whole answer, head and framing included.
	Bytes int64

	framing framing
}

// NoGRPC is the [Response].GRPC of an answer without grpc-status.
const NoGRPC = -1

// framing is how the end of an answer is found.
type framing struct {
	length  int64 // of Content-Length; -1 when absent
	chunked bool
	close   bool // the server will not take another request
}

// parseHead fills r from an answer's head: the status line and fields, each ended by CRLF,
// without the empty line.
func (r *Response) parseHead(head []byte) error {
	line, rest, _ := bytes.Cut(head, crlf)
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return fmt.Errorf("%w: status line %.60q", errProtocol, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 100 || status > 999 {
		return fmt.Errorf("%w: status line %.60q", errProtocol, line)
	}
	*r = Response{Status: status, GRPC: NoGRPC, framing: framing{length: -1, close: line[7] == '0'}}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, crlf)
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			return fmt.Errorf("%w: field line %.60q has no colon", errProtocol, line)
		}
		if err := r.field(name, bytes.TrimSpace(value)); err != nil {
			return err
		}
	}
	if r.framing.chunked {
		r.framing.length = -1
	}
	return nil
}

// field takes what matters of one field. The switch on the length keeps the comparisons few.
func (r *Response) field(name, value []byte) error {
	switch len(name) {
	case len("Connection"):
		if fieldIs(name, "Connection") && fieldIs(value, "close") {
			r.framing.close = true
		}
	case len("Content-Length"): // and X-Weir-Variant, of the same length
		if fieldIs(name, "X-Weir-Variant") {
			r.Variant = value
			return nil
		}
		if !fieldIs(name, "Content-Length") {
			return nil
		}
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 || r.framing.length >= 0 && r.framing.length != n {
			return fmt.Errorf("%w: Content-Length %.40q", errProtocol, value)
		}
		r.framing.length = n
	case len("Transfer-Encoding"):
		if fieldIs(name, "Transfer-Encoding") {
			if !fieldIs(value, "chunked") {
				return fmt.Errorf("%w: Transfer-Encoding %.40q, only chunked is understood", errProtocol, value)
			}
			r.framing.chunked = true
		}
	case len("Inference-Header-Content-Length"):
		if fieldIs(name, "Inference-Header-Content-Length") {
			n, err := strconv.Atoi(string(value))
			if err != nil || n < 0 {
				return fmt.Errorf("%w: Inference-Header-Content-Length %.40q", errProtocol, value)
			}
			r.InferHeader = n
		}
	}
	return nil
}

var crlf = []byte("\r\n")

func fieldIs(b []byte, s string) bool {
	return len(b) == len(s) && bytes.EqualFold(b, []byte(s))
}

// bodyless reports whether an answer with this status never has a body (RFC 9110, 6.4.1).
func bodyless(status int) bool { return status < 200 || status == 204 || status == 304 }
