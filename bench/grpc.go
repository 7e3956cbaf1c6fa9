package bench

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// InferMethod is the method of the Open Inference Protocol V2 that asks a model.
const InferMethod = "/inference.GRPCInferenceService/ModelInfer"

// grpcPrefix is the length of what stands before each message: whether it is compressed, and its length.
const grpcPrefix = 5

// GRPC is a target that calls a method with one message, drawn evenly at random from those it has. It
// takes any number of messages as the answer, and needs HTTP/2.
type GRPC struct {
	head   head
	bodies [][]byte
	labels []int // that the answers should carry; nil when they are not looked at
}

// NewGRPC returns the target that calls method, /PACKAGE.SERVICE/METHOD, of the server at r.URL, which has
// no path, with message.
func NewGRPC(r Request, method string, message []byte) (*GRPC, error) {
	return newGRPC(r, method, [][]byte{message}, nil)
}

// NewGRPCTensors returns the target that asks a model about random values as [NewTensors] does, in raw
// contents of a ModelInferRequest.
func NewGRPCTensors(r Request, model string, inputs []Tensor) (*GRPC, error) {
	if len(inputs) == 0 {
		return nil, fmt.Errorf("at least one tensor is needed")
	}
	var messages [][]byte
	left := generatedBytes
	for i := uint64(0); i < generated && (left > 0 || i == 0); i++ {
		raw := make([][]byte, len(inputs))
		for k := range inputs {
			raw[k] = inputs[k].binary(nil, r.Seed, streamBodies*(i*uint64(len(inputs))+uint64(k)+1))
		}
		message := inferMessage(model, inputs, "", raw)
		left -= len(message)
		messages = append(messages, message)
	}
	return newGRPC(r, InferMethod, messages, nil)
}

// NewGRPCInfer returns the target that asks a model about labelled images as [NewInfer] does, in raw
// contents of a ModelInferRequest.
func NewGRPCInfer(r Request, model string, images []Image) (*GRPC, error) {
	if len(images) == 0 {
		return nil, fmt.Errorf("at least one image is needed")
	}
	messages, labels := make([][]byte, len(images)), make([]int, len(images))
	for i, image := range images {
		input := Tensor{Name: inferInput, Datatype: "FP32", Shape: []int{1, len(image.Pixels)}}
		messages[i] = inferMessage(model, []Tensor{input}, inferOutput, [][]byte{appendPixels(nil, image.Pixels)})
		labels[i] = image.Label
	}
	return newGRPC(r, InferMethod, messages, labels)
}

func newGRPC(r Request, method string, messages [][]byte, labels []int) (*GRPC, error) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("target: %w", err)
	case u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("target %q: the path of gRPC is its method, leave it out", r.URL)
	case !isMethod(method):
		return nil, fmt.Errorf("gRPC method %q: must be /PACKAGE.SERVICE/METHOD", method)
	}
	u.Path, u.RawQuery = "", ""
	r.URL, r.Method = u.String()+method, "POST"
	r.Header = append([]Field{{"Content-Type", "application/grpc"}, {"TE", "trailers"}}, r.Header...)
	t := &GRPC{labels: labels}
	if t.head, err = newHead(r); err != nil {
		return nil, err
	}
	t.head.noLength = true
	for _, m := range messages {
		t.bodies = append(t.bodies, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...))
	}
	return t, nil
}

func isMethod(method string) bool {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	path, _, _ := strings.Cut(name, "?")
	return ok && strings.HasPrefix(method, "/") && service != "" && path != "" && !strings.ContainsAny(method, " \t\r\n") && !strings.Contains(path, "/")
}

// Address returns the HOST:PORT that an attack on this target connects to.
func (t *GRPC) Address() string { return t.head.address }

// Append implements [Target].
func (t *GRPC) Append(b []byte, n uint64) ([]byte, Hit) {
	i := draw(t.head.seed, streamImages, n, len(t.bodies))
	b, user := t.head.append(b, n, len(t.bodies[i]))
	hit := Hit{User: user, Label: -1}
	if t.labels != nil {
		hit.Label = t.labels[i]
	}
	return append(b, t.bodies[i]...), hit
}

// Judge implements [Target].
func (t *GRPC) Judge(hit Hit, r *Response) Verdict {
	message, err := grpcAnswer(r)
	if err != nil {
		return Unreadable
	}
	if t.labels == nil {
		return Unjudged
	}
	label, err := readInferMessage(message)
	switch {
	case err != nil:
		return Unreadable
	case label == hit.Label:
		return Right
	}
	return Wrong
}

// grpcAnswer returns the first message of an answer, which must have a status and whole messages only.
func grpcAnswer(r *Response) (first []byte, err error) {
	if r.GRPC == NoGRPC {
		return nil, fmt.Errorf("an answer without grpc-status")
	}
	for b := r.Body; len(b) > 0; {
		if len(b) < grpcPrefix || int64(len(b)-grpcPrefix) < int64(binary.BigEndian.Uint32(b[1:])) {
			if len(r.Body) == MaxKept {
				break // the rest was not kept
			}
			return nil, fmt.Errorf("half a message")
		}
		end := grpcPrefix + int(binary.BigEndian.Uint32(b[1:]))
		if first == nil {
			first = b[grpcPrefix:end]
		}
		b = b[end:]
	}
	return first, nil
}

// The fields of ModelInferRequest, of the tensors in it, and of ModelInferResponse that are used.
const (
	fieldModelName = 1
	fieldInputs    = 5
	fieldOutputs   = 6
	fieldRawInputs = 7

	fieldTensorName     = 1
	fieldTensorDatatype = 2
	fieldTensorShape    = 3

	fieldAnswerOutputs    = 5
	fieldAnswerRawOutputs = 6
)

// inferMessage encodes a ModelInferRequest, which asks for one output where it names it.
func inferMessage(model string, inputs []Tensor, output string, raw [][]byte) []byte {
	b := appendString(nil, fieldModelName, model)
	for _, t := range inputs {
		in := appendString(nil, fieldTensorName, t.Name)
		in = appendString(in, fieldTensorDatatype, t.Datatype)
		var shape []byte
		for _, n := range t.Shape {
			shape = protowire.AppendVarint(shape, uint64(n))
		}
		b = appendBytes(b, fieldInputs, appendBytes(in, fieldTensorShape, shape))
	}
	if output != "" {
		b = appendBytes(b, fieldOutputs, appendString(nil, fieldTensorName, output))
	}
	for _, r := range raw {
		b = appendBytes(b, fieldRawInputs, r)
	}
	return b
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, p []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), p)
}

// readInferMessage reads the label out of a ModelInferResponse whose only output is asked to be it.
func readInferMessage(b []byte) (int, error) {
	var outputs, raw [][]byte
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return 0, protowire.ParseError(n)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			switch field {
			case fieldAnswerOutputs:
				outputs = append(outputs, value)
			case fieldAnswerRawOutputs:
				raw = append(raw, value)
			}
		}
		b = b[n:]
	}
	if len(outputs) != 1 || len(raw) != 1 || len(raw[0]) != 8 {
		return 0, fmt.Errorf("%d outputs, %d raw, want one of 8 bytes", len(outputs), len(raw))
	}
	return int(int64(binary.LittleEndian.Uint64(raw[0]))), nil
}
