package backend

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"weir/backend/inference"
	"weir/backend/load"
	"weir/backend/tensor"
)

// serveGRPC serves gRPC too, at the address.
func (r *running) serveGRPC() (addr string) {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.beside.Go(func() {
		if err := r.server.ServeGRPC(ln); err != nil {
			r.t.Error(err)
		}
	})
	return ln.Addr().String()
}

// dial serves gRPC too and returns a client's connection.
func (r *running) dial() *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.serveGRPC(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func (r *running) grpc() inference.GRPCInferenceServiceClient {
	r.t.Helper()
	return inference.NewGRPCInferenceServiceClient(r.dial())
}

// patient ends a test that hangs.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantStatus checks how a call ended: its code and a part of its message.
func wantStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != code || !strings.Contains(s.Message(), message) {
		t.Errorf("got %s %q; want %s and %q in it", s.Code(), s.Message(), code, message)
	}
}

// doubled asks the model "a", a doubler, about two numbers.
func doubled() *inference.ModelInferRequest {
	return &inference.ModelInferRequest{ModelName: "a", Inputs: []*inference.ModelInferRequest_InferInputTensor{{
		Name: "x", Datatype: "FP64", Shape: []int64{1, 2}, Contents: &inference.InferTensorContents{Fp64Contents: []float64{1, 2}},
	}}}
}

func TestGRPCMetadata(t *testing.T) {
	r := start(t, Options{
		Models: []Source{source("m", "v1", two()), source("n", "v1", doubler()), source("m", "v2", two())}, Build: "1.2.3",
	}, true)
	c, ctx := r.grpc(), patient(t)
	if got, err := c.ServerLive(ctx, &inference.ServerLiveRequest{}); err != nil || !got.Live {
		t.Errorf("live: %v, %v", got, err)
	}
	if got, err := c.ServerReady(ctx, &inference.ServerReadyRequest{}); err != nil || !got.Ready {
		t.Errorf("ready: %v, %v", got, err)
	}
	if got, err := c.ModelReady(ctx, &inference.ModelReadyRequest{Name: "m", Version: "v2"}); err != nil || !got.Ready {
		t.Errorf("model ready: %v, %v", got, err)
	}
	server, err := c.ServerMetadata(ctx, &inference.ServerMetadataRequest{})
	wantServer := &inference.ServerMetadataResponse{Name: "weir-backend", Version: "1.2.3", Extensions: []string{"binary_tensor_data", "model_repository", "schedule_policy"}}
	if diff := cmp.Diff(wantServer, server, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	type spec = inference.ModelMetadataResponse_TensorMetadata
	model, err := c.ModelMetadata(ctx, &inference.ModelMetadataRequest{Name: "m"})
	wantModel := &inference.ModelMetadataResponse{
		Name: "m", Versions: []string{"v1", "v2"}, Platform: "test",
		Inputs:  []*spec{{Name: "a", Datatype: "FP32", Shape: []int64{-1, 2}}, {Name: "b", Datatype: "BYTES", Shape: []int64{-1}}},
		Outputs: []*spec{{Name: "a/out", Datatype: "FP32", Shape: []int64{-1, 2}}, {Name: "b/out", Datatype: "BYTES", Shape: []int64{-1}}},
	}
	if diff := cmp.Diff(wantModel, model, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	_, err = c.ModelMetadata(ctx, &inference.ModelMetadataRequest{Name: "x"})
	wantStatus(t, err, codes.NotFound, "there is no model x (have m, n)")
	_, err = c.ModelReady(ctx, &inference.ModelReadyRequest{Name: "m", Version: "v3"})
	wantStatus(t, err, codes.NotFound, "model m has no version v3 (have v1, v2)")
}

func TestGRPCBeforeModelsAreLoaded(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, false)
	c, ctx := r.grpc(), patient(t)
	if got, err := c.ServerLive(ctx, &inference.ServerLiveRequest{}); err != nil || !got.Live {
		t.Errorf("live: %v, %v", got, err)
	}
	if got, err := c.ServerReady(ctx, &inference.ServerReadyRequest{}); err != nil || got.Ready {
		t.Errorf("ready: %v, %v", got, err)
	}
	_, err := c.ModelInfer(ctx, doubled())
	wantStatus(t, err, codes.Unavailable, "the models are being loaded")
	_, err = c.ModelReady(ctx, &inference.ModelReadyRequest{Name: "a"})
	wantStatus(t, err, codes.Unavailable, "the models are being loaded")
	r.wantMetric(`ml_errors_total{error_type="not_ready",model_version=""} 1`)
}

// TestGRPCFailures are those of the model and of this program.
func TestGRPCFailures(t *testing.T) {
	m := doubler()
	double := m.run
	r := start(t, Options{Models: []Source{source("a", "v1", m)}, Workers: 1}, true)
	c, ctx := r.grpc(), patient(t)
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { panic("at the model") }
	for range 3 {
		_, err := c.ModelInfer(ctx, doubled())
		wantStatus(t, err, codes.Internal, "internal error")
	}
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { return nil, errors.New("out of range") }
	var head, trailers metadata.MD
	_, err := c.ModelInfer(ctx, doubled(), grpc.Header(&head), grpc.Trailer(&trailers))
	wantStatus(t, err, codes.Internal, "the model failed: out of range")
	if head.Len() > 0 || !cmp.Equal(trailers.Get(versionHeader), []string{"v1"}) {
		t.Errorf("head %v, trailers %v; want the version in the trailers, and no head", head, trailers)
	}
	m.run = double
	answer, err := c.ModelInfer(ctx, doubled(), grpc.Header(&head))
	if err != nil || !cmp.Equal(answer.Outputs[0].Contents.Fp64Contents, []float64{2, 4}) {
		t.Errorf("%v, %v", answer, err)
	}
	if !cmp.Equal(head.Get(modelHeader), []string{"a"}) || !cmp.Equal(head.Get(versionHeader), []string{"v1"}) {
		t.Errorf("the head is %v", head)
	}
	r.wantMetric(`ml_errors_total{error_type="panic",model_version=""} 3`)
	r.wantMetric(`ml_errors_total{error_type="model",model_version="v1"} 1`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 4`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="success"} 1`)
	r.wantMetric(`ml_prediction_latency_seconds_count{model_version="v1"} 1`)
	r.wantMetric("ml_active_requests 0")
}

// TestGRPCQueue fills one worker and a queue of one, over HTTP/1.1 and gRPC: they share both.
func TestGRPCQueue(t *testing.T) {
	m, entered, proceed := gated()
	r := start(t, Options{Models: []Source{source("a", "v1", m)}, Workers: 1, Queue: 1}, true)
	c := r.grpc()
	answers := make(chan response, 1)
	go func() { answers <- r.post("/v2/models/a/infer", inferBody) }()
	<-entered

	// A call that waits is given up by its client, another by its deadline: neither runs.
	ctx, cancel := context.WithCancel(patient(t))
	ended := make(chan error, 1)
	infer := func(ctx context.Context) {
		_, err := c.ModelInfer(ctx, doubled())
		ended <- err
	}
	go infer(ctx)
	r.await("ml_queued_requests 1")
	var trailers metadata.MD
	_, err := c.ModelInfer(metadata.AppendToOutgoingContext(ctx, load.RequestHeader, "TEXT"), doubled(), grpc.Trailer(&trailers))
	wantStatus(t, err, codes.ResourceExhausted, "too many requests wait already")
	report, err := load.Parse(strings.Join(trailers.Get(load.ResponseHeader), "?"))
	if queue, _ := load.Find(report.Named, "queue"); err != nil || queue != 1 {
		t.Errorf("the load is %+v, %v", report, err)
	}
	cancel()
	wantStatus(t, <-ended, codes.Canceled, "")
	r.await("ml_queued_requests 0")
	ctx, cancel = context.WithTimeout(patient(t), 20*time.Millisecond)
	defer cancel()
	infer(ctx)
	wantStatus(t, <-ended, codes.DeadlineExceeded, "")
	// The client's cancellation and the end of the call's time race to the server.
	r.awaitOne(`ml_errors_total{error_type="canceled",model_version="v1"} 2`, `ml_errors_total{error_type="deadline",model_version="v1"} 1`)

	go infer(patient(t))
	r.await("ml_queued_requests 1")
	close(proceed)
	<-entered
	if err := <-ended; err != nil {
		t.Errorf("a call that waited: %v", err)
	}
	if got := <-answers; got.status != 200 {
		t.Errorf("the request before it: %d %s", got.status, got.body)
	}
	r.wantMetric(`ml_errors_total{error_type="overload",model_version="v1"} 1`)
	// The refused call is an error of the server's, and so is one that it kept waiting for too long;
	// those that were given up are not.
	r.awaitOne(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 1`,
		`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 2`)
	r.await("ml_active_requests 0")
}

func TestGRPCLoadReport(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	c := r.grpc()
	f := func(asked string) metadata.MD {
		t.Helper()
		ctx := patient(t)
		if asked != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, load.RequestHeader, asked)
		}
		var trailers metadata.MD
		if _, err := c.ModelInfer(ctx, doubled(), grpc.Trailer(&trailers)); err != nil {
			t.Fatal(err)
		}
		return trailers
	}
	for asked, prefix := range map[string]string{"text": "TEXT ", "json": "JSON {"} {
		value := strings.Join(f(asked).Get(load.ResponseHeader), "?")
		report, err := load.Parse(value)
		if _, ok := load.Find(report.Named, "in_flight"); err != nil || !ok || !strings.HasPrefix(value, prefix) {
			t.Errorf("%s: %q, %v", asked, value, err)
		}
	}
	raw := strings.Join(f("bin").Get(load.BinaryResponseHeader), "?")
	report, err := load.ParseBinary(base64.StdEncoding.EncodeToString([]byte(raw)))
	if _, ok := load.Find(report.Named, "in_flight"); err != nil || !ok {
		t.Errorf("bin: %q, %v", raw, err)
	}
	for _, asked := range []string{"", "xml"} {
		if trailers := f(asked); trailers.Len() > 0 {
			t.Errorf("asked for %q: %v", asked, trailers)
		}
	}
}

func TestGRPCTooLargeMessage(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}, BodyLimit: 1 << 10}, true)
	c := r.grpc()
	request := doubled()
	request.Id = strings.Repeat("x", 1<<10)
	_, err := c.ModelInfer(patient(t), request)
	wantStatus(t, err, codes.ResourceExhausted, "larger than max")
	if _, err := c.ModelInfer(patient(t), doubled()); err != nil {
		t.Error(err)
	}
}

// TestGRPCShutdown lets a running call end, takes no new one, and does not wait for ever.
func TestGRPCShutdown(t *testing.T) {
	m, entered, proceed := gated()
	r := start(t, Options{Models: []Source{source("a", "v1", m)}}, true)
	c := r.grpc()
	ended := make(chan error, 1)
	go func() {
		_, err := c.ModelInfer(patient(t), doubled())
		ended <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.server.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "gRPC calls are still running") {
		t.Errorf("with a running call: %v", err)
	}
	if m.closed > 0 {
		t.Error("the model was closed under a running call")
	}
	for {
		_, err := c.ServerLive(patient(t), &inference.ServerLiveRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	close(proceed)
	if err := <-ended; err != nil {
		t.Errorf("the running call: %v", err)
	}
	if err := r.server.Shutdown(patient(t)); err != nil || m.closed != 1 {
		t.Errorf("then: %v, closed %d times", err, m.closed)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.server.ServeGRPC(ln); err != nil {
		t.Errorf("ServeGRPC after Shutdown: %v", err)
	}
}
