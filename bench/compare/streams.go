package compare

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"weir/bench"
	"weir/bench/endpoint"
	"weir/bench/frame"
)

// streams are endless streams of events, which tell when they were sent.
type streams struct {
	began time.Time
	conns []*streamConn

	mu    sync.Mutex
	tally *bench.Tally
}

// streamConn is a connection with one stream of HTTP/1.1, or several of HTTP/2.
type streamConn struct {
	net.Conn
	h2   *h2client         // nil for HTTP/1.1
	read []byte            // of HTTP/1.1, and not yet understood
	rest map[uint32][]byte // of messages, by stream of HTTP/2
	head bool              // that of HTTP/1.1 was read
	seen int               // events
}

const streamBuffer = 2 << 10 // for HTTP/1.1

// openStreams opens the streams of a workload, and fills m with the memory that each takes where that is asked for.
func (f *field) openStreams(ctx context.Context, m *Measurement, p *peer, w *Workload) (load, error) {
	if err := p.note(); err != nil {
		return nil, err
	}
	s := &streams{began: time.Now(), tally: bench.NewTally(0), conns: make([]*streamConn, w.Connections)}
	errs := make([]error, idleOpeners)
	var opening sync.WaitGroup
	for i := range idleOpeners {
		opening.Go(func() {
			for j := i; j < len(s.conns) && errs[i] == nil && ctx.Err() == nil; j += idleOpeners {
				s.conns[j], errs[i] = f.openStream(p.address, w)
				if errs[i] == nil {
					errs[i] = s.begin(s.conns[j], w.streams())
				}
			}
		})
	}
	opening.Wait()
	err := errors.Join(append(errs, ctx.Err())...)
	if err == nil && w.Memory {
		err = f.grown(ctx, m, p, w.Connections*w.streams())
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open streams: %w", err)
	}
	return s, nil
}

// openStream opens a connection with its streams.
func (f *field) openStream(address string, w *Workload) (*streamConn, error) {
	nc, err := f.connect(address, w)
	if err != nil {
		return nil, err
	}
	c := newStreamConn(nc, w.HTTP2)
	query := fmt.Sprintf("?every=%v&size=%d", w.Every, w.ResponseBody)
	if !w.HTTP2 {
		_, err = fmt.Fprintf(c, "GET /predict%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", query, address)
		return c, err
	}
	for range w.streams() {
		c.h2.post(w, address, grpcService+"/Watch"+query, make([]byte, 5))
	}
	return c, c.h2.flush()
}

func newStreamConn(c net.Conn, h2 bool) *streamConn {
	if h2 {
		return &streamConn{Conn: c, h2: newH2client(c), rest: map[uint32][]byte{}}
	}
	return &streamConn{Conn: c, read: make([]byte, 0, streamBuffer)}
}

// begin reads until the streams of a connection, of which there are n, may all have had an event.
func (s *streams) begin(c *streamConn, n int) error {
	_ = c.SetDeadline(time.Now().Add(idleTimeout)) // an open connection takes a deadline
	for c.seen < n {
		if err := s.step(c); err != nil {
			return err
		}
	}
	return c.SetDeadline(time.Time{})
}

// Run reads the events until ctx is done.
func (s *streams) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	failed := make(chan error, len(s.conns))
	for _, c := range s.conns {
		go func() { failed <- s.follow(c) }()
	}
	var first error
	for range s.conns {
		if err := <-failed; err != nil && ctx.Err() == nil && first == nil {
			first = fmt.Errorf("a stream ended: %w", err)
			s.close() // and so the others do
		}
	}
	return first
}

func (s *streams) close() {
	for _, c := range s.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Take implements [load].
func (s *streams) Take() *bench.Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally
	s.tally = bench.NewTally(0)
	return t
}

// follow reads a connection until it ends.
func (s *streams) follow(c *streamConn) error {
	for {
		if err := s.step(c); err != nil {
			return err
		}
	}
}

// step reads a connection once.
func (s *streams) step(c *streamConn) error {
	if c.h2 != nil {
		return c.h2.read(func(f frame.Frame) error { return s.messages(c, f) })
	}
	n, err := c.Conn.Read(c.read[len(c.read):cap(c.read)])
	if err != nil {
		return err
	}
	c.read = c.read[:len(c.read)+n]
	if !c.head {
		err = c.takeHead()
	}
	if c.head {
		s.events(c)
	}
	if err == nil && len(c.read) == cap(c.read) {
		err = fmt.Errorf("an event of more than %d bytes: %.40q", cap(c.read), c.read)
	}
	return err
}

// takeHead takes the head of an answer, once it is complete.
func (c *streamConn) takeHead() error {
	head, _, ok := bytes.Cut(c.read, []byte("\r\n\r\n"))
	if ok && !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("an answer that begins with %.40q", head)
	}
	c.head = ok
	return nil
}

// eventBegin stands before the moment of an event.
var eventBegin = []byte("data: ")

// events counts the events in what was read. Their framing by chunks, which a proxy may change, is passed over.
func (s *streams) events(c *streamConn) {
	rest := c.read
	for {
		i := bytes.Index(rest, eventBegin)
		if i < 0 || len(rest) < i+len(eventBegin)+endpoint.StampLen {
			break
		}
		rest = rest[i+len(eventBegin):]
		s.count(c, rest[:endpoint.StampLen])
		rest = rest[endpoint.StampLen:]
	}
	if !bytes.Contains(rest, eventBegin) && len(rest) >= len(eventBegin) {
		rest = rest[len(rest)-len(eventBegin)+1:] // of which the next event may begin
	}
	c.read = c.read[:copy(c.read, rest)]
}

// messages counts the events in a frame. Where one ends is the proxy's choice.
func (s *streams) messages(c *streamConn, f frame.Frame) error {
	const prefix = 5
	switch {
	case f.Type == http2.FramePing || f.Type == http2.FrameHeaders && !f.Ends():
		return nil
	case f.Ends():
		return errors.New("it ended")
	}
	p, err := f.Content()
	if err != nil {
		return err
	}
	if rest := c.rest[f.Stream]; len(rest) > 0 {
		p = append(rest, p...)
	}
	for len(p) >= prefix {
		end := prefix + int(binary.BigEndian.Uint32(p[1:]))
		if len(p) < end || end < prefix+endpoint.StampLen {
			break
		}
		s.count(c, p[prefix:prefix+endpoint.StampLen])
		p = p[end:]
	}
	if len(p) > 0 || len(c.rest[f.Stream]) > 0 {
		c.rest[f.Stream] = append(c.rest[f.Stream][:0], p...)
	}
	return nil
}

// count counts an event that was sent at stamp.
func (s *streams) count(c *streamConn, stamp []byte) {
	c.seen++
	ns, err := strconv.ParseInt(string(stamp), 10, 64)
	sent := time.Unix(0, ns).Sub(s.began)
	r := bench.Result{Due: sent, Sent: sent, Done: time.Since(s.began), Status: 200, User: -1}
	if err != nil {
		r.Failure = bench.Protocol
	}
	s.mu.Lock()
	s.tally.Add(&r)
	s.mu.Unlock()
}
