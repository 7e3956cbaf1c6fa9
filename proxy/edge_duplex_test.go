package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weir/backend/backendtest"
	"weir/proxy/enginetest"
)

const chatMethod = "/chat.Chat/Talk"

// conversing is a proxy between grpc-go and grpc-go.
func conversing(t testing.TB, b backendtest.GRPCBehaviour, s setup) (*running, *backendtest.GRPC, *backendtest.GRPCClient) {
	t.Helper()
	g := backendtest.NewGRPC(t, b)
	s.endpoints, s.pool = append(s.endpoints, g.Addr()), "protocol: http2\n"+s.pool
	r := start(t, s)
	return r, g, backendtest.DialGRPC(t, r.addr)
}

// talk begins a conversation.
func talk(t testing.TB, c *backendtest.GRPCClient) (*backendtest.GRPCStream, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*patience)
	t.Cleanup(cancel)
	s, err := c.Stream(ctx, chatMethod)
	if err != nil {
		t.Fatal(err)
	}
	return s, cancel
}

// swap sends a message and gets it back.
func swap(s *backendtest.GRPCStream, text string) error {
	if err := s.Send([]byte(text)); err != nil {
		_, err = s.Recv() // which says why
		return fmt.Errorf("Send: %w", err)
	}
	got, err := s.Recv()
	if err != nil || string(got) != text {
		return fmt.Errorf("%q came back as %q: %w", text, got, err)
	}
	return nil
}

// finished reads the end of a conversation.
func finished(s *backendtest.GRPCStream) error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	if got, err := s.Recv(); err != io.EOF {
		return fmt.Errorf("%d bytes and %v instead of the end", len(got), err)
	}
	return nil
}

// TestEdgeDuplexInLockStep: each message waits for the one before to come back.
func TestEdgeDuplexInLockStep(t *testing.T) {
	messages := enginetest.Scaled(10_000, 2_000)
	r, g, c := conversing(t, backendtest.GRPCBehaviour{}, setup{})
	s, _ := talk(t, c)
	for i := range messages {
		if err := swap(s, fmt.Sprintf("message %d", i)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := finished(s); err != nil {
		t.Fatal(err)
	}
	if call := g.Last(); call.Received != messages {
		t.Errorf("the endpoint got %d messages", call.Received)
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="200"`) == 1 })
	if n := sum(r.metrics(t), "weir_attempts_total", `outcome="success"`); n != 1 {
		t.Errorf("%v attempts succeeded, want 1", n)
	}
}

// TestEdgeDuplexMuch: a lot flows both ways at once.
func TestEdgeDuplexMuch(t *testing.T) {
	const size = 1 << 20
	messages := enginetest.Scaled(100, 30)
	_, _, c := conversing(t, backendtest.GRPCBehaviour{}, setup{listener: "limits: {body: 1GiB}"})
	s, _ := talk(t, c)
	piece := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range messages {
			if err := s.Send(piece(i)); err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
		}
		_ = s.CloseSend()
	})
	for i := range messages {
		if got, err := s.Recv(); err != nil || !bytes.Equal(got, piece(i)) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("%v instead of the end", err)
	}
	sending.Wait()
}

// TestEdgeDuplexCancel: the end of the client ends the endpoint's work.
func TestEdgeDuplexCancel(t *testing.T) {
	r, g, c := conversing(t, backendtest.GRPCBehaviour{}, setup{})
	s, cancel := talk(t, c)
	if err := swap(s, "hello"); err != nil {
		t.Fatal(err)
	}
	cancel()
	g.Await("the cancellation", func(n backendtest.GRPCCounts) bool { return n.Canceled == 1 })
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 1 })
	if n := sum(r.metrics(t), "weir_attempts_total", `outcome="canceled"`); n != 1 {
		t.Errorf("%v attempts were canceled, want 1", n)
	}
	s, _ = talk(t, c)
	if err := errors.Join(swap(s, "again"), finished(s)); err != nil {
		t.Error(err)
	}
}

// TestEdgeDuplexEndsEarly: an endpoint that has said all does not read the rest. The client's connection goes on.
func TestEdgeDuplexEndsEarly(t *testing.T) {
	r, g, c := conversing(t, backendtest.GRPCBehaviour{Early: true, Messages: 2, Body: []byte("enough"), Code: codes.ResourceExhausted, Status: "no more"}, setup{})
	s, _ := talk(t, c)
	if err := s.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := s.Recv(); err != nil || string(got) != "enough" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if _, err := s.Recv(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "no more") {
		t.Errorf("ended with %v", err)
	}
	g.SetBehaviour(backendtest.GRPCBehaviour{})
	s, _ = talk(t, c)
	if err := errors.Join(swap(s, "again"), finished(s)); err != nil {
		t.Error(err)
	}
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="200"`) == 2 })
	if n := r.Status().Connections; n != 1 {
		t.Errorf("%d connections from the client, want 1", n)
	}
}

// TestEdgeDuplexOneSideLate: the client says nothing more for long after the endpoint's head, or the endpoint for long
// after the client's end.
func TestEdgeDuplexOneSideLate(t *testing.T) {
	_, g, c := conversing(t, backendtest.GRPCBehaviour{Head: true}, setup{route: "timeouts: {total: 200ms}"})
	s, _ := talk(t, c)
	if _, err := s.Header(); err != nil { // before any message
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // longer than total, which is to the head
	for i := range 3 {
		if err := swap(s, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := finished(s); err != nil {
		t.Error(err)
	}
	g.SetBehaviour(backendtest.GRPCBehaviour{Head: true, Messages: 1, Latency: 0, Size: 10})
	s, _ = talk(t, c)
	_ = s.Send([]byte("x"))
	_ = s.CloseSend()
	if got, err := s.Recv(); err != nil || len(got) != 10 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestEdgeDuplexIdle: without a byte either way it ends after timeouts.idle; a byte one way keeps it open.
func TestEdgeDuplexIdle(t *testing.T) {
	alongside(t)
	r, g, c := conversing(t, backendtest.GRPCBehaviour{}, setup{route: "timeouts: {idle: 4s}", listener: "timeouts: {body: 500ms}"})
	s, _ := talk(t, c)
	for i := range 6 {
		time.Sleep(700 * time.Millisecond) // longer than body, together longer than idle
		if err := swap(s, fmt.Sprint(i)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if got, err := s.Recv(); err == nil || err == io.EOF {
		t.Errorf("%q and %v of a conversation that has died", got, err)
	}
	g.Await("the cancellation", func(n backendtest.GRPCCounts) bool { return n.Canceled == 1 })
	if n := sum(r.metrics(t), "weir_attempts_total", `outcome="timeout"`); n != 0 {
		t.Error("the endpoint was blamed for a client that said nothing")
	}
}

// TestEdgeDuplexSlowReader: what one side sends and the other does not take, weir does not take either. The side that
// does not is the client, which reads no answers, or the endpoint, which reads no messages.
func TestEdgeDuplexSlowReader(t *testing.T) {
	for name, b := range map[string]backendtest.GRPCBehaviour{"client": {}, "endpoint": {Head: true, Fault: backendtest.FaultHangReading}} {
		t.Run(name, func(t *testing.T) {
			_, g, c := conversing(t, b, setup{listener: "limits: {body: 1GiB}"})
			s, cancel := talk(t, c)
			var sent atomic.Int64
			stuck := make(chan struct{})
			go func() {
				defer close(stuck)
				for message := bytes.Repeat([]byte("x"), 64<<10); s.Send(message) == nil; {
					sent.Add(1)
				}
			}()
			last := int64(-1)
			eventually(t, "a standstill", func() bool {
				time.Sleep(200 * time.Millisecond)
				before := last
				last = sent.Load()
				return last == before && last > 0
			})
			if last > 512 {
				t.Errorf("%d messages of 64 KiB were taken from a client, and nobody takes them", last)
			}
			cancel()
			<-stuck
			g.Await("the end of the call", func(n backendtest.GRPCCounts) bool { return n.Ended == 1 })
		})
	}
}

// TestEdgeDuplexMany: 200 conversations over a few connections.
func TestEdgeDuplexMany(t *testing.T) {
	r, _, c := conversing(t, backendtest.GRPCBehaviour{}, setup{listener: "limits: {streams: 100}"})
	clients := []*backendtest.GRPCClient{c, backendtest.DialGRPC(t, r.addr), backendtest.DialGRPC(t, r.addr)}
	var talking sync.WaitGroup
	for i := range 200 {
		talking.Go(func() {
			s, _ := talk(t, clients[i%len(clients)])
			for k := range 50 {
				if err := swap(s, fmt.Sprintf("%d of %d", k, i)); err != nil {
					t.Errorf("message %d of %d: %v", k, i, err)
					return
				}
			}
			if err := finished(s); err != nil {
				t.Errorf("conversation %d: %v", i, err)
			}
		})
	}
	talking.Wait()
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="200"`) == 200 })
	if n := sum(r.metrics(t), "weir_endpoint_inflight"); n != 0 {
		t.Errorf("%v attempts are under way, want 0", n)
	}
}

// TestEdgeDuplexRetry: while nothing was answered, a conversation whose endpoint breaks off goes on with another one.
func TestEdgeDuplexRetry(t *testing.T) {
	for _, early := range []bool{true, false} { // the endpoint breaks off at once, or when the client has ended its side
		bad := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{Early: early, Messages: 1, Fault: backendtest.FaultCloseBeforeHead})
		r, _, c := conversing(t, backendtest.GRPCBehaviour{}, setup{endpoints: []string{bad.Addr()}, route: "retry: {idempotent: always}", pool: "outlier: off"})
		for range 6 {
			s, _ := talk(t, c)
			text := strings.Repeat("hello", 10_000)
			_ = s.Send([]byte(text))
			if !early {
				_ = s.CloseSend()
			}
			if got, err := s.Recv(); err != nil || string(got) != text {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if !early {
				continue
			}
			if err := errors.Join(swap(s, "more"), finished(s)); err != nil {
				t.Error(err)
			}
		}
		if n := sum(r.metrics(t), "weir_retries_total", `reason="reset"`); n == 0 {
			t.Error("no attempt met the bad endpoint")
		}
	}
}

// TestEdgeDuplexTooLarge: a body may not be larger than the route allows, also in a conversation.
func TestEdgeDuplexTooLarge(t *testing.T) {
	r, g, c := conversing(t, backendtest.GRPCBehaviour{}, setup{route: "limits: {body: 100KiB}"})
	s, _ := talk(t, c)
	if err := swap(s, "hello"); err != nil {
		t.Fatal(err)
	}
	for s.Send(make([]byte, 10<<10)) == nil {
	}
	var err error
	for err == nil {
		_, err = s.Recv()
	}
	if err == io.EOF {
		t.Error("it ended as if all were well")
	}
	g.Await("the cancellation", func(n backendtest.GRPCCounts) bool { return n.Canceled == 1 })
	eventually(t, "the account", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="413"`) == 1 })
}
