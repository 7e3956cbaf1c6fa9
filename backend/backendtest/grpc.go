package backendtest

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// GRPCCounts are a GRPC's figures since its start.
type GRPCCounts struct {
	// Calls that began, and those that ended in whatever way; probes excluded.
	Calls, Ended int64
	// Canceled calls; see Call.Canceled.
	Canceled int64
	// Received and Sent messages, those of probes excluded.
	Received, Sent int64
	// Probes are calls of grpc.health.v1.Health/Check.
	Probes int64
	// Connections accepted, and those of them open now.
	Connections, Open int64
}

// GRPC is a running gRPC server for tests, grpc-go's: it answers any method of any service, with
// messages as the bytes they are. Its methods may be called from any goroutine, but those that
// can end the test (Start, Await) from the test's own.
type GRPC struct {
	t         testing.TB
	options   []grpc.ServerOption
	behaviour atomic.Pointer[GRPCBehaviour]
	health    *health.Server
	address   string
	running   sync.WaitGroup
	counts    struct {
		calls, ended, canceled, received, sent, probes, connections, open atomic.Int64
	}

	mu       sync.Mutex
	listener net.Listener // nil while stopped
	serving  []*handed    // a server for each GoAway, and one more: the last takes connections
	conns    map[string]*grpcConn
	calls    []*Call
	probes   []*Call
}

// NewGRPC starts a server on a port of 127.0.0.1 that the system chose. It ends with the test.
// Options are grpc-go's, such as grpc.Creds for TLS.
func NewGRPC(t testing.TB, b GRPCBehaviour, options ...grpc.ServerOption) *GRPC {
	t.Helper()
	s := &GRPC{t: t, address: "127.0.0.1:0", health: health.NewServer(), conns: map[string]*grpcConn{}}
	s.options = append([]grpc.ServerOption{
		grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(s.handle), grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32),
	}, options...)
	s.SetBehaviour(b)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// SetBehaviour changes what happens to the calls whose head arrives from now on.
func (s *GRPC) SetBehaviour(b GRPCBehaviour) { s.behaviour.Store(&b) }

// SetHealth says what grpc.health.v1.Health/Check answers about a service: SERVING or
// NOT_SERVING. The service "", the whole server, is serving from the start; others are unknown.
func (s *GRPC) SetHealth(service string, serving bool) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, status)
}

// Addr is the server's HOST:PORT. It stays the same over Stop and Start.
func (s *GRPC) Addr() string { return s.address }

// Start listens again after Stop, on the same port. It does nothing on a running server.
func (s *GRPC) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return
	}
	l := listen(s.t, s.address)
	s.listener, s.address = l, l.Addr().String()
	s.serveLocked()
	s.running.Go(func() { s.accept(l) })
}

// Stop closes the port and every connection at once, as a killed process does, and waits until
// nothing of the server runs. Connecting is refused from then on.
func (s *GRPC) Stop() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
	}
	s.listener = nil
	serving := s.serving
	s.serving = nil
	for _, c := range s.conns {
		c.Conn.Close()
	}
	s.mu.Unlock()
	for _, h := range serving {
		h.server.Stop()
	}
	s.running.Wait()
}

// GoAway tells every connection of now by a GOAWAY to begin no more calls; they close when
// their last one has ended. New connections are served as before.
func (s *GRPC) GoAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.drainLocked()
		s.serveLocked()
	}
}

// GracefulStop closes the port and tells every connection by a GOAWAY to begin no more calls.
// It returns when the running ones have ended.
func (s *GRPC) GracefulStop() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
		s.drainLocked()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.mu.Lock()
	s.serving = nil
	s.mu.Unlock()
}

// ResetAll ends every connection by an RST, whatever runs on it.
func (s *GRPC) ResetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		reset(c.Conn)
	}
}

// Counts returns the figures of now.
func (s *GRPC) Counts() GRPCCounts {
	n := &s.counts
	return GRPCCounts{
		Calls: n.calls.Load(), Ended: n.ended.Load(), Canceled: n.canceled.Load(),
		Received: n.received.Load(), Sent: n.sent.Load(), Probes: n.probes.Load(),
		Connections: n.connections.Load(), Open: n.open.Load(),
	}
}

// Calls returns the last 4096 calls as they are now, oldest first. A call is here before its
// answer begins.
func (s *GRPC) Calls() []Call { return s.copies(&s.calls) }

// Probes returns the last 4096 probes.
func (s *GRPC) Probes() []Call { return s.copies(&s.probes) }

// Last returns the newest call, the zero Call when there is none.
func (s *GRPC) Last() Call {
	calls := s.Calls()
	if len(calls) == 0 {
		return Call{}
	}
	return calls[len(calls)-1]
}

// Await polls until the counts satisfy ok. After half a minute it ends the test, saying what it
// waited for.
func (s *GRPC) Await(what string, ok func(GRPCCounts) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(awaitLimit); !ok(s.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("backendtest: %s did not happen within %v; counts are %+v", what, awaitLimit, s.Counts())
		}
	}
}

func (s *GRPC) copies(list *[]*Call) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := make([]Call, len(*list))
	for i, c := range *list {
		copied[i] = *c
	}
	return copied
}
