package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"weir/backend/backendtest"
)

// Calls over HTTP/2 on both sides, with grpc-go as client and as server.

// overGRPC is a proxy in front of servers of gRPC, and a client of it.
func overGRPC(t *testing.T, s setup, servers ...*backendtest.GRPC) (*running, *backendtest.GRPCClient) {
	t.Helper()
	for _, g := range servers {
		s.endpoints = append(s.endpoints, g.Addr())
	}
	s.pool += "protocol: http2\n"
	if !strings.Contains(s.pool, "outlier") {
		s.pool += "outlier: off\n"
	}
	r := start(t, s)
	return r, backendtest.DialGRPC(t, r.addr)
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// exchanged sends the messages, ends its side, and returns all that comes back.
func exchanged(ctx context.Context, c *backendtest.GRPCClient, method string, messages ...string) (got []string, s *backendtest.GRPCStream, err error) {
	if s, err = c.Stream(ctx, method); err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		if err := s.Send([]byte(m)); err != nil && !errors.Is(err, io.EOF) {
			return nil, s, err
		}
	}
	if err := s.CloseSend(); err != nil {
		return nil, s, err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return got, s, nil
		}
		if err != nil {
			return got, s, err
		}
		got = append(got, string(m))
	}
}

// TestEdgeGRPC: every kind of call, with metadata both ways.
func TestEdgeGRPC(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	r, c := overGRPC(t, setup{}, g)
	md := metadata.Pairs("echo-a", "1", "echo-a", "2", "echo-trailer-bin", "\x00\xff", "x-request-id", "mine", "user-thing", "v")
	big := strings.Repeat("0123456789abcdef", 1<<16)
	for _, c2 := range []struct {
		name string
		b    backendtest.GRPCBehaviour
		send []string
		want []string
	}{
		{"unary", backendtest.GRPCBehaviour{}, []string{"one"}, []string{"one"}},
		{"empty", backendtest.GRPCBehaviour{}, []string{""}, []string{""}},
		{"to the server", backendtest.GRPCBehaviour{Messages: 1}, []string{"a", "b", "c"}, []string{"abc"}},
		{"to the client", backendtest.GRPCBehaviour{Messages: 3}, []string{"a"}, []string{"a", "a", "a"}},
		{"both ways", backendtest.GRPCBehaviour{}, []string{"a", "b", "c"}, []string{"a", "b", "c"}},
		{"no message", backendtest.GRPCBehaviour{Messages: -1}, nil, nil},
		{"large", backendtest.GRPCBehaviour{}, []string{big}, []string{big}},
		{"large, several", backendtest.GRPCBehaviour{}, []string{big, big, big}, []string{big, big, big}},
		{"large to the server", backendtest.GRPCBehaviour{Messages: 1}, []string{big, big}, []string{big + big}},
		{"large to the client", backendtest.GRPCBehaviour{Messages: 3, Body: []byte(big)}, []string{"a"}, []string{big, big, big}},
		{"slow to the client", backendtest.GRPCBehaviour{Messages: 3, Pause: 20 * time.Millisecond}, []string{"a"}, []string{"a", "a", "a"}},
		{"early", backendtest.GRPCBehaviour{Early: true, Messages: 1, Body: []byte("early")}, nil, []string{"early"}},
	} {
		t.Run(c2.name, func(t *testing.T) {
			g.SetBehaviour(c2.b)
			got, s, err := exchanged(metadata.NewOutgoingContext(patient(t), md), c, modelInfer, c2.send...)
			if err != nil || len(got) != len(c2.want) {
				t.Fatalf("%d messages, %v; want %d", len(got), err, len(c2.want))
			}
			for i := range got {
				if got[i] != c2.want[i] {
					t.Errorf("message %d has %d bytes, want %d", i, len(got[i]), len(c2.want[i]))
				}
			}
			header, err := s.Header()
			if header == nil { // trailers alone
				header = s.Trailer()
			}
			if err != nil || fmt.Sprint(header.Get("echo-a")) != "[1 2]" || fmt.Sprint(s.Trailer().Get("echo-trailer-bin")) != "[\x00\xff]" ||
				fmt.Sprint(header.Get("x-weir-variant")) != "[blue]" || fmt.Sprint(header.Get("x-request-id")) != "[mine]" {
				t.Errorf("head %v, trailers %v, %v", header, s.Trailer(), err)
			}
			call := g.Last()
			if call.Method != modelInfer || fmt.Sprint(call.Metadata.Get("user-thing"), call.Metadata.Get("x-request-id"), call.Metadata.Get("content-type")) != "[v] [mine] [application/grpc+proto]" ||
				len(call.Metadata.Get("content-length")) != 0 || call.Timeout <= 0 || call.Timeout > patience {
				t.Errorf("the server got %+v", call)
			}
		})
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total", `status="OK"`) == 12 })
	if n := g.Counts(); n.Ended != 12 || n.Canceled != 0 {
		t.Errorf("%+v", n)
	}
}

// TestEdgeGRPCDuplex: each side says something only once the other has answered.
func TestEdgeGRPCDuplex(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	_, c := overGRPC(t, setup{}, g)
	s, err := c.Stream(patient(t), modelInfer)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		m := strings.Repeat(fmt.Sprint("message ", i), 1+i*500)
		if err := s.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || string(got) != m {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != io.EOF {
		t.Errorf("%q, %v", m, err)
	}
}

// TestEdgeGRPCStatus: the server's status reaches the client, in the head or behind messages.
func TestEdgeGRPCStatus(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	r, c := overGRPC(t, setup{}, g)
	for _, b := range []backendtest.GRPCBehaviour{
		{Code: codes.NotFound, Status: "no: ü 100%"}, {Code: codes.Internal, Status: "late", Messages: 2}, {Code: codes.Unavailable, Status: "now", Early: true},
		{Code: codes.DataLoss, Status: "head", Head: true}, {Code: codes.InvalidArgument, Trailer: metadata.Pairs("t", "v")},
	} {
		g.SetBehaviour(b)
		got, s, err := exchanged(patient(t), c, modelInfer, "m")
		if status.Code(err) != b.Code || status.Convert(err).Message() != b.Status || len(got) != b.Messages || b.Trailer != nil && fmt.Sprint(s.Trailer().Get("t")) != "[v]" {
			t.Errorf("%+v: %q, %v, %v", b, got, err, s.Trailer())
		}
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total") == 5 })
	route, _ := r.Route("all")
	if v := route.Variants[0]; v.Requests != 5 || v.Errors != 3 {
		t.Errorf("%+v", v)
	}
}

// TestEdgeGRPCOwnErrors: weir's errors are statuses to a client of gRPC, also to one that is still sending.
func TestEdgeGRPCOwnErrors(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	stopped := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	stopped.Stop()
	for _, c := range []struct {
		name, route string
		server      *backendtest.GRPC
		code        codes.Code
		behaviour   backendtest.GRPCBehaviour
	}{
		{"no route", "match: {path: /x}\n", g, codes.Unimplemented, backendtest.GRPCBehaviour{}},
		{"not allowed", "allow: [10.0.0.0/8]\n", g, codes.PermissionDenied, backendtest.GRPCBehaviour{}},
		{"no connection", "retry: off\n", stopped, codes.Unavailable, backendtest.GRPCBehaviour{}},
		{"reset", "retry: off\n", g, codes.Unavailable, backendtest.GRPCBehaviour{Fault: backendtest.FaultResetBeforeHead}},
		{"too late", "timeouts: {attempt: 100ms}\nretry: off\n", g, codes.DeadlineExceeded, backendtest.GRPCBehaviour{Fault: backendtest.FaultHangBeforeHead}},
		{"too large", "limits: {body: 3}\n", g, codes.ResourceExhausted, backendtest.GRPCBehaviour{}},
		{"no tokens", "rate_limit: {rate: 1/h}\n", g, codes.ResourceExhausted, backendtest.GRPCBehaviour{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.SetBehaviour(c.behaviour)
			r, client := overGRPC(t, setup{route: c.route}, c.server)
			if c.name == "no tokens" {
				if _, err := client.Unary(patient(t), modelInfer, []byte("m")); err != nil {
					t.Fatal(err)
				}
			}
			for _, messages := range [][]string{{"m"}, {strings.Repeat("m", 1<<20)}, {"m", "m"}} {
				_, s, err := exchanged(patient(t), client, modelInfer, messages...)
				if status.Code(err) != c.code || status.Convert(err).Message() == "" || strings.Contains(err.Error(), "HTTP status") {
					t.Errorf("%v, want %v", err, c.code)
				}
				if id := s.Trailer().Get("x-request-id"); len(id) != 1 {
					t.Errorf("trailers %v", s.Trailer())
				}
			}
			eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total", statusNames[c.code]) == 3 })
		})
	}
}

// TestEdgeGRPCDeadline: a deadline goes on to the server, and ends the call there when it is over.
func TestEdgeGRPCDeadline(t *testing.T) {
	alongside(t)
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{Fault: backendtest.FaultHangBeforeHead})
	r, c := overGRPC(t, setup{route: "timeouts: {total: 60s, attempt: 60s}\n"}, g)
	const calls = 10
	const timeout = 3 * time.Second // in which each has come to the server, also on a machine with other things to do
	var all sync.WaitGroup
	for i := range calls { // the server, weir and the client all end them at the same time
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), timeout+time.Duration(i)*time.Millisecond)
			defer cancel()
			if _, err := c.Unary(ctx, modelInfer, []byte("m")); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	for _, call := range g.Calls() {
		if call.Timeout <= 0 || call.Timeout > timeout+calls*time.Millisecond {
			t.Errorf("the server had %v", call.Timeout)
		}
	}
	g.Await("the end at the server", func(n backendtest.GRPCCounts) bool { return n.Canceled == calls })
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total") == calls })
	m := r.metrics(t)
	if sum(m, "weir_attempts_total", `outcome="canceled"`) != calls || sum(m, "weir_retries_total") != 0 ||
		sum(m, "weir_grpc_requests_total", "DEADLINE_EXCEEDED")+sum(m, "weir_grpc_requests_total", "CANCELLED") != calls {
		t.Errorf("it was the clients' time: %v", m)
	}
}

// TestEdgeGRPCCanceled: a client that gives a call up ends it at the server, whatever it waits for.
func TestEdgeGRPCCanceled(t *testing.T) {
	for i, b := range []backendtest.GRPCBehaviour{
		{Fault: backendtest.FaultHangBeforeHead}, {Messages: 1 << 20, Pause: time.Millisecond}, {Fault: backendtest.FaultHangReading}, {Fault: backendtest.FaultHangMidBody, Messages: 1},
	} {
		g := backendtest.NewGRPC(t, b)
		r, c := overGRPC(t, setup{}, g)
		for _, closes := range []bool{true, false} {
			ctx, cancel := context.WithCancel(patient(t))
			s, err := c.Stream(ctx, modelInfer)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send([]byte("m")); err != nil {
				t.Fatal(err)
			}
			if closes {
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if i == 1 || i == 3 {
					if _, err := s.Recv(); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := g.Counts().Canceled
			g.Await("the call", func(n backendtest.GRPCCounts) bool { return n.Calls > before })
			cancel()
			g.Await("its end", func(n backendtest.GRPCCounts) bool { return n.Canceled == before+1 && n.Ended == n.Calls })
		}
		eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total", "CANCELLED") == 2 })
		if n := sum(r.metrics(t), "weir_attempts_total", `outcome="canceled"`); n != 2 {
			t.Errorf("%d: %v", i, r.metrics(t))
		}
	}
}

// TestEdgeGRPCRetry: a unary call is sent again whole.
func TestEdgeGRPCRetry(t *testing.T) {
	for _, b := range []backendtest.GRPCBehaviour{
		{Code: codes.Unavailable, Status: "busy"}, {Code: codes.ResourceExhausted}, {Fault: backendtest.FaultResetBeforeHead}, {Fault: backendtest.FaultCloseBeforeHead},
	} {
		sick, well := backendtest.NewGRPC(t, b), backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
		r, c := overGRPC(t, setup{options: oneLoop, route: "retry: {on: [unavailable, resource_exhausted, reset]}\n"}, sick, well)
		for _, body := range []string{"m", strings.Repeat("m", 100<<10)} {
			for range 4 {
				if got, err := c.Unary(patient(t), modelInfer, []byte(body)); err != nil || string(got) != body {
					t.Errorf("%+v: %d bytes, %v", b, len(got), err)
				}
			}
		}
		if sick.Counts().Calls == 0 || sum(r.metrics(t), "weir_retries_total") == 0 {
			t.Error("the sick one was never asked")
		}
	}
}

// TestEdgeGRPCEjected: statuses eject.
func TestEdgeGRPCEjected(t *testing.T) {
	sick, well := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{Code: codes.Internal}), backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	r, c := overGRPC(t, setup{pool: "outlier: {consecutive_failures: 3, ejection: 1m}\n", route: "retry: off\n"}, sick, well)
	eventually(t, "the ejection", func() bool {
		_, _ = c.Unary(patient(t), modelInfer, []byte("m"))
		p, _ := r.Pool("blue")
		return p.Endpoints[0].Ejected
	})
	for range 5 {
		if got, err := c.Unary(patient(t), modelInfer, []byte("m")); err != nil || string(got) != "m" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestEdgeGRPCTruncated: an answer that breaks off is never one that has ended.
func TestEdgeGRPCTruncated(t *testing.T) {
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{})
	r, c := overGRPC(t, setup{route: "retry: off\n"}, g)
	for _, fault := range []backendtest.Fault{backendtest.FaultCloseMidBody, backendtest.FaultResetMidBody} {
		g.SetBehaviour(backendtest.GRPCBehaviour{Messages: 3, Body: bytes.Repeat([]byte("m"), 100), Fault: fault})
		if got, _, err := exchanged(patient(t), c, modelInfer, "m"); err == nil || status.Code(err) == codes.OK {
			t.Errorf("%d messages, %v", len(got), err)
		}
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_grpc_requests_total", "UNAVAILABLE") == 2 })
}
