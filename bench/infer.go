package bench

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// What the labelled images ask a model: input is a FP32 tensor of one image, its pixels from 0
// to 1; output is an integer tensor of one label.
const (
	inferInput  = "image"
	inferOutput = "label"
)

// Infer is a target that asks a model about labelled images, one a request, by the Open
// Inference Protocol V2 over REST, and compares the answer with the label.
type Infer struct {
	head   head
	bodies [][]byte
	labels []int
}

// NewInfer returns the target that posts images to r.URL, drawn evenly at random; binary sends
// and asks for binary tensors instead of JSON. Without a path in r.URL, that of model is used.
func NewInfer(r Request, model string, images []Image, binaryTensors bool) (*Infer, error) {
	url, err := inferURL(r.URL, model)
	if err != nil {
		return nil, err
	}
	if len(images) == 0 {
		return nil, errors.New("at least one image is needed")
	}
	r.URL, r.Method = url, "POST"
	body, header := jsonBody, 0
	if binaryTensors {
		body, header = binaryBody, len(binaryHeader(len(images[0].Pixels)))
	}
	r.Header = append(inferFields(binaryTensors, header), r.Header...)
	t := &Infer{}
	if t.head, err = newHead(r); err != nil {
		return nil, err
	}
	for _, image := range images {
		t.bodies = append(t.bodies, body(image.Pixels))
		t.labels = append(t.labels, image.Label)
	}
	return t, nil
}

// Address returns the HOST:PORT that an attack on this target connects to.
func (t *Infer) Address() string { return t.head.address }

// Append implements [Target].
func (t *Infer) Append(b []byte, n uint64) ([]byte, Hit) {
	i := draw(t.head.seed, streamImages, n, len(t.bodies))
	b, user := t.head.append(b, n, len(t.bodies[i]))
	return append(b, t.bodies[i]...), Hit{User: user, Label: t.labels[i]}
}

// Judge implements [Target].
func (t *Infer) Judge(hit Hit, r *Response) Verdict {
	label, err := readLabel(r)
	switch {
	case err != nil:
		return Unreadable
	case label == hit.Label:
		return Right
	}
	return Wrong
}

func jsonBody(pixels []byte) []byte {
	b := fmt.Appendf(nil, `{"inputs":[{"name":%q,"shape":[1,%d],"datatype":"FP32","data":[`, inferInput, len(pixels))
	for i, p := range pixels {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(float32(p)/255), 'g', -1, 32)
	}
	return fmt.Appendf(b, `]}],"outputs":[{"name":%q}]}`, inferOutput)
}

func binaryHeader(pixels int) []byte {
	return fmt.Appendf(nil, `{"inputs":[{"name":%q,"shape":[1,%d],"datatype":"FP32","parameters":{"binary_data_size":%d}}],`+
		`"outputs":[{"name":%q,"parameters":{"binary_data":true}}]}`, inferInput, pixels, 4*pixels, inferOutput)
}

func binaryBody(pixels []byte) []byte {
	return appendPixels(binaryHeader(len(pixels)), pixels)
}

// appendPixels appends pixels from 0 to 1 as FP32.
func appendPixels(b, pixels []byte) []byte {
	for _, p := range pixels {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(p)/255))
	}
	return b
}

// inferAnswer is the part of an answer that is read.
type inferAnswer struct {
	Outputs []struct {
		Name       string  `json:"name"`
		Datatype   string  `json:"datatype"`
		Data       []int64 `json:"data"`
		Parameters struct {
			Size *int `json:"binary_data_size"`
		} `json:"parameters"`
	} `json:"outputs"`
}

// readLabel reads the label out of an answer whose only output is asked to be it.
func readLabel(r *Response) (int, error) {
	head, tensors := r.Body, []byte(nil)
	if r.InferHeader > 0 {
		if r.InferHeader > len(r.Body) {
			return 0, fmt.Errorf("a JSON head of %d bytes in a body of %d", r.InferHeader, len(r.Body))
		}
		head, tensors = r.Body[:r.InferHeader], r.Body[r.InferHeader:]
	}
	var answer inferAnswer
	if err := json.Unmarshal(head, &answer); err != nil {
		return 0, err
	}
	if len(answer.Outputs) != 1 || answer.Outputs[0].Name != inferOutput {
		return 0, fmt.Errorf("the outputs are not just %q", inferOutput)
	}
	out := answer.Outputs[0]
	if out.Parameters.Size != nil {
		if out.Datatype != "INT64" || *out.Parameters.Size != 8 || len(tensors) != 8 {
			return 0, fmt.Errorf("%d bytes of binary %s, want 8 of INT64", len(tensors), out.Datatype)
		}
		return int(int64(binary.LittleEndian.Uint64(tensors))), nil
	}
	if len(out.Data) != 1 {
		return 0, fmt.Errorf("%d labels for one image", len(out.Data))
	}
	return int(out.Data[0]), nil
}
