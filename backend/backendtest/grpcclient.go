package backendtest

import (
	"context"
	"math"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// GRPCClient calls methods with messages as the bytes they are. It is grpc-go's client.
type GRPCClient struct{ *grpc.ClientConn }

// DialGRPC returns a client of the server at HOST:PORT, in clear unless the options say
// otherwise. It connects with its first call and is closed when the test ends.
func DialGRPC(t testing.TB, addr string, options ...grpc.DialOption) *GRPCClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
	}, options...)...)
	if err != nil {
		t.Fatalf("backendtest: cannot make a client of %s: %v", addr, err)
	}
	t.Cleanup(func() { conn.Close() })
	return &GRPCClient{conn}
}

// Unary makes a unary call.
func (c *GRPCClient) Unary(ctx context.Context, method string, message []byte, options ...grpc.CallOption) ([]byte, error) {
	var answer []byte
	err := c.Invoke(ctx, method, &message, &answer, options...)
	return answer, err
}

// Stream begins a call that streams both ways; as the other kinds are special cases of it, it
// serves for them too. Who does not read it to its end cancels ctx.
func (c *GRPCClient) Stream(ctx context.Context, method string, options ...grpc.CallOption) (*GRPCStream, error) {
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, options...)
	if err != nil {
		return nil, err
	}
	return &GRPCStream{stream}, nil
}

// GRPCStream is a call that streams both ways.
type GRPCStream struct{ grpc.ClientStream }

// Send sends a message.
func (s *GRPCStream) Send(message []byte) error { return s.SendMsg(&message) }

// Recv receives one. io.EOF is the end with status OK; other errors have the status.
func (s *GRPCStream) Recv() ([]byte, error) {
	var message []byte
	err := s.RecvMsg(&message)
	return message, err
}
