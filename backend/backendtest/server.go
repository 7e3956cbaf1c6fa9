// Package backendtest is a scriptable HTTP/1.1 server for tests: a real one, on a real port
// of 127.0.0.1, whose behaviour changes while it runs. It can be slow, fail, stall, reset,
// send garbage, close idle connections without a word and report load, and it keeps a strict
// record of what it was sent. Raw is the same for tests that script every byte themselves, GRPC
// for calls of gRPC in all four kinds.
package backendtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keptRequests is how many records a Server keeps.
const keptRequests = 4096

// awaitLimit bounds how long Await polls.
const awaitLimit = 30 * time.Second

// Counts are a Server's figures since its start.
type Counts struct {
	// Requests whose head arrived well-formed, probes excluded.
	Requests int64
	// Responses written to their end, early and error ones included, probes excluded.
	Responses int64
	// Probes of the health path.
	Probes int64
	// Connections accepted, and those of them open now.
	Connections, Open int64
	// Canceled requests: the client went away while its request was being read or answered.
	Canceled int64
	// Malformed requests, answered by 400; Server.Complaints tells what was wrong.
	Malformed int64
	// BytesIn and BytesOut passed over all connections, heads included.
	BytesIn, BytesOut int64
}

// Server is a running test server. All methods may be called from any goroutine, but those
// that can end the test (Start, Await) from the test's own.
type Server struct {
	t         testing.TB
	behaviour atomic.Pointer[Behaviour]
	address   string
	running   sync.WaitGroup
	counts    struct {
		requests, responses, probes, connections, open, canceled, malformed, in, out atomic.Int64
	}

	mu         sync.Mutex
	listener   net.Listener // nil while stopped
	stopped    chan struct{}
	conns      map[*conn]struct{}
	requests   []Request
	probes     []Request
	complaints []string
	chance     *rand.Rand
}

// NewServer starts a server on a port of 127.0.0.1 that the system chose. It ends with the test.
func NewServer(t testing.TB, b Behaviour) *Server {
	t.Helper()
	s := &Server{t: t, address: "127.0.0.1:0", conns: map[*conn]struct{}{}, chance: rand.New(rand.NewPCG(1, 2))}
	s.SetBehaviour(b)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// SetBehaviour changes what happens to the requests whose head arrives from now on.
func (s *Server) SetBehaviour(b Behaviour) { s.behaviour.Store(&b) }

// Behaviour returns the one in force.
func (s *Server) Behaviour() Behaviour { return *s.behaviour.Load() }

// Addr is the server's HOST:PORT. It stays the same over Stop and Start.
func (s *Server) Addr() string { return s.address }

// URL is http://Addr.
func (s *Server) URL() string { return "http://" + s.address }

// Start listens again after Stop, on the same port. It does nothing on a running server.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return
	}
	l := listen(s.t, s.address)
	s.listener, s.address, s.stopped = l, l.Addr().String(), make(chan struct{})
	s.running.Add(1)
	go s.accept(l, s.stopped)
}

// Stop closes the port and every connection at once, as a killed process does, and waits
// until nothing of the server runs. Connecting is refused from then on.
func (s *Server) Stop() {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	if l != nil {
		close(s.stopped)
		l.Close()
	}
	for c := range s.conns {
		c.nc.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// CloseIdle ends every connection without a running request, by a FIN and unannounced, and
// returns how many there were.
func (s *Server) CloseIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		if c.idle.CompareAndSwap(true, false) {
			c.nc.Close()
			n++
		}
	}
	return n
}

// ResetAll ends every connection by an RST, whatever runs on it.
func (s *Server) ResetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		reset(c.nc)
	}
}

// Counts returns the figures of now.
func (s *Server) Counts() Counts {
	n := &s.counts
	return Counts{
		Requests: n.requests.Load(), Responses: n.responses.Load(), Probes: n.probes.Load(),
		Connections: n.connections.Load(), Open: n.open.Load(),
		Canceled: n.canceled.Load(), Malformed: n.malformed.Load(),
		BytesIn: n.in.Load(), BytesOut: n.out.Load(),
	}
}

// Requests returns the records of the last 4096 requests, oldest first. A request is recorded
// before its response begins: who has a response finds its request here.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Probes returns the records of the last 4096 requests of the health path.
func (s *Server) Probes() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.probes...)
}

// Last returns the newest record, the zero Request when there is none.
func (s *Server) Last() Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == 0 {
		return Request{}
	}
	return s.requests[len(s.requests)-1]
}

// Complaints tells what was wrong with each malformed request.
func (s *Server) Complaints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.complaints...)
}

// Await polls until the counts satisfy ok. After ten seconds it ends the test, saying what
// it waited for.
func (s *Server) Await(what string, ok func(Counts) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(awaitLimit); !ok(s.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("backendtest: %s did not happen within %v; counts are %+v", what, awaitLimit, s.Counts())
		}
	}
}

func (s *Server) accept(l net.Listener, stopped <-chan struct{}) {
	defer s.running.Done()
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of file descriptors: let others end first
			continue
		}
		c := newConn(s, nc, stopped, int(s.counts.connections.Add(1)))
		s.counts.open.Add(1)
		s.mu.Lock()
		s.conns[c] = struct{}{}
		late := s.listener != l
		s.mu.Unlock()
		if late {
			nc.Close()
		}
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			s.counts.open.Add(-1)
		}()
	}
}

// happens decides by chance; a rate of 0 or less never happens.
func (s *Server) happens(rate float64) bool {
	if rate <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chance.Float64() < rate
}

func (s *Server) record(r Request, probe bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &s.requests
	if probe {
		list = &s.probes
	}
	if len(*list) >= keptRequests {
		*list = append((*list)[:0], (*list)[1:]...)
	}
	*list = append(*list, r)
}

func (s *Server) complain(m malformed) {
	s.counts.malformed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complaints = append(s.complaints, m.Error())
}

// reset ends a connection by an RST: what was not yet sent is dropped.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	nc.Close()
}
