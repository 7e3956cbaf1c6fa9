package backend

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// TestGRPCPings pings as a proxy does that wants to know whether an idle connection lives. By
// grpc-go's default a few pings would end it.
func TestGRPCPings(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	nc, err := net.Dial("tcp", r.serveGRPC())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(nc, nc)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for n := range byte(6) {
		if err := framer.WritePing(false, [8]byte{n}); err != nil {
			t.Fatal(err)
		}
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("after ping %d: %v", n, err)
			}
			if away, ok := f.(*http2.GoAwayFrame); ok {
				t.Fatalf("after ping %d: GOAWAY %s", n, away.DebugData())
			}
			if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() && ping.Data == [8]byte{n} {
				break
			}
		}
		time.Sleep(pingPeriod) // the client's pause, not a wait for the server
	}
}

func TestGRPCHealth(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, false)
	c, ctx := grpc_health_v1.NewHealthClient(r.dial()), patient(t)
	const serving, not = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING
	watch, err := c.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "a"})
	if err != nil {
		t.Fatal(err)
	}
	f := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "a", "inference.GRPCInferenceService"} {
			if got, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service}); err != nil || got.Status != want {
				t.Errorf("%q: %v, %v; want %s", service, got, err, want)
			}
		}
		if got, err := watch.Recv(); err != nil || got.Status != want {
			t.Errorf("watched: %v, %v; want %s", got, err, want)
		}
	}
	f(not)
	if err := r.server.Load(); err != nil {
		t.Fatal(err)
	}
	f(serving)
	_, err = c.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "b"})
	wantStatus(t, err, codes.NotFound, "")
	r.server.Drain()
	f(not)
	// A watch does not hold up the stop.
	if err := r.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	_, err = watch.Recv()
	wantStatus(t, err, codes.Unavailable, "the server is stopping")
}

func TestGRPCReflection(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	stream, err := grpc_reflection_v1.NewServerReflectionClient(r.dial()).ServerReflectionInfo(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	list := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	for _, want := range []string{"inference.GRPCInferenceService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("the services are %v, without %s", names, want)
		}
	}
	file := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "inference.GRPCInferenceService.ModelInfer",
	}})
	if got := file.GetFileDescriptorResponse().GetFileDescriptorProto(); len(got) != 1 || !strings.Contains(string(got[0]), "raw_input_contents") {
		t.Errorf("the descriptors are %q", got)
	}
}
