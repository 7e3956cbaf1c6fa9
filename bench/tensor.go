package bench

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Tensor is an input of a model, by the Open Inference Protocol V2.
type Tensor struct {
	Name     string
	Datatype string // BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64, BF16 or BYTES
	Shape    []int  // each at least 1
}

// Bounds of generated tensors.
const (
	MaxElements = 64 << 20 // of a tensor
	// generated is how many different bodies are made; fewer when they take more than generatedBytes.
	generated      = 64
	generatedBytes = 16 << 20
)

// ParseTensor parses a tensor as flags give it: "image:FP32:1x784".
func ParseTensor(text string) (Tensor, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" {
		return Tensor{}, fmt.Errorf("tensor %q: must be NAME:DATATYPE:SHAPE, such as image:FP32:1x784", text)
	}
	t := Tensor{Name: parts[0], Datatype: strings.ToUpper(parts[1])}
	if !slices.Contains(datatypes(), t.Datatype) {
		return Tensor{}, fmt.Errorf("tensor %q: datatype must be one of %s", text, strings.Join(datatypes(), ", "))
	}
	elements := 1
	for size := range strings.SplitSeq(parts[2], "x") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > MaxElements/elements {
			return Tensor{}, fmt.Errorf("tensor %q: shape must be sizes of at least 1 with x between, of %d elements at most", text, MaxElements)
		}
		elements *= n
		t.Shape = append(t.Shape, n)
	}
	return t, nil
}

func datatypes() []string {
	return []string{"BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES"}
}

func (t *Tensor) elements() int {
	n := 1
	for _, size := range t.Shape {
		n *= size
	}
	return n
}

// Tensors is a target that asks a model about tensors of random values, and has no opinion on
// the answer. The bodies are made beforehand, and drawn evenly at random.
type Tensors struct {
	head   head
	bodies [][]byte
}

// NewTensors returns the target that posts values for inputs to r.URL, as JSON or as binary
// tensors, drawn from r.Seed. Without a path in r.URL, that of model is used.
//
// Numbers with a fraction are from 0 to 1 in steps that every datatype represents, whole
// numbers from 0 to 99, and BYTES are words of 8 letters.
func NewTensors(r Request, model string, inputs []Tensor, binaryTensors bool) (*Tensors, error) {
	if len(inputs) == 0 {
		return nil, fmt.Errorf("at least one tensor is needed")
	}
	url, err := inferURL(r.URL, model)
	if err != nil {
		return nil, err
	}
	r.URL, r.Method = url, "POST"
	t := &Tensors{}
	left := generatedBytes
	for i := uint64(0); i < generated && (left > 0 || i == 0); i++ {
		body, header := tensorsBody(inputs, binaryTensors, r.Seed, i)
		if i == 0 {
			r.Header = append(inferFields(binaryTensors, header), r.Header...)
		}
		left -= len(body)
		t.bodies = append(t.bodies, body)
	}
	t.head, err = newHead(r)
	return t, err
}

// inferURL adds the path of a model to a URL without one.
func inferURL(raw, model string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("target: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v2/models/" + model + "/infer"
	}
	return u.String(), nil
}

// inferFields are the fields that say how tensors are sent; header is the length of the JSON
// before binary ones.
func inferFields(binaryTensors bool, header int) []Field {
	if !binaryTensors {
		return []Field{{"Content-Type", "application/json"}}
	}
	return []Field{
		{"Content-Type", "application/octet-stream"},
		{"Inference-Header-Content-Length", strconv.Itoa(header)},
	}
}

// Address returns the HOST:PORT that an attack on this target connects to.
func (t *Tensors) Address() string { return t.head.address }

// Append implements [Target].
func (t *Tensors) Append(b []byte, n uint64) ([]byte, Hit) {
	body := t.bodies[draw(t.head.seed, streamImages, n, len(t.bodies))]
	b, user := t.head.append(b, n, len(body))
	return append(b, body...), Hit{User: user, Label: -1}
}

// Judge implements [Target].
func (t *Tensors) Judge(Hit, *Response) Verdict { return Unjudged }

// tensorsBody makes the i-th body; header is the length of the JSON in it. It is the same for all
// bodies with binary tensors, as their sizes are.
func tensorsBody(inputs []Tensor, binaryTensors bool, seed, i uint64) (body []byte, header int) {
	var tail []byte
	b := []byte(`{"inputs":[`)
	for k := range inputs {
		t := &inputs[k]
		if k > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"name":%s,"shape":[%s],"datatype":"%s",`, strconv.Quote(t.Name), joined(t.Shape), t.Datatype)
		stream := streamBodies * (i*uint64(len(inputs)) + uint64(k) + 1)
		if binaryTensors {
			before := len(tail)
			tail = t.binary(tail, seed, stream)
			b = fmt.Appendf(b, `"parameters":{"binary_data_size":%d}}`, len(tail)-before)
		} else {
			b = append(b, `"data":[`...)
			b = t.json(b, seed, stream)
			b = append(b, `]}`...)
		}
	}
	b = append(b, ']')
	if binaryTensors {
		b = append(b, `,"parameters":{"binary_data_output":true}`...)
	}
	b = append(b, '}')
	return append(b, tail...), len(b)
}

func joined(shape []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(shape)), ","), "[]")
}

// Steps of the generated numbers with a fraction: few enough for the significands of FP16 and BF16.
const (
	fractions     = 1 << 10
	fractionsBF16 = 1 << 7
	wholes        = 100
)

func (t *Tensor) json(b []byte, seed, stream uint64) []byte {
	for i := range uint64(t.elements()) {
		if i > 0 {
			b = append(b, ',')
		}
		switch t.Datatype {
		case "BOOL":
			b = strconv.AppendBool(b, draw(seed, stream, i, 2) == 1)
		case "BYTES":
			b = append(b, '"')
			b = appendWord(b, seed, stream, i)
			b = append(b, '"')
		case "FP16", "FP32", "FP64", "BF16":
			b = strconv.AppendFloat(b, t.fraction(seed, stream, i), 'g', -1, 64)
		default:
			b = strconv.AppendInt(b, int64(draw(seed, stream, i, wholes)), 10)
		}
	}
	return b
}

func (t *Tensor) fraction(seed, stream, i uint64) float64 {
	steps := fractions
	if t.Datatype == "BF16" {
		steps = fractionsBF16
	}
	return float64(draw(seed, stream, i, steps)) / float64(steps)
}

func (t *Tensor) binary(b []byte, seed, stream uint64) []byte {
	for i := range uint64(t.elements()) {
		whole := uint64(draw(seed, stream, i, wholes))
		switch t.Datatype {
		case "BOOL":
			b = append(b, byte(draw(seed, stream, i, 2)))
		case "BYTES":
			b = binary.LittleEndian.AppendUint32(b, wordLetters)
			b = appendWord(b, seed, stream, i)
		case "FP16":
			b = binary.LittleEndian.AppendUint16(b, half(t.fraction(seed, stream, i)))
		case "BF16":
			b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(float32(t.fraction(seed, stream, i)))>>16))
		case "FP32":
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(t.fraction(seed, stream, i))))
		case "FP64":
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(t.fraction(seed, stream, i)))
		case "INT8", "UINT8":
			b = append(b, byte(whole))
		case "INT16", "UINT16":
			b = binary.LittleEndian.AppendUint16(b, uint16(whole))
		case "INT32", "UINT32":
			b = binary.LittleEndian.AppendUint32(b, uint32(whole))
		default:
			b = binary.LittleEndian.AppendUint64(b, whole)
		}
	}
	return b
}

// half is the IEEE 754 half of a multiple of 1/fractions in [0, 1), which it represents exactly.
func half(v float64) uint16 {
	if v == 0 {
		return 0
	}
	bits := math.Float32bits(float32(v))
	exponent := uint16(bits>>23) - 127 + 15
	return exponent<<10 | uint16(bits>>13)&0x3ff
}

const wordLetters = 8

func appendWord(b []byte, seed, stream, i uint64) []byte {
	for k := range uint64(wordLetters) {
		b = append(b, byte('a'+draw(seed, stream+k*streamImages, i, 26)))
	}
	return b
}
