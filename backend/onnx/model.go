package onnx

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"weir/backend/tensor"
)

// Options say how a model is run.
type Options struct {
	// Threads one run may use, default 1: a server gains more from several runs side by side.
	Threads int
}

// Model is a model loaded from a file. Its methods may be called from any number of goroutines.
type Model struct {
	signature tensor.Signature
	inputs    []ort.InputOutputInfo
	outputs   []output

	// mu is held for reading by runs and for writing by Close: a session must not be
	// destroyed under a run.
	mu      sync.RWMutex
	session *ort.DynamicAdvancedSession // nil once closed
}

var errClosed = errors.New("the model is closed")

// Load reads the model in the file and runs it once on zeros, so that the first request finds
// it warm. It is an error when the file is no model ONNX Runtime can run, when the model has an
// input or output that is no tensor (but sequences of maps, as scikit-learn's classifiers have,
// become tensors), or when a model whose zeros are surely valid fails on them. warning tells
// that a model failed on zeros which it may be right to refuse; it is loaded all the same.
func (r *Runtime) Load(path string, o Options) (m *Model, warning error, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("cannot read the model: %w", err)
	} else if info.IsDir() {
		return nil, nil, fmt.Errorf("%s is a directory; want an .onnx file", path)
	}
	options, err := sessionOptions(o)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot set ONNX Runtime's options: %w", err)
	}
	defer destroy(options)
	m, err = open(path, options)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot load the model %s: %w", path, err)
	}
	warning, err = m.warm()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot run the model %s: %w", path, err), m.Close())
	}
	return m, warning, nil
}

func sessionOptions(o Options) (*ort.SessionOptions, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	threads := max(o.Threads, 1)
	err = errors.Join(
		options.SetIntraOpNumThreads(threads),
		options.SetInterOpNumThreads(1),
		options.SetExecutionMode(ort.ExecutionModeSequential),
		// A thread that waits for work in a loop takes the CPU from the proxy beside it.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		options.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		// Memory patterns speed up one shape; a server sees a new batch size at any time.
		options.SetMemPattern(false),
	)
	if err != nil {
		destroy(options)
		return nil, err
	}
	return options, nil
}

func open(path string, options *ort.SessionOptions) (*Model, error) {
	inputs, outputs, err := ort.GetInputOutputInfoWithOptions(path, options)
	if err != nil {
		return nil, err
	}
	m := &Model{inputs: inputs}
	m.signature.Platform = "onnxruntime_onnx"
	if err := m.describe(inputs, outputs); err != nil {
		return nil, err
	}
	m.session, err = ort.NewDynamicAdvancedSession(path, names(inputs), names(outputs), options)
	if err != nil {
		return nil, err
	}
	m.signature.Metadata, err = metadata(m.session)
	if err != nil {
		destroy(m.session)
		return nil, err
	}
	return m, nil
}

func names(infos []ort.InputOutputInfo) []string {
	all := make([]string, len(infos))
	for i := range infos {
		all[i] = infos[i].Name
	}
	return all
}

func metadata(session *ort.DynamicAdvancedSession) (map[string]string, error) {
	source, err := session.GetModelMetadata()
	if err != nil {
		return nil, err
	}
	defer destroy(source)
	keys, err := source.GetCustomMetadataMapKeys()
	if err != nil {
		return nil, err
	}
	notes := make(map[string]string, len(keys))
	for _, key := range keys {
		value, ok, err := source.LookupCustomMetadataMap(key)
		if err != nil {
			return nil, err
		}
		if ok {
			notes[key] = value
		}
	}
	return notes, nil
}

// Signature is what the model wants and gives. It does not change; do not change it.
func (m *Model) Signature() tensor.Signature { return m.signature }

// Run computes all outputs, in the order of the signature. inputs must be in its order too and
// fit it in type and shape. Their data is read until Run returns; the outputs are the caller's.
func (m *Model) Run(inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.session == nil {
		return nil, errClosed
	}
	outputs, _, err := m.run(inputs)
	return outputs, err
}

// run also returns the names of each output's columns where the run itself tells them.
func (m *Model) run(inputs []tensor.Tensor) (outputs []tensor.Tensor, columns [][]string, err error) {
	if len(inputs) != len(m.signature.Inputs) {
		return nil, nil, fmt.Errorf("the model has %d inputs, %d were given", len(m.signature.Inputs), len(inputs))
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	values := make([]ort.Value, 0, len(inputs)+len(m.outputs))
	defer func() {
		for _, v := range values {
			release(v)
		}
	}()
	for i := range inputs {
		v, err := newValue(&inputs[i], &pins)
		if err != nil {
			return nil, nil, fmt.Errorf("input %s: %w", inputs[i].Name, err)
		}
		values = append(values, v)
	}
	for i := range m.outputs {
		v, err := m.outputs[i].allocate(m.signature.Inputs, inputs, &pins)
		if err != nil {
			return nil, nil, fmt.Errorf("output %s: %w", m.outputs[i].spec.Name, err)
		}
		values = append(values, v)
	}
	given, made := values[:len(inputs):len(inputs)], values[len(inputs):]
	if err := m.session.Run(given, made); err != nil {
		return nil, nil, err
	}
	outputs = make([]tensor.Tensor, len(made))
	columns = make([][]string, len(made))
	for i, v := range made {
		outputs[i], columns[i], err = m.outputs[i].read(v)
		if err != nil {
			return nil, nil, fmt.Errorf("output %s: %w", m.outputs[i].spec.Name, err)
		}
	}
	return outputs, columns, nil
}

// Close waits for the runs in progress and frees the model. A Run afterwards is an error.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == nil {
		return nil
	}
	err := m.session.Destroy()
	m.session = nil
	return err
}

type destroyer interface{ Destroy() error }

// destroy frees a value of the C side. onnxruntime_go's Destroy methods return an error to
// satisfy an interface; those used here have no way to fail.
func destroy(d destroyer) { _ = d.Destroy() }

// release frees a value of a run. After a failed run onnxruntime_go may leave an interface that
// holds a nil pointer, whose Destroy would panic.
func release(v ort.Value) {
	if v != nil && !reflect.ValueOf(v).IsNil() {
		destroy(v)
	}
}
