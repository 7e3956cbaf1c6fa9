package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"weir/backend/tensor"
)

// Options say how a model is run.
type Options struct {
	// Threads one run may use, default 1: a server gains more from several runs side by side.
	Threads int
	// Providers are what to run the model on, the first that can goes first; none is the CPU alone.
	Providers []Provider
	// Strict makes it an error that a provider cannot be used. Without it the model runs on those
	// that can, at last on the CPU. With it, and without ProviderCPU among the Providers, a model
	// of which a part would run on the CPU is an error too.
	Strict bool
}

// Model is a model loaded from a file. Its methods may be called from any number of goroutines.
type Model struct {
	signature tensor.Signature
	inputs    []ort.InputOutputInfo
	outputs   []output
	fallback  error

	// runs are options of earlier runs, to be used again; Close frees them.
	runs struct {
		sync.Mutex
		free []*ort.RunOptions
	}

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
	if err := CheckProviders(o.Providers); err != nil {
		return nil, nil, err
	}
	var fallback error
	for providers := o.Providers; ; providers = providers[1:] {
		var refused error
		m, warning, refused, err = r.loadOn(path, o, providers)
		fallback = errors.Join(fallback, refused)
		switch {
		case err == nil:
			m.fallback = fallback
			return m, warning, nil
		case o.Strict || len(m.accelerators()) == 0:
			return nil, nil, err
		}
		// What a provider finds wrong with a model or its device shows only now: the one of
		// highest priority is given up.
		providers = from(providers, m.accelerators()[0])
		fallback = errors.Join(fallback, fmt.Errorf("execution provider %s: %w", providers[0].Name, err))
	}
}

// loadOn loads the model on those of the providers that can be used; refused says which cannot.
// Of a model that fails on them, m tells which they were.
func (r *Runtime) loadOn(path string, o Options, providers []Provider) (m *Model, warning, refused, err error) {
	m = &Model{}
	options, err := sessionOptions(o)
	if err != nil {
		return m, nil, nil, fmt.Errorf("cannot set ONNX Runtime's options: %w", err)
	}
	defer destroy(options)
	used, refused := appendProviders(options, providers)
	m.signature.Providers = used
	if o.Strict {
		if refused != nil {
			return m, nil, nil, fmt.Errorf("%w; start without strict to run on what there is, or take it out of execution_providers", refused)
		}
		if len(used) > 0 && !slices.Contains(used, ProviderCPU) {
			if err := options.AddSessionConfigEntry("session.disable_cpu_ep_fallback", "1"); err != nil {
				return m, nil, nil, fmt.Errorf("cannot forbid the CPU: %w", err)
			}
		}
	}
	if err := m.open(path, options); err != nil {
		return m, nil, refused, fmt.Errorf("cannot load the model %s: %w", path, err)
	}
	if warning, err = m.warm(); err != nil {
		return m, nil, refused, errors.Join(fmt.Errorf("cannot run the model %s: %w", path, err), m.Close())
	}
	if !slices.Contains(used, ProviderCPU) && !(o.Strict && len(used) > 0) {
		m.signature.Providers = append(used, ProviderCPU)
	}
	return m, warning, refused, nil
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

func (m *Model) open(path string, options *ort.SessionOptions) error {
	inputs, outputs, err := ort.GetInputOutputInfoWithOptions(path, options)
	if err != nil {
		return err
	}
	m.inputs = inputs
	m.signature.Platform = "onnxruntime_onnx"
	if err := m.describe(inputs, outputs); err != nil {
		return err
	}
	m.session, err = ort.NewDynamicAdvancedSession(path, names(inputs), names(outputs), options)
	if err != nil {
		return err
	}
	m.signature.Metadata, err = metadata(m.session)
	if err != nil {
		destroy(m.session)
		m.session = nil
	}
	return err
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

// Fallback says which of the execution providers that were asked for do not run the model, and
// why; nil when all do.
func (m *Model) Fallback() error { return m.fallback }

// Run computes all outputs, in the order of the signature. inputs must be in its order too and
// fit it in type and shape. Their data is read until Run returns; the outputs are the caller's.
// When ctx ends, ONNX Runtime stops after the operator it is at, and the error is ctx's.
func (m *Model) Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.session == nil {
		return nil, errClosed
	}
	if ctx.Done() == nil {
		outputs, _, err := m.run(inputs, nil)
		return outputs, err
	}
	if ctx.Err() != nil {
		// A short run would be done before it could be told.
		return nil, brokenOff(ctx)
	}
	options, err := m.runOptions()
	if err != nil {
		return nil, fmt.Errorf("cannot make a run that can be stopped: %w", err)
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate() // it fails on options that are destroyed only
	})
	outputs, _, err := m.run(inputs, options)
	if stop() {
		m.runs.Lock()
		m.runs.free = append(m.runs.free, options)
		m.runs.Unlock()
		return outputs, err
	}
	<-terminated
	destroy(options)
	if err != nil {
		// ONNX Runtime does not say which of its errors means that it was told to stop.
		err = brokenOff(ctx)
	}
	return outputs, err
}

func brokenOff(ctx context.Context) error {
	return fmt.Errorf("the run was broken off: %w", context.Cause(ctx))
}

func (m *Model) runOptions() (*ort.RunOptions, error) {
	m.runs.Lock()
	defer m.runs.Unlock()
	if last := len(m.runs.free) - 1; last >= 0 {
		options := m.runs.free[last]
		m.runs.free = m.runs.free[:last]
		return options, nil
	}
	return ort.NewRunOptions()
}

// run also returns the names of each output's columns where the run itself tells them.
// options may be nil.
func (m *Model) run(inputs []tensor.Tensor, options *ort.RunOptions) (outputs []tensor.Tensor, columns [][]string, err error) {
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
	if err := m.session.RunWithOptions(given, made, options); err != nil {
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
	for _, options := range m.runs.free {
		destroy(options)
	}
	m.runs.free = nil
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
