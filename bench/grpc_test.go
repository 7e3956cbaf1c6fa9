package bench

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"weir/backend/inference"
)

// model answers what it is asked, as the model server does.
type model struct {
	inference.UnimplementedGRPCInferenceServiceServer
	t *testing.T
}

func (m model) ModelInfer(ctx context.Context, in *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-weir-variant", "blue"))
	if in.GetModelName() == "none" {
		return nil, status.Error(codes.NotFound, "no such model")
	}
	raw := in.GetRawInputContents()
	for i, input := range in.GetInputs() {
		if input.GetName() != inferInput || input.GetDatatype() != "FP32" || len(input.GetShape()) != 2 || int64(len(raw[i])) != 4*input.GetShape()[1] {
			m.t.Errorf("asked %v with %d bytes", input, len(raw[i]))
		}
	}
	// The first pixel is the label; a model that is wrong about 7.
	label := uint64(math.Round(float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[0]))) * 255))
	if label == 7 {
		label = 1
	}
	answer := &inference.ModelInferResponse{Outputs: []*inference.ModelInferResponse_InferOutputTensor{{Name: inferOutput, Datatype: "INT64", Shape: []int64{1}}}}
	answer.RawOutputContents = [][]byte{binary.LittleEndian.AppendUint64(nil, label)}
	return answer, nil
}

func grpcServer(t *testing.T) string {
	t.Helper()
	s := grpc.NewServer()
	inference.RegisterGRPCInferenceServiceServer(s, model{t: t})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func TestAttackByGRPC(t *testing.T) {
	url := grpcServer(t)
	run := func(target *GRPC, err error) *Tally {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		a := attack(t, Options{
			Address: target.Address(), Target: target, Pacer: Constant(1000), Duration: 100 * time.Millisecond,
			HTTP2: true, Connections: 2, Streams: 8,
		})
		if err := a.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		return a.Take()
	}
	request := Request{URL: url, Seed: 1}
	var images []Image
	for i := range 10 {
		images = append(images, Image{Pixels: []byte{byte(i), 1, 2}, Label: i})
	}
	blue := run(NewGRPCInfer(request, "m", images)).Variants["blue"]
	if blue == nil || blue.OK != 100 || blue.Judged != 100 || blue.Right == 100 || blue.Right < 50 {
		t.Errorf("images: %+v; want 100 judged, most of them right", blue)
	}
	if total := run(NewGRPCTensors(request, "m", []Tensor{{inferInput, "FP32", []int{1, 10}}})).Total(); total.OK != 100 {
		t.Errorf("tensors: %d of 100, %v, %v", total.OK, total.Failures, total.GRPC)
	}
	tally := run(NewGRPCTensors(request, "none", []Tensor{{inferInput, "FP32", []int{1, 10}}}))
	total := tally.Total()
	if total.OK != 0 || total.GRPC[int(codes.NotFound)] != 100 || total.Errors() != 100 {
		t.Errorf("no such model: %+v", total)
	}
	if kinds := Summarize(tally, time.Second).Total.Kinds(); kinds != "grpc NotFound 100" {
		t.Errorf("kinds %q", kinds)
	}
	// Another method, of another service, and a message that is none.
	if total := run(NewGRPC(request, "/a.B/C", nil)).Total(); total.GRPC[int(codes.Unimplemented)] != 100 {
		t.Errorf("no such service: %+v", total)
	}
	if total := run(NewGRPC(request, InferMethod, []byte("\xff"))).Total(); total.GRPC[int(codes.Internal)] != 100 {
		t.Errorf("no message: %+v", total)
	}
}

func TestGRPCAnswersThatAreNone(t *testing.T) {
	target, err := NewGRPC(Request{URL: "http://127.0.0.1:1"}, "/a.B/C", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		r    Response
		want Verdict
	}{
		{"no status", Response{Body: []byte("\x00\x00\x00\x00\x00"), GRPC: NoGRPC}, Unreadable},
		{"empty", Response{}, Unjudged},
		{"two messages", Response{Body: []byte("\x00\x00\x00\x00\x01a\x00\x00\x00\x00\x00")}, Unjudged},
		{"half a message", Response{Body: []byte("\x00\x00\x00\x00\x02a")}, Unreadable},
		{"half a prefix", Response{Body: []byte("\x00\x00\x00")}, Unreadable},
		{"more than is kept", Response{Body: append([]byte("\x00\x00\x0f\x00\x00"), make([]byte, MaxKept-5)...)}, Unjudged},
	} {
		if got := target.Judge(Hit{}, &tt.r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, b := range []string{"", "\xff", "\x2a\x05a", "\x2a\x00\x32\x02ab"} {
		if label, err := readInferMessage([]byte(b)); err == nil {
			t.Errorf("%q has the label %d", b, label)
		}
	}
}

func TestNewGRPCRefuses(t *testing.T) {
	for _, tt := range []struct{ url, method string }{
		{"http://x/path", "/a.B/C"}, {"http://x", "a.B/C"}, {"http://x", "/a.B"}, {"http://x", "/a.B/C/D"}, {"http://x", "//C"}, {"http://x", "/a B/C"}, {"ftp://x", "/a.B/C"},
	} {
		if _, err := NewGRPC(Request{URL: tt.url}, tt.method, nil); err == nil {
			t.Errorf("%v is accepted", tt)
		}
	}
	if _, err := NewGRPCTensors(Request{URL: "http://x"}, "m", nil); err == nil {
		t.Error("no tensors are accepted")
	}
	if _, err := NewGRPCInfer(Request{URL: "http://x"}, "m", nil); err == nil {
		t.Error("no images are accepted")
	}
}
