package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"weir/backend/tensor"
)

// Runner is what the server needs of a loaded model; *onnx.Model is one. Run may be called from
// many goroutines at once, with inputs in the order of the signature that fit it; the outputs
// are the caller's. Run may break off with ctx's error when ctx ends.
type Runner interface {
	Signature() tensor.Signature
	Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error)
	Close() error
}

// Source says where a model comes from and under which name and version it is served.
type Source struct {
	// Name is what V2 requests call it: 1 to 128 of A-Z a-z 0-9 . _ -
	Name string
	// Version has the same alphabet. When it is empty, the model's own metadata ("version") is
	// asked, and "1" is served when that is silent too.
	Version string
	// Path is for messages.
	Path string
	// Open loads the model.
	Open func() (Runner, error)
	// Serving says how its requests are run.
	Serving Serving
}

// defaultVersion is a model's version when nobody says another.
const defaultVersion = "1"

// Model is one version of a model, loaded and served.
type Model struct {
	Name, Version string
	signature     tensor.Signature
	reading       reading
	runner        Runner
	serving       Serving // settled
	line          *line
	path, stamp   string // of the source
	// users are the requests it serves, and one for being served; with the last it closes.
	users   atomic.Int64
	closed  func()
	metrics *modelMetrics
	watch   *watch
	// lastPrediction is the time of the last success in Unix nanoseconds, 0 before the first.
	lastPrediction atomic.Int64
}

// validName says whether a model or version may be called so. Names become URL paths, metric
// labels and log fields as they are.
func validName(name string) bool {
	if len(name) == 0 || len(name) > 128 || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

const nameAlphabet = "1 to 128 of A-Z a-z 0-9 . _ -"

// wants says what the model takes, for messages about requests that do not fit.
func (m *Model) wants() string {
	inputs := make([]string, len(m.signature.Inputs))
	for i, spec := range m.signature.Inputs {
		inputs[i] = spec.String()
	}
	return fmt.Sprintf("model %s takes %s (-1: any size)", m.Name, strings.Join(inputs, ", "))
}

// arrange puts the inputs of a request into the model's order and checks that they are what the
// model takes.
func (m *Model) arrange(inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	specs := m.signature.Inputs
	ordered := make([]tensor.Tensor, len(specs))
	given := make([]bool, len(specs))
	for i := range inputs {
		in := &inputs[i]
		at := indexSpec(specs, in.Name)
		if at < 0 {
			return nil, fmt.Errorf("the model has no input %q", in.Name)
		}
		if given[at] {
			return nil, fmt.Errorf("the input %q is given twice", in.Name)
		}
		if err := fits(in, specs[at]); err != nil {
			return nil, fmt.Errorf("input %s: %w", in.Name, err)
		}
		ordered[at], given[at] = *in, true
	}
	for i, ok := range given {
		if !ok {
			return nil, fmt.Errorf("the input %q is missing", specs[i].Name)
		}
	}
	return ordered, nil
}

func indexSpec(specs []tensor.Spec, name string) int {
	for i := range specs {
		if specs[i].Name == name {
			return i
		}
	}
	return -1
}

// fits checks type and shape. A model that does not tell an input's dimensions takes any.
func fits(t *tensor.Tensor, want tensor.Spec) error {
	if t.Type != want.Type {
		return fmt.Errorf("the datatype is %s; want %s", t.Type, want.Type)
	}
	matches := len(want.Shape) == 0 || len(t.Shape) == len(want.Shape)
	for i := 0; matches && i < len(want.Shape); i++ {
		matches = want.Shape[i] == -1 || want.Shape[i] == t.Shape[i]
	}
	if !matches {
		return fmt.Errorf("the shape is %s; want %s", tensor.ShapeString(t.Shape), tensor.ShapeString(want.Shape))
	}
	for i, text := range t.Strings {
		if strings.IndexByte(text, 0) >= 0 {
			return fmt.Errorf("BYTES element %d holds a zero byte, which ONNX Runtime would take for its end", i)
		}
	}
	return nil
}

// acquire keeps the model open until release; false when it has closed already.
func (m *Model) acquire() bool {
	for n := m.users.Load(); n > 0; n = m.users.Load() {
		if m.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

func (m *Model) release() {
	if m.users.Add(-1) == 0 {
		m.closed()
	}
}

// load opens the source's model and runs it for the first time.
func (s *Source) load(o *Options) (*Model, error) {
	stamp := s.stamp() // before it is read: a change while it is read is one
	runner, err := s.Open()
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", s.Name, err)
	}
	m := &Model{path: s.Path, stamp: stamp, Name: s.Name, Version: s.Version, signature: runner.Signature(), runner: runner}
	if m.Version == "" {
		m.Version = m.signature.Metadata["version"]
	}
	if m.Version == "" {
		m.Version = defaultVersion
	}
	if !validName(m.Version) {
		err := fmt.Errorf("model %s: its metadata gives the version %q; want %s", s.Name, m.Version, nameAlphabet)
		return nil, errors.Join(err, runner.Close())
	}
	m.users.Store(1)
	m.reading = newReading(&m.signature)
	if m.serving, err = s.Serving.settle(o, &m.signature); err == nil {
		err = m.warmUp()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("model %s: %w", s.Name, err), runner.Close())
	}
	return m, nil
}
