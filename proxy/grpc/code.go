// Package grpc is what weir knows of gRPC: its status codes and the fields that carry them, deadlines, and the few
// messages that weir itself reads or writes. It works on bytes and links no gRPC library.
//
// The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
package grpc

// Code is how a call ended: grpc-status.
type Code uint8

// The codes (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const (
	OK Code = iota
	Cancelled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// Codes is how many there are.
const Codes = int(Unauthenticated) + 1

var names = [Codes]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String returns the name, as in RESOURCE_EXHAUSTED.
func (c Code) String() string { return names[c] }

// Named returns the code of a name; false where there is none.
func Named(name string) (Code, bool) {
	for c, n := range names {
		if n == name {
			return Code(c), true
		}
	}
	return Unknown, false
}

// Parse reads the value of grpc-status. What is none is Unknown, and so is a code that gRPC does not have.
func Parse(v []byte) Code {
	if len(v) == 0 || len(v) > 2 {
		return Unknown
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return Unknown
		}
		n = n*10 + int(c-'0')
	}
	if n >= Codes {
		return Unknown
	}
	return Code(n)
}

// Fault reports whether a server that ends a call so has failed, as one has that answers with a 5xx. Others say
// something of the call: whoever makes it could choose them. So can who calls a method that there is not, whence
// Unimplemented, which many map to 501, is none.
func (c Code) Fault() bool {
	switch c {
	case Unknown, DeadlineExceeded, Internal, Unavailable, DataLoss:
		return true
	}
	return false
}

// FromHTTP is what clients take an answer without grpc-status for
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func FromHTTP(status int) Code {
	switch status {
	case 400:
		return Internal
	case 401:
		return Unauthenticated
	case 403:
		return PermissionDenied
	case 404:
		return Unimplemented
	case 429, 502, 503, 504:
		return Unavailable
	}
	return Unknown
}

// IsContentType reports whether v is the Content-Type of gRPC: application/grpc, with or without +proto, +json and
// the like. gRPC-Web is another protocol.
func IsContentType(v []byte) bool {
	const kind = "application/grpc"
	if len(v) < len(kind) {
		return false
	}
	for i := range len(kind) {
		c := v[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != kind[i] {
			return false
		}
	}
	if len(v) == len(kind) {
		return true
	}
	switch v[len(kind)] {
	case '+', ';', ' ', '\t':
		return true
	}
	return false
}
