package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// rawCodec passes messages as the bytes they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data) // grpc-go uses its buffers again
	return nil
}

// Name implements encoding.Codec.
func (rawCodec) Name() string { return "proto" }

// serving is a call while it is answered.
type serving struct {
	s      *GRPC
	stream grpc.ServerStream
	ctx    context.Context
	call   *Call
	conn   *grpcConn
	b      GRPCBehaviour
	probe  bool
	all    []byte // the call's messages put together
	header metadata.MD
	// headSet: the head is sent, or will be with the first message.
	headSet bool
	// forget ends the watch for the call's being given up.
	forget func() bool
}

// handle answers a call of any method.
func (s *GRPC) handle(_ any, stream grpc.ServerStream) error {
	r := s.begin(stream)
	r.forget = context.AfterFunc(r.ctx, func() { r.canceled(r.ctx.Err()) })
	err := r.answer()
	if !r.headSet {
		stream.SetTrailer(r.header) // trailers only: there is no other place
	}
	if r.forget() && r.ctx.Err() != nil && givenUp(err) {
		r.canceled(r.ctx.Err()) // the answer has met the end of the call before the watch began
	}
	s.mu.Lock()
	r.call.Ended = time.Now()
	s.mu.Unlock()
	if !r.probe {
		s.counts.ended.Add(1)
	}
	return err
}

// begin records the call and decides what is done with it.
func (s *GRPC) begin(stream grpc.ServerStream) *serving {
	r := &serving{s: s, stream: stream, ctx: stream.Context(), b: *s.behaviour.Load()}
	call := &Call{Begun: time.Now()}
	call.Method, _ = grpc.Method(r.ctx)
	call.Metadata, _ = metadata.FromIncomingContext(r.ctx)
	if deadline, ok := r.ctx.Deadline(); ok {
		call.Timeout = time.Until(deadline)
	}
	r.call, r.probe = call, call.Method == grpc_health_v1.Health_Check_FullMethodName
	list := &s.calls
	if r.probe {
		s.counts.probes.Add(1)
		list = &s.probes
	} else {
		call.N = s.counts.calls.Add(1)
	}
	from, _ := peer.FromContext(r.ctx)
	s.mu.Lock()
	if c := s.conns[from.Addr.String()]; c != nil {
		r.conn, call.Connection = c, c.n
	}
	if len(*list) >= keptRequests {
		*list = append((*list)[:0], (*list)[1:]...)
	}
	*list = append(*list, call)
	head := *call
	s.mu.Unlock()
	switch {
	case r.probe && r.b.Probe != nil:
		r.b = *r.b.Probe
	case !r.probe && r.b.Respond != nil:
		r.b = r.b.Respond(&head)
	}
	return r
}

func (r *serving) answer() error {
	if err := r.sendMetadata(); err != nil {
		return err
	}
	if r.probe && r.s.behaviour.Load().Probe == nil {
		return r.answerHealth()
	}
	if r.b.echoes() {
		return r.echo()
	}
	if !r.b.Early && r.b.Fault != FaultHangReading {
		for {
			if _, err := r.receive(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	if err := r.wait(r.b.Latency); err != nil {
		return err
	}
	if r.b.Fault != FaultNone && r.b.Fault < FaultCloseMidBody {
		return r.fail()
	}
	if err := r.sendAll(); err != nil {
		return err
	}
	if r.b.Fault != FaultNone {
		return r.fail()
	}
	return status.Error(r.b.Code, r.b.Status)
}

// sendMetadata sets what goes into head and trailers. The head is handed over late: grpc-go sends
// one where there is anything to put into it, and an answer would not be trailers only.
func (r *serving) sendMetadata() error {
	trailer := metadata.Join(r.b.Trailer)
	r.header = metadata.Join(r.b.Header)
	for key, values := range r.call.Metadata {
		switch {
		case strings.HasPrefix(key, "echo-trailer-"):
			trailer.Append(key, values...)
		case strings.HasPrefix(key, "echo-"):
			r.header.Append(key, values...)
		}
	}
	if asked := r.call.Metadata.Get("endpoint-load-metrics-format"); len(asked) > 0 {
		if report := loadReport(r.b.Load, asked[0]); report != "" {
			trailer.Set("endpoint-load-metrics", report)
		}
	}
	r.stream.SetTrailer(trailer)
	if r.b.Head {
		return r.sendHead()
	}
	return nil
}

func (r *serving) sendHead() error {
	if r.headSet {
		return nil
	}
	r.headSet = true
	return r.stream.SendHeader(r.header)
}

// echo sends every message back as it comes.
func (r *serving) echo() error {
	for first := true; ; first = false {
		message, err := r.receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && first {
			err = r.wait(r.b.Latency)
		}
		if err == nil {
			err = r.send(message)
		}
		if err != nil {
			return err
		}
	}
}

// sendAll sends the messages of the behaviour.
func (r *serving) sendAll() error {
	body := r.b.Body
	if body == nil && r.b.Size > 0 {
		var err error
		if body, err = io.ReadAll(Pattern(int64(r.b.Size))); err != nil {
			return err
		}
	}
	if body == nil {
		body = r.all
	}
	for i := range r.b.Messages {
		if i > 0 {
			if err := r.wait(r.b.Pause); err != nil {
				return err
			}
		}
		if err := r.send(body); err != nil {
			return err
		}
	}
	if r.b.Fault >= FaultCloseMidBody {
		return r.sendHead()
	}
	return nil
}

// fail does what the fault says.
func (r *serving) fail() error {
	switch r.b.Fault {
	case FaultCloseBeforeHead, FaultResetBeforeHead:
		r.forget() // it is this server that gives up
		r.conn.end(r.b.Fault)
	case FaultCloseMidBody, FaultResetMidBody:
		// grpc-go writes when it likes to, so the connection ends as the trailers come by.
		r.conn.cut.Store(uint32(r.b.Fault))
		return nil
	}
	<-r.ctx.Done()
	return r.ctx.Err()
}

// wait pauses, unless the call is given up meanwhile.
func (r *serving) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *serving) receive() ([]byte, error) {
	var message []byte
	if err := r.stream.RecvMsg(&message); err != nil {
		return nil, err
	}
	if !r.b.echoes() {
		r.all = append(r.all, message...)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.call.Received++; r.call.Received == 1 {
		r.call.First = message
	}
	r.call.Bytes += int64(len(message))
	if !r.probe {
		r.s.counts.received.Add(1)
	}
	return message, nil
}

func (r *serving) send(message []byte) error {
	if !r.headSet {
		r.headSet = true
		if err := r.stream.SetHeader(r.header); err != nil {
			return err
		}
	}
	if err := r.stream.SendMsg(&message); err != nil {
		return err
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.call.Sent++
	if !r.probe {
		r.s.counts.sent.Add(1)
	}
	return nil
}

// givenUp says whether an answer has ended because its call was given up.
func givenUp(err error) bool {
	code := status.Code(err)
	return code == codes.Canceled || code == codes.DeadlineExceeded || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// canceled records that the call was given up.
func (r *serving) canceled(cause error) {
	r.s.mu.Lock()
	r.call.Canceled, r.call.Cause = time.Now(), cause
	r.s.mu.Unlock()
	if !r.probe {
		r.s.counts.canceled.Add(1)
	}
}

// answerHealth answers grpc.health.v1.Health/Check.
func (r *serving) answerHealth() error {
	raw, err := r.receive()
	if err != nil {
		return err
	}
	var request grpc_health_v1.HealthCheckRequest
	if err := proto.Unmarshal(raw, &request); err != nil {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("this is no HealthCheckRequest: %v", err))
	}
	response, err := r.s.health.Check(r.ctx, &request)
	if err != nil {
		return err
	}
	if raw, err = proto.Marshal(response); err != nil {
		return err
	}
	return r.send(raw)
}
