// Package h2 is HTTP/2 (RFC 9113) without input and output: a Conn is given the bytes that came and says what they
// mean; it is told what to send and yields the bytes. It has no goroutines, timers or sockets and is not safe for
// concurrent use: its owner is one loop, or has a lock. Both roles are here, and (text.go) the conversions between
// the field lists of HTTP/2 and the heads of HTTP/1.1.
//
// What a peer can make a Conn hold is bounded: a part of a frame, a field block, 64 KiB of DATA to be sent and the
// answers to its own frames. What it can make a Conn do is bounded by a budget (budget.go).
package h2

import (
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// Field is one field of a list. A Sensitive one is never put into a compression table, by nobody on its way.
type Field = hpack.HeaderField

// Code is an error code (RFC 9113, 7).
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

var codeNames = [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}

// String is the code's name as the RFC writes it, or its number in hexadecimal.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("%#x", uint32(c))
}

// Error is why a connection is over.
type Error struct {
	Code   Code
	Reason string // what was found, and what would have been right
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Reason }

// Settings are what this side allows the other.
type Settings struct {
	MaxStreams uint32 // that the peer may have open at once; 0: 100. Only a server's count
	MaxHeader  int    // bytes of a head or of trailers as SETTINGS_MAX_HEADER_LIST_SIZE counts them; 0: 16 KiB
	Window     int32  // bytes that the peer may send on a stream before they are consumed; 0: 65,535
	ConnWindow int32  // and on all streams together; at least 65,535, which is also the default
	// Unread is how many bytes more than ConnWindow may wait to be consumed. As long as they do, the peer may still
	// send ConnWindow on other streams: who does not read his own does not hold up theirs.
	Unread int64
	// Grown is what the window of a stream grows to once half of Window was consumed: its owner reads. It does for as
	// many streams as Unread has room for beside a Window for each of MaxStreams. 0: it stays.
	Grown int32
}

// Events is what a Conn tells its owner, during Receive, Sent and Close, and at no other time. Implementations may
// call all methods but those three.
type Events interface {
	// Headers: a head or trailers have come. On a server the first of a stream begins it, a second are its trailers.
	// On a client interim heads (:status 1xx) come before the head. Trailers have no pseudo-fields. The list is valid
	// until Headers returns, the strings in it for ever. end: nothing more comes on the stream.
	//
	// Their content is the owner's to judge (AppendRequest, AppendResponse, AppendTrailers): where they refuse it,
	// the answer is Reset(ProtocolError). With s.TooLarge fields is empty or only the beginning of the list.
	Headers(s *Stream, fields []Field, end bool)
	// Data: p has come; it is valid until Data returns. Consumed opens the windows again. p may be empty where end is
	// set.
	Data(s *Stream, p []byte, end bool)
	// Closed: the stream ended otherwise than by an end of both sides or a Reset of the owner's. unprocessed: the peer
	// has not acted upon it (REFUSED_STREAM, or beyond the last stream of a GOAWAY), so that the request may be sent
	// again whatever it is. A server may reset a stream with NO_ERROR behind a whole answer: it does not want the
	// rest of the request.
	Closed(s *Stream, code Code, unprocessed bool)
	// Writable: a stream whose WriteData took less than it was given may send more. It may come for nothing.
	Writable(s *Stream)
}

const (
	defaultWindow    = 65535
	defaultMaxFrame  = 16384
	defaultTableSize = 4096
	defaultStreams   = 100
	defaultMaxHeader = 16 << 10
	maxWindow        = 1<<31 - 1
	maxStreamID      = 1<<31 - 1
)

// Preface is what a client sends before its first frame.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
