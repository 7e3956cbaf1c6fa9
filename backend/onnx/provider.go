package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// Names of the execution providers. ONNX Runtime always has the CPU; the other two are in its
// builds for GPUs, and need CUDA, cuDNN and TensorRT where they run.
const (
	ProviderCPU      = "cpu"
	ProviderCUDA     = "cuda"
	ProviderTensorRT = "tensorrt"
)

// Providers are the names of all execution providers that can be asked for.
func Providers() []string { return []string{ProviderCPU, ProviderCUDA, ProviderTensorRT} }

// Provider is something that runs a model's operators. Options are its own, as ONNX Runtime's
// documentation names them: device_id, gpu_mem_limit, trt_engine_cache_enable. The CPU has none.
type Provider struct {
	Name    string
	Options map[string]string
}

// CheckProviders refuses what no ONNX Runtime could do: unknown names, a name twice, options for
// the CPU, and others behind the CPU, which would never be asked.
func CheckProviders(providers []Provider) error {
	for i, p := range providers {
		switch {
		case !slices.Contains(Providers(), p.Name):
			return fmt.Errorf("unknown execution provider %q (have %s)", p.Name, strings.Join(Providers(), ", "))
		case slices.ContainsFunc(providers[:i], func(o Provider) bool { return o.Name == p.Name }):
			return fmt.Errorf("the execution provider %s is given twice", p.Name)
		case p.Name == ProviderCPU && len(p.Options) > 0:
			return errors.New("the execution provider cpu has no options")
		case p.Name == ProviderCPU && i < len(providers)-1:
			return fmt.Errorf("the execution provider cpu runs everything, so %s behind it would run nothing; put cpu last", providers[i+1].Name)
		}
	}
	return nil
}

// appendProviders adds the providers to the options, in their order. used are the names of those
// that this library has; refused says why the others are not.
func appendProviders(options *ort.SessionOptions, providers []Provider) (used []string, refused error) {
	for _, p := range providers {
		if err := appendProvider(options, p); err != nil {
			// ONNX Runtime's sentences end with a stop, which is in the way of what may follow.
			refused = errors.Join(refused, fmt.Errorf("execution provider %s cannot be used: %s", p.Name, strings.TrimSuffix(err.Error(), ".")))
			continue
		}
		used = append(used, p.Name)
	}
	return used, refused
}

func appendProvider(options *ort.SessionOptions, p Provider) error {
	switch p.Name {
	case ProviderCUDA:
		o, err := ort.NewCUDAProviderOptions()
		if err != nil {
			return err
		}
		defer destroy(o)
		if err := o.Update(p.Options); err != nil {
			return err
		}
		return options.AppendExecutionProviderCUDA(o)
	case ProviderTensorRT:
		o, err := ort.NewTensorRTProviderOptions()
		if err != nil {
			return err
		}
		defer destroy(o)
		if err := o.Update(p.Options); err != nil {
			return err
		}
		return options.AppendExecutionProviderTensorRT(o)
	}
	return nil // the CPU is always there
}

// accelerators are the providers of the model that are not the CPU.
func (m *Model) accelerators() []string {
	return slices.DeleteFunc(slices.Clone(m.signature.Providers), func(name string) bool { return name == ProviderCPU })
}

// from is the list from the provider of this name on.
func from(providers []Provider, name string) []Provider {
	return providers[slices.IndexFunc(providers, func(p Provider) bool { return p.Name == name }):]
}
