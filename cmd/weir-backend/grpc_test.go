package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"weir/backend/inference"
	"weir/config"
	"weir/internal/certificate/certificatetest"
	"weir/proxy"
)

// before is a weir before one endpoint of gRPC, and says where it listens. listener and pool are lines of its file.
func before(t *testing.T, address, listener, pool string) (*proxy.Proxy, string) {
	t.Helper()
	cfg, err := config.Parse("weir.yaml", fmt.Appendf(nil, `
listeners: [{address: "127.0.0.1:0", %s}]
log: {access: {output: "off"}}
pools: {models: {endpoints: [%q], protocol: http2, probe: {grpc: {service: iris}, interval: 1s, timeout: 1s, rise: 1, fall: 1}, %s}}
routes: [{name: all, split: {models: 1}}]
`, listener, address, pool))
	if err != nil {
		t.Fatal(err)
	}
	p := serving(t, cfg)
	for deadline := time.Now().Add(20 * time.Second); len(p.Addrs()) == 0 || !p.Status().Pools[0].Endpoints[0].Healthy || asked(t, p, "probe", "success") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %+v", p.Status().Pools[0].Endpoints[0])
		}
	}
	return p, p.Addrs()[0].String()
}

// TestGRPCThroughWeir: gRPC's own client reaches a model through weir, plain and, by two of them, over TLS on both
// sides of the first: calls, streams, reflection, and the health of a model, by which weir probes as well.
func TestGRPCThroughWeir(t *testing.T) {
	b := start(t, nil, "--model", "iris="+iris, "--grpc-listen", "127.0.0.1:0")
	b.base()
	address := b.said("listening for gRPC")["address"].(string)
	authority := certificatetest.New(t)
	folder := t.TempDir()
	cert, key := authority.Issue(t, time.Hour).Write(t, folder)
	certificatetest.WriteFile(t, folder+"/ca.crt", authority.PEM())
	overTLS := fmt.Sprintf("tls: {certificates: [{cert: %q, key: %q}]}", cert, key)

	inner, plain := before(t, address, "", "")
	_, secured := before(t, address, overTLS, "")
	outer, both := before(t, secured, overTLS, fmt.Sprintf("tls: {ca: %q}", folder+"/ca.crt"))
	for name, c := range map[string]struct {
		weir    *proxy.Proxy
		address string
		trust   credentials.TransportCredentials
	}{
		"plain":             {inner, plain, insecure.NewCredentials()},
		"TLS on both sides": {outer, both, credentials.NewTLS(&tls.Config{RootCAs: authority.Pool()})},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(c.trust), grpc.WithNoProxy())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			calls(t, conn)
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				v := c.weir.Status().Routes[0].Variants[0]
				if v.Requests >= 6 && v.Errors == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%+v", v)
				}
			}
		})
	}
}

// calls makes calls of every kind that the model server has.
func calls(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := inference.NewGRPCInferenceServiceClient(conn)
	flower := &inference.ModelInferRequest{ModelName: "iris", Inputs: []*inference.ModelInferRequest_InferInputTensor{{
		Name: "X", Datatype: "FP32", Shape: []int64{1, 4}, Contents: &inference.InferTensorContents{Fp32Contents: []float32{6.3, 3.3, 6.0, 2.5}},
	}}}
	if answer, err := c.ModelInfer(ctx, flower); err != nil || answer.Outputs[0].Contents.Int64Contents[0] != 2 {
		t.Errorf("%v, %v; want species 2", answer, err)
	}
	flower.ModelName = "rose"
	if _, err := c.ModelInfer(ctx, flower); status.Code(err) != codes.NotFound {
		t.Errorf("a model that is not there: %v", err)
	}
	if answer, err := c.ServerReady(ctx, &inference.ServerReadyRequest{}); err != nil || !answer.Ready {
		t.Errorf("ready: %v, %v", answer, err)
	}
	health := grpc_health_v1.NewHealthClient(conn)
	if answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "iris"}); err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", answer, err)
	}
	watching, stop := context.WithCancel(ctx)
	watch, err := health.Watch(watching, &grpc_health_v1.HealthCheckRequest{Service: "iris"})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := watch.Recv(); err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("a watch: %v, %v", answer, err)
	}
	stop()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("a watch that its client ends: %v", err)
	}
	reflects(ctx, t, conn)
}

// reflects has two questions answered on one stream, each after the answer to the one before.
func reflects(ctx context.Context, t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if list := answer.GetListServicesResponse().GetService(); !slices.ContainsFunc(list, func(s *grpc_reflection_v1.ServiceResponse) bool { return s.Name == "inference.GRPCInferenceService" }) {
			t.Errorf("the services are %v", list)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}
