package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"weir/backend/inference"
	"weir/backend/load"
	"weir/internal/telemetry"
)

// Bounds on gRPC clients. Proxies ping idle connections to know that they live, which grpc-go
// takes for an attack when it is more often than pingPeriod. Connections that are silent for
// aliveTime are asked whether anybody is there.
const (
	pingPeriod = 100 * time.Millisecond
	aliveTime  = 60 * time.Second
	// spareStreams is how many calls a connection may have beyond those that run or wait: they
	// are there to be refused.
	spareStreams = 64
	// Windows as large as a tensor, so that it does not wait for the client to be told to go on.
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

// grpcServer is the gRPC side of a Server: the Open Inference Protocol, health and reflection.
type grpcServer struct {
	inference.UnimplementedGRPCInferenceServiceServer
	s        *Server
	server   *grpc.Server
	health   grpcHealth
	active   atomic.Int64 // calls that are no streams
	stop     sync.Once
	stopping chan struct{}
}

func newGRPC(s *Server) *grpcServer {
	o := &s.options
	g := &grpcServer{s: s, stopping: make(chan struct{})}
	g.server = grpc.NewServer(
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(o.BodyLimit),
		grpc.MaxHeaderListSize(maxHead),
		grpc.MaxConcurrentStreams(uint32(o.Workers+o.Queue+spareStreams)),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingPeriod, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: aliveTime}),
	)
	inference.RegisterGRPCInferenceServiceServer(g.server, g)
	g.health.init(s)
	grpc_health_v1.RegisterHealthServer(g.server, &g.health)
	reflection.Register(g.server)
	return g
}

// ServeGRPC answers gRPC calls on ln until Shutdown; then it returns nil, at once when Shutdown
// came before. It closes ln. It may be called once, beside Serve.
func (s *Server) ServeGRPC(ln net.Listener) error {
	if err := s.grpc.server.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("cannot serve gRPC: %w", err)
	}
	return nil
}

// shutdown takes no more calls and lets running ones end. When ctx ends first, they run on and
// it returns ctx's error.
func (g *grpcServer) shutdown(ctx context.Context) error {
	g.stop.Do(func() { close(g.stopping) })
	done := make(chan struct{})
	go func() {
		g.server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		if g.active.Load() > 0 {
			return fmt.Errorf("gRPC calls are still running: %w", ctx.Err())
		}
		g.server.Stop() // only clients are left that do not hear that they should go
		return nil
	}
}

// unary is around every call but streams.
func (g *grpcServer) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	g.active.Add(1)
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, g.panicked(p)
		}
		g.addLoadReport(ctx)
		g.active.Add(-1)
	}()
	return handler(ctx, request)
}

func (g *grpcServer) panicked(p any) error {
	g.s.log.Error("panic in a request", telemetry.Panic(p, debug.Stack()))
	g.s.unnamed.count(&fault{kind: faultPanic})
	return status.Error(codes.Internal, "internal error")
}

// stream is around the streams, which are reflection and watches of the health: they have no end
// of their own, and a server that stops would wait for them.
func (g *grpcServer) stream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				ended <- g.panicked(p)
			}
		}()
		ended <- handler(server, stream)
	}()
	select {
	case err := <-ended:
		return err
	case <-g.stopping:
		return status.Error(codes.Unavailable, "the server is stopping")
	}
}

// addLoadReport adds the ORCA report to the trailers when the call asks for it: in the form of
// the header field of REST, or as the binary metadata that gRPC's own load balancers read.
func (g *grpcServer) addLoadReport(ctx context.Context) {
	asked := metadata.ValueFromIncomingContext(ctx, load.RequestHeader)
	if len(asked) == 0 {
		return
	}
	format, text := load.ParseFormat([]byte(asked[0]))
	if !text && !strings.EqualFold(asked[0], "bin") {
		return
	}
	r := g.s.reports.Get().(*load.Report)
	defer g.s.reports.Put(r)
	g.s.report(r)
	if text {
		addTrailers(ctx, load.ResponseHeader, string(r.Append(nil, format)))
	} else {
		addTrailers(ctx, load.BinaryResponseHeader, string(r.AppendProtobuf(nil)))
	}
}

// pushbackTrailer is gRPC's Retry-After, in milliseconds (gRFC A6).
const pushbackTrailer = "grpc-retry-pushback-ms"

// callPatience is how long, and how urgently, the client of a call waits.
func callPatience(ctx context.Context) patience {
	p := patience{ctx: ctx}
	if asked := metadata.ValueFromIncomingContext(ctx, priorityHeader); len(asked) > 0 {
		p.priority = parsePriority(asked[0])
	}
	return p
}

// addTrailers adds keys and values to the trailers of a call.
func addTrailers(ctx context.Context, pairs ...string) {
	if err := grpc.SetTrailer(ctx, metadata.Pairs(pairs...)); err != nil {
		panic("BUG: not the context of a call: " + err.Error())
	}
}

// failed is the fault as a status.
func failed(ctx context.Context, f *fault) error {
	if f.kind == faultCanceled && ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(f.code(), f.message)
}

// code is what status is over REST.
func (f *fault) code() codes.Code {
	switch f.kind {
	case faultRequest:
		return codes.InvalidArgument
	case faultUnknownModel:
		return codes.NotFound
	case faultNotReady:
		return codes.Unavailable
	case faultOverload:
		return codes.ResourceExhausted
	case faultDeadline:
		if f.status == fasthttp.StatusGatewayTimeout {
			return codes.DeadlineExceeded
		}
		return codes.Unavailable
	case faultCanceled:
		return codes.Canceled
	}
	return codes.Internal
}
