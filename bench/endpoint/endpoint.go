// Package endpoint is the server that proxies are compared before: it answers every request at
// once with a body of a fixed length, and costs as little as an honest HTTP server can, because
// it shares a processor with the load generator and must never be what limits a proxy.
//
// It reads heads and bodies to their end and speaks HTTP/1.1 with kept connections and
// Content-Length, and on Linux HTTP/2 by prior knowledge, over which it answers gRPC with one message
// and the trailers. A request's target may ask for a length, "?size=1048576". On Linux it may also ask for
// an endless stream, "?every=20ms": of server-sent events, or of messages of gRPC, whose first
// StampLen bytes tell when they were sent.
package endpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// Bounds of what is answered and taken.
const (
	MaxSize = 1 << 30 // bytes of an answer's body
	maxHead = 16 << 10
	// MinEvery and MaxEvery bound the time between two events.
	MinEvery, MaxEvery = time.Millisecond, time.Hour
	// StampLen is the length of the moment in an event: nanoseconds since 1970, in decimal.
	StampLen = 19
)

// Listen listens on every address, HOST:PORT. On an error nothing is left open.
func Listen(addresses []string) ([]*net.TCPListener, error) {
	var all []*net.TCPListener
	for _, address := range addresses {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, ln.(*net.TCPListener))
	}
	return all, nil
}

func closeAll(listeners []*net.TCPListener) {
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

// Serve answers on the listeners, which it closes, with size bytes where the request asks for no
// other length. It returns nil when ctx is done.
func Serve(ctx context.Context, listeners []*net.TCPListener, size int) error {
	if size < 0 || size > MaxSize {
		closeAll(listeners)
		return fmt.Errorf("size %d: must be 0 to %d", size, MaxSize)
	}
	return serve(ctx, listeners, answers{size: size, known: map[int][]byte{}, messages: map[int][]byte{}})
}

// answers are made once for each length. It is not safe for concurrent use.
type answers struct {
	size            int
	known, messages map[int][]byte
}

// of returns the whole answer to a request.
func (a *answers) of(r *request) []byte {
	answer := a.with(r.size)
	if !r.last {
		return answer
	}
	line, rest, _ := bytes.Cut(answer, []byte("\r\n"))
	return slices.Concat(line, []byte("\r\nConnection: close\r\n"), rest)
}

// with returns the whole answer with that length; negative for the usual one.
func (a *answers) with(size int) []byte {
	if size < 0 {
		size = a.size
	}
	answer, ok := a.known[size]
	if !ok {
		answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
		answer = append(answer, bytes.Repeat([]byte("x"), size)...)
		a.known[size] = answer
	}
	return answer
}

// body returns the body of an answer.
func (a *answers) body(size int) []byte {
	answer := a.with(size)
	_, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	return body
}

// message returns a message of gRPC with that length, behind its prefix.
func (a *answers) message(size int) []byte {
	if size < 0 {
		size = a.size
	}
	message, ok := a.messages[size]
	if !ok {
		message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)), bytes.Repeat([]byte("x"), size)...)
		a.messages[size] = message
	}
	return message
}

// request is what matters of a request's head.
type request struct {
	body int64 // its length
	size int   // of the answer that it asks for; -1 when it does not
	last bool  // the client sends no other on the connection
	// every is the time between two events of an endless answer; 0 for an ordinary one.
	every time.Duration
}

// errHead says that a head is none that is served here.
var errHead = errors.New("a head that is not served")

// parse reads the head at the start of b and returns its length, 0 while it is incomplete.
func parse(b []byte) (r request, n int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= maxHead {
			return r, 0, errHead
		}
		return r, 0, nil
	}
	line, fields, _ := bytes.Cut(b[:end+2], []byte("\r\n"))
	target, ok := bytes.CutSuffix(line, []byte(" HTTP/1.1"))
	if !ok {
		return r, 0, errHead
	}
	if err := r.target(target); err != nil {
		return r, 0, err
	}
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		if err := r.field(line); err != nil {
			return r, 0, err
		}
	}
	return r, end + 4, nil
}

// target takes what a target asks for.
func (r *request) target(target []byte) (err error) {
	r.size = -1
	_, query, _ := bytes.Cut(target, []byte("?"))
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		name, value, _ := bytes.Cut(pair, []byte("="))
		switch string(name) {
		case "size":
			if r.size, err = strconv.Atoi(string(value)); err != nil || r.size < 0 || r.size > MaxSize {
				return errHead
			}
		case "every":
			if r.every, err = time.ParseDuration(string(value)); err != nil || r.every < MinEvery || r.every > MaxEvery {
				return errHead
			}
		}
	}
	return nil
}

// field takes what matters of one field. The length sorts out most of them.
func (r *request) field(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	switch colon {
	case -1:
		return errHead
	case len("Content-Length"):
		if bytes.EqualFold(line[:colon], []byte("Content-Length")) {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(line[colon+1:])), 10, 64)
			if err != nil || n < 0 {
				return errHead
			}
			r.body = n
		}
	case len("Connection"):
		if bytes.EqualFold(line[:colon], []byte("Connection")) {
			r.last = bytes.EqualFold(bytes.TrimSpace(line[colon+1:]), []byte("close"))
		}
	case len("Transfer-Encoding"):
		if bytes.EqualFold(line[:colon], []byte("Transfer-Encoding")) {
			return errHead
		}
	}
	return nil
}

// refusal is the answer to what parse cannot take.
const refusal = "HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
