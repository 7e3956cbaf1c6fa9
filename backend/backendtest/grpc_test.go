package backendtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const method = "/test.Echo/Anything"

// patient ends a test that hangs.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// callAll sends the messages, ends its side and returns all that comes back.
func callAll(t *testing.T, c *GRPCClient, ctx context.Context, messages ...string) (got []string, stream *GRPCStream, err error) {
	t.Helper()
	stream, err = c.Stream(ctx, method)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send([]byte(m)); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, stream, nil
		}
		if err != nil {
			return got, stream, err
		}
		got = append(got, string(m))
	}
}

func TestGRPCKinds(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{})
	c, ctx := DialGRPC(t, s.Addr()), patient(t)
	if got, err := c.Unary(ctx, method, []byte("one")); err != nil || string(got) != "one" {
		t.Errorf("unary: %q, %v", got, err)
	}
	if got, err := c.Unary(ctx, method, nil); err != nil || len(got) != 0 {
		t.Errorf("an empty message: %q, %v", got, err)
	}

	// Both ways: each answer comes before the next message is sent.
	stream, err := c.Stream(ctx, method)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m := fmt.Sprint("message ", i)
		if err := stream.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
		if got, err := stream.Recv(); err != nil || string(got) != m {
			t.Fatalf("got %q, %v; want %q", got, err, m)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != io.EOF {
		t.Errorf("after the end: %q, %v", got, err)
	}

	f := func(b GRPCBehaviour, messages, want []string) {
		t.Helper()
		s.SetBehaviour(b)
		got, _, err := callAll(t, c, ctx, messages...)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%+v: %v, %s", b, err, diff)
		}
	}
	f(GRPCBehaviour{Messages: 1}, []string{"a", "b", "c"}, []string{"abc"})
	f(GRPCBehaviour{Messages: 3}, []string{"a"}, []string{"a", "a", "a"})
	f(GRPCBehaviour{Messages: 2, Body: []byte("x"), Pause: time.Millisecond, Latency: time.Millisecond}, []string{"a"}, []string{"x", "x"})
	f(GRPCBehaviour{Messages: -1}, []string{"a"}, nil)
	f(GRPCBehaviour{Early: true, Messages: 1, Body: []byte("early")}, nil, []string{"early"})
	s.SetBehaviour(GRPCBehaviour{Messages: 2, Size: 5 << 20})
	if got, _, err := callAll(t, c, ctx, "a"); err != nil || len(got) != 2 || len(got[1]) != 5<<20 {
		t.Errorf("large messages: %d, %v", len(got), err)
	}
	s.Await("the end of all calls", func(n GRPCCounts) bool { return n.Ended == 9 })
	want := GRPCCounts{Calls: 9, Ended: 9, Received: 12, Sent: 14, Connections: 1, Open: 1}
	if diff := cmp.Diff(want, s.Counts()); diff != "" {
		t.Error(diff)
	}
	calls := s.Calls()
	if len(calls) != 9 || calls[3].N != 4 || calls[3].Received != 3 || calls[3].Bytes != 3 || string(calls[3].First) != "a" || calls[3].Sent != 1 {
		t.Errorf("the fourth call is %+v", calls[3])
	}
	if last := s.Last(); last.Method != method || last.Ended.Before(last.Begun) || !last.Canceled.IsZero() || last.Connection != 1 {
		t.Errorf("the last call is %+v", last)
	}
}

func TestGRPCStatusAndMetadata(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{})
	c, ctx := DialGRPC(t, s.Addr()), patient(t)
	ctx = metadata.AppendToOutgoingContext(ctx, "echo-a", "1", "echo-a", "2", "echo-trailer-bin", "\x00\xff", "other", "x",
		"endpoint-load-metrics-format", "text")
	f := func(b GRPCBehaviour, code codes.Code, message string, messages int, trailersOnly bool) {
		t.Helper()
		s.SetBehaviour(b)
		got, stream, err := callAll(t, c, ctx, "m")
		if status.Code(err) != code || code != codes.OK && status.Convert(err).Message() != message || len(got) != messages {
			t.Errorf("%+v: %q, %v", b, got, err)
		}
		header, err := stream.Header()
		if err != nil {
			t.Fatal(err)
		}
		// The head of a trailers-only answer is its trailers.
		if alone := header == nil; alone != trailersOnly {
			t.Errorf("%+v: trailers only is %v", b, alone)
		}
		trailer := stream.Trailer()
		if trailersOnly {
			header = trailer
		}
		if !cmp.Equal(header.Get("echo-a"), []string{"1", "2"}) ||
			!cmp.Equal(trailer.Get("echo-trailer-bin"), []string{"\x00\xff"}) || len(trailer.Get("other"))+len(header.Get("other")) > 0 {
			t.Errorf("%+v: head %v, trailers %v", b, header, trailer)
		}
		if b.Trailer != nil && (!cmp.Equal(trailer.Get("t"), []string{"v"}) ||
			!cmp.Equal(trailer.Get("endpoint-load-metrics"), []string{"TEXT eps=2"})) {
			t.Errorf("%+v: trailers %v", b, trailer)
		}
	}
	f(GRPCBehaviour{}, codes.OK, "", 1, false)
	f(GRPCBehaviour{Code: codes.Unavailable, Status: "go away: ü"}, codes.Unavailable, "go away: ü", 0, true)
	f(GRPCBehaviour{Code: codes.Unavailable, Status: "now", Early: true}, codes.Unavailable, "now", 0, true)
	f(GRPCBehaviour{Code: codes.NotFound, Status: "no", Head: true}, codes.NotFound, "no", 0, false)
	f(GRPCBehaviour{Code: codes.Internal, Status: "late", Messages: 2, Trailer: metadata.Pairs("t", "v"), Load: map[string]float64{"eps": 2}},
		codes.Internal, "late", 2, false)

	s.SetBehaviour(GRPCBehaviour{Respond: func(call *Call) GRPCBehaviour {
		if call.N == 7 && call.Metadata.Get("echo-a")[0] == "1" && call.Method == method {
			return GRPCBehaviour{Code: codes.ResourceExhausted}
		}
		return GRPCBehaviour{}
	}})
	for n := int64(6); n <= 8; n++ {
		_, err := c.Unary(ctx, method, nil)
		if failed := status.Code(err) == codes.ResourceExhausted; failed != (n == 7) {
			t.Errorf("call %d: %v", n, err)
		}
	}
	if last := s.Last(); last.Timeout <= 0 || last.Timeout > 10*time.Second {
		t.Errorf("the deadline left %v", last.Timeout)
	}
}

func TestGRPCCanceled(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{Fault: FaultHangBeforeHead})
	c := DialGRPC(t, s.Addr())
	ctx, cancel := context.WithCancel(patient(t))
	ended := make(chan error, 1)
	go func() {
		_, err := c.Unary(ctx, method, []byte("m"))
		ended <- err
	}()
	s.Await("a message", func(n GRPCCounts) bool { return n.Received == 1 })
	if n := s.Counts(); n.Canceled != 0 || n.Ended != 0 {
		t.Errorf("counts are %+v", n)
	}
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the client got %v", err)
	}
	s.Await("a canceled call", func(n GRPCCounts) bool { return n.Canceled == 1 && n.Ended == 1 })
	if call := s.Last(); call.Cause != context.Canceled || call.Canceled.Before(call.Begun) {
		t.Errorf("the call is %+v", call)
	}

	// A deadline, while the answer is being sent slowly.
	s.SetBehaviour(GRPCBehaviour{Messages: 1 << 20, Pause: time.Millisecond})
	ctx, cancel = context.WithTimeout(patient(t), 50*time.Millisecond)
	defer cancel()
	if _, _, err := callAll(t, c, ctx, "m"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the client got %v", err)
	}
	s.Await("a call past its deadline", func(n GRPCCounts) bool { return n.Canceled == 2 && n.Ended == 2 })

	// Complete answers are not canceled, whatever comes later.
	s.SetBehaviour(GRPCBehaviour{})
	if _, err := c.Unary(patient(t), method, []byte("m")); err != nil {
		t.Error(err)
	}
	c.Close()
	s.Await("the connection's end", func(n GRPCCounts) bool { return n.Open == 0 })
	if n := s.Counts(); n.Canceled != 2 || n.Ended != 3 {
		t.Errorf("counts are %+v", n)
	}
}

func TestGRPCFaults(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{})
	for _, fault := range []Fault{FaultCloseBeforeHead, FaultResetBeforeHead, FaultCloseMidBody, FaultResetMidBody} {
		for _, messages := range []int{0, 2} {
			s.SetBehaviour(GRPCBehaviour{Fault: fault, Messages: messages})
			want := 0
			if fault >= FaultCloseMidBody {
				want = messages
			}
			got, _, err := callAll(t, DialGRPC(t, s.Addr()), patient(t), "m")
			// An RST may overtake what was sent before it.
			if status.Code(err) != codes.Unavailable || len(got) != want && fault != FaultResetMidBody {
				t.Errorf("fault %d with %d messages: got %d, %v", fault, messages, len(got), err)
			}
		}
	}
	for i, fault := range []Fault{FaultHangBeforeHead, FaultHangReading, FaultHangMidBody} {
		s.SetBehaviour(GRPCBehaviour{Fault: fault, Messages: 1})
		c := DialGRPC(t, s.Addr())
		stream, err := c.Stream(patient(t), method)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.Send([]byte("m")), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		if fault == FaultHangMidBody {
			if m, err := stream.Recv(); err != nil || string(m) != "m" {
				t.Errorf("got %q, %v", m, err)
			}
		}
		s.Await("the call", func(n GRPCCounts) bool { return n.Calls == int64(9+i) })
		c.Close()
		if m, err := stream.Recv(); err == nil || err == io.EOF {
			t.Errorf("fault %d: %q, %v", fault, m, err)
		}
	}
	s.Await("three clients that left", func(n GRPCCounts) bool { return n.Canceled == 3 && n.Ended == 11 })
	if n := s.Counts(); n.Calls != 11 {
		t.Errorf("counts are %+v", n)
	}
}

func TestGRPCGoAway(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{})
	c, ctx := DialGRPC(t, s.Addr()), patient(t)
	stream, err := c.Stream(ctx, method)
	if err != nil {
		t.Fatal(err)
	}
	talk := func() {
		t.Helper()
		if err := stream.Send([]byte("m")); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || string(m) != "m" {
			t.Fatalf("got %q, %v", m, err)
		}
	}
	talk()
	s.GoAway()
	// Calls go on a new connection once the client has read the GOAWAY.
	for s.Counts().Connections < 2 {
		if _, err := c.Unary(ctx, method, nil); err != nil {
			t.Fatal(err)
		}
	}
	if last := s.Last(); last.Connection != 2 {
		t.Errorf("a call after it came on connection %d", last.Connection)
	}
	talk()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Error(err)
	}
	s.Await("the old connection's end", func(n GRPCCounts) bool { return n.Open == 1 })

	// A graceful stop waits for the running call, a hard one does not.
	if stream, err = c.Stream(ctx, method); err != nil {
		t.Fatal(err)
	}
	talk()
	stopped := make(chan struct{})
	go func() { s.GracefulStop(); close(stopped) }()
	for { // until the port is closed and the client knows
		if _, err := c.Unary(ctx, method, nil); status.Code(err) == codes.Unavailable {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	talk()
	select {
	case <-stopped:
		t.Error("it stopped under a running call")
	default:
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Error(err)
	}
	<-stopped

	s.Start()
	if stream, err = c.Stream(ctx, method, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	talk()
	s.GoAway()
	s.Stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if n := s.Counts(); n.Open != 0 || n.Ended != n.Calls {
		t.Errorf("counts are %+v", n)
	}
}

func TestGRPCHealthProbes(t *testing.T) {
	s := NewGRPC(t, GRPCBehaviour{Code: codes.Internal})
	ctx := patient(t)
	f := func(service string, want grpc_health_v1.HealthCheckResponse_ServingStatus, code codes.Code) {
		t.Helper()
		// The generated client with its own codec: the bytes are what others send.
		conn, err := grpc.NewClient("passthrough:///"+s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if answer.GetStatus() != want || status.Code(err) != code {
			t.Errorf("%q: %v, %v", service, answer, err)
		}
	}
	f("", grpc_health_v1.HealthCheckResponse_SERVING, codes.OK)
	f("m", grpc_health_v1.HealthCheckResponse_UNKNOWN, codes.NotFound)
	s.SetHealth("m", true)
	f("m", grpc_health_v1.HealthCheckResponse_SERVING, codes.OK)
	s.SetHealth("", false)
	f("", grpc_health_v1.HealthCheckResponse_NOT_SERVING, codes.OK)
	s.SetBehaviour(GRPCBehaviour{Probe: &GRPCBehaviour{Code: codes.Unimplemented}})
	f("", grpc_health_v1.HealthCheckResponse_UNKNOWN, codes.Unimplemented)
	if n := s.Counts(); n.Probes != 5 || n.Calls != 0 || len(s.Probes()) != 5 {
		t.Errorf("counts are %+v", n)
	}
}

func TestGRPCOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	s := NewGRPC(t, GRPCBehaviour{}, grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	c := DialGRPC(t, s.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com"})))
	if got, err := c.Unary(patient(t), method, []byte("secret")); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := DialGRPC(t, s.Addr()).Unary(patient(t), method, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	s.ResetAll()
	s.Await("an end of all connections", func(n GRPCCounts) bool { return n.Open == 0 })
}
