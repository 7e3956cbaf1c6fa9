package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

// stream is a carrier over a shared connection: each request has a stream of HTTP/2 of its own, one
// at a time.
type stream struct {
	c     *h2conn
	done  chan error    // what became of the request, told once
	room  chan struct{} // more of the request may be sent
	timer *time.Timer

	// Guarded by c.mu while the request is under way.
	id       uint32
	sent     bool  // the whole request
	window   int64 // bytes of DATA that may be sent
	unseen   uint32
	noBody   bool
	response Response
	got      int64 // bytes of the body
	heads    int   // final heads and trailers that came
	bad      error
	variant  []byte
	kept     []byte
}

func newStream(c *h2conn) *stream {
	s := &stream{c: c, done: make(chan error, 1), room: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	s.timer.Stop()
	return s
}

// SetDeadline ends the request under way, or the next one, at t. It may be called from any goroutine.
func (s *stream) SetDeadline(t time.Time) error {
	s.timer.Reset(time.Until(t))
	return nil
}

// Close gives the request up that is under way.
func (s *stream) Close() error {
	s.timer.Stop()
	c := s.c
	c.mu.Lock()
	if c.streams[s.id] != s {
		c.mu.Unlock()
		return nil
	}
	delete(c.streams, s.id)
	c.out = frame.AppendNumber(c.out, http2.FrameRSTStream, s.id, uint32(http2.ErrCodeCancel))
	c.flush()
	return nil
}

func (s *stream) stale(time.Duration) bool { return s.c.over() }

func (s *stream) reusable(*Response) bool { return !s.c.over() }

// roundTrip implements [carrier].
func (s *stream) roundTrip(request []byte, noBody bool, r *Response) error {
	*r = Response{GRPC: NoGRPC}
	head, body, ok := bytes.Cut(request, []byte("\r\n\r\n"))
	if !ok {
		return fmt.Errorf("%w: a request without an end of its head", errProtocol)
	}
	if err := s.send(head, body, noBody); err != nil {
		return err
	}
	err := s.wait()
	s.timer.Stop()
	*r = s.response
	return err
}

// send opens a stream and sends as much of the request as may be sent at once.
func (s *stream) send(head, body []byte, noBody bool) error {
	c := s.c
	c.mu.Lock()
	if c.leaving || c.err != nil || c.nextID > maxStreamID-2 {
		c.leaving = true
		c.mu.Unlock()
		return errNotSent
	}
	block, err := c.fields.encode(head)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	s.id, s.sent, s.window, s.unseen, s.noBody = c.nextID, len(body) == 0, c.initial, 0, noBody
	s.response, s.got, s.heads, s.bad = Response{GRPC: NoGRPC, framing: framing{length: -1}}, 0, 0, nil
	c.nextID += 2
	c.streams[s.id] = s
	c.out = frame.AppendHeaders(c.out, s.id, block, s.sent)
	for {
		body = s.appendData(body)
		c.flush()
		if len(body) == 0 {
			return nil
		}
		select {
		case <-s.room:
		case err := <-s.done:
			s.done <- err // the answer came first
			return nil
		case <-s.timer.C:
			return os.ErrDeadlineExceeded
		}
		c.mu.Lock()
		if c.streams[s.id] != s {
			c.mu.Unlock()
			return nil
		}
	}
}

// appendData appends what the windows allow of a body and returns the rest. c.mu is held.
func (s *stream) appendData(body []byte) []byte {
	c := s.c
	for len(body) > 0 {
		n := min(int64(len(body)), s.window, c.window, frame.MaxPayload)
		if n <= 0 {
			break
		}
		flags := http2.Flags(0)
		if int(n) == len(body) {
			flags, s.sent = http2.FlagDataEndStream, true
		}
		c.out = frame.Append(c.out, http2.FrameData, flags, s.id, body[:n])
		s.window -= n
		c.window -= n
		body = body[n:]
	}
	return body
}

// wake lets a request that waits for a window go on. c.mu is held.
func (s *stream) wake() {
	if s.sent {
		return
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// wait waits for what becomes of the request.
func (s *stream) wait() error {
	select {
	case err := <-s.done:
		return err
	case <-s.timer.C:
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.streams[s.id] != s {
		return <-s.done // it came at the last moment
	}
	return os.ErrDeadlineExceeded // Close gives the stream up
}

// begin is called before the fields of a head or of trailers.
func (s *stream) begin() {
	if s.heads == 0 {
		s.response.Status = 0
	}
}

// field takes what matters of one field.
func (s *stream) field(f hpack.HeaderField) {
	r := &s.response
	switch f.Name {
	case ":status":
		n, err := strconv.Atoi(f.Value)
		if err != nil || n < 100 || n > 999 || s.heads > 0 {
			s.bad = fmt.Errorf("%w: :status %.40q", errProtocol, f.Value)
		}
		r.Status = n
	case "x-weir-variant":
		s.variant = append(s.variant[:0], f.Value...)
		r.Variant = s.variant
	case "content-length":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || n < 0 {
			s.bad = fmt.Errorf("%w: content-length %.40q", errProtocol, f.Value)
		}
		r.framing.length = n
	case "inference-header-content-length":
		n, err := strconv.Atoi(f.Value)
		if err != nil || n < 0 {
			s.bad = fmt.Errorf("%w: Inference-Header-Content-Length %.40q", errProtocol, f.Value)
		}
		r.InferHeader = n
	case "grpc-status":
		n, err := strconv.Atoi(f.Value)
		if err != nil || n < 0 {
			s.bad = fmt.Errorf("%w: grpc-status %.40q", errProtocol, f.Value)
		}
		r.GRPC = n
	}
}

// headers is called after the fields of a head or of trailers.
func (s *stream) headers(end bool) error {
	switch status := s.response.Status; {
	case s.bad != nil:
		return s.bad
	case s.heads > 0 && !end:
		return fmt.Errorf("%w: trailers that do not end the stream", errProtocol)
	case status == 0:
		return fmt.Errorf("%w: a head without :status", errProtocol)
	case status == 101 || status < 200 && end:
		return fmt.Errorf("%w: %d as an answer", errProtocol, status)
	case status < 200:
		return nil // the answer is still to come
	}
	s.heads++
	return nil
}

// data takes a part of the body.
func (s *stream) data(p []byte) error {
	if s.heads == 0 {
		return fmt.Errorf("%w: DATA before a head", errProtocol)
	}
	if s.got == 0 {
		s.kept = s.kept[:0]
	}
	s.got += int64(len(p))
	s.kept = append(s.kept, p[:min(len(p), MaxKept-len(s.kept))]...)
	s.response.Body = s.kept
	return nil
}

// check says whether a whole answer is as long as it says.
func (s *stream) check() error {
	n := s.response.framing.length
	if n < 0 || n == s.got || s.noBody || bodyless(s.response.Status) {
		return nil
	}
	return fmt.Errorf("%w: %d bytes of a body of %d", errProtocol, s.got, n)
}
