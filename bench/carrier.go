package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// carrier is what a worker sends its requests over, one at a time: a connection of HTTP/1.1, or a
// stream of a connection of HTTP/2 that it shares with others.
type carrier interface {
	// roundTrip writes one request and reads its answer into r; noBody says that the method was
	// HEAD. After an error, or when reusable returns false, the carrier is of no further use.
	roundTrip(request []byte, noBody bool, r *Response) error
	// reusable reports whether another request may follow r.
	reusable(r *Response) bool
	// stale reports whether the carrier, idle for so long, must not be used again.
	stale(idle time.Duration) bool
	SetDeadline(t time.Time) error
	Close() error
}

// errNotSent says that a request could not be sent, and may be sent elsewhere.
var errNotSent = errors.New("the connection takes no more requests")

// dialer opens connections.
type dialer struct {
	address string      // HOST:PORT
	tls     *tls.Config // nil: none
	http2   bool
}

// dial connects, and shakes hands where there is TLS.
func (d *dialer) dial(ctx context.Context, deadline time.Time) (net.Conn, error) {
	n := net.Dialer{Deadline: deadline}
	c, err := n.DialContext(ctx, "tcp", d.address)
	if err != nil || d.tls == nil {
		return c, err
	}
	config := d.tls.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(d.address)
	}
	config.NextProtos = []string{"http/1.1"}
	if d.http2 {
		config.NextProtos = []string{"h2"}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if got := secure.ConnectionState().NegotiatedProtocol; d.http2 && got != "h2" {
		_ = c.Close()
		return nil, fmt.Errorf("TLS: the server does not offer h2 by ALPN, it chose %q", got)
	}
	return secure, nil
}

// shared is a connection of HTTP/2 that several workers use; a new one when it has ended.
type shared struct {
	dialer  *dialer
	streams int // that it must carry at once

	mu   sync.Mutex // guards the rest, and dialing
	conn *h2conn    // nil before the first
}

// stream returns a carrier over the connection. opened says that it had to be made.
func (s *shared) stream(ctx context.Context, deadline time.Time) (_ *stream, opened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.conn.over() {
		c, err := dialH2(ctx, s.dialer, deadline, s.streams)
		if err != nil {
			return nil, false, err
		}
		s.conn, opened = c, true
	}
	return newStream(s.conn), opened, nil
}

// hurry ends the connection by last.
func (s *shared) hurry(last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.SetDeadline(last)
	}
}

func (s *shared) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.shut()
	}
}
