package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"weir/backend"
	"weir/backend/onnx"
)

// modelSetting is a model to serve.
type modelSetting struct {
	Name       string           `yaml:"name"`
	Version    string           `yaml:"version"`
	Path       string           `yaml:"path"`
	Instances  int              `yaml:"instances"`
	Queue      int              `yaml:"queue"`
	Priorities int              `yaml:"priorities"`
	Priority   int              `yaml:"priority"`
	Batching   *batchingSetting `yaml:"batching"`
	ownVersion bool             // given for itself, not for all
}

// serving is how the model's requests are run.
func (m *modelSetting) serving() backend.Serving {
	s := backend.Serving{Instances: m.Instances, Queue: m.Queue, Priorities: m.Priorities, Priority: m.Priority}
	if m.Batching != nil {
		b := m.Batching.backend()
		s.Batching = &b
	}
	return s
}

// batchingSetting is how requests are put together.
type batchingSetting struct {
	MaxBatch  int           `yaml:"max_batch"`
	MaxDelay  time.Duration `yaml:"max_delay"`
	Preferred []int         `yaml:"preferred"`
}

func (b batchingSetting) backend() backend.Batching {
	return backend.Batching{MaxBatch: b.MaxBatch, MaxDelay: b.MaxDelay, Preferred: b.Preferred}
}

// providerSetting is an execution provider: its name alone, or a map with its options.
type providerSetting struct {
	Name    string            `yaml:"name"`
	Options map[string]string `yaml:"options"`
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *providerSetting) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(&p.Name)
	}
	type plain providerSetting // without this method
	for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
		if key := node.Content[i]; key.Value != "name" && key.Value != "options" {
			return fmt.Errorf("line %d: an execution provider has no %q; want its name, or {name: cuda, options: {…}}", key.Line, key.Value)
		}
	}
	if err := node.Decode((*plain)(p)); err != nil {
		return err
	}
	if p.Name == "" {
		return fmt.Errorf("line %d: an execution provider has no name (have %s)", node.Line, strings.Join(onnx.Providers(), ", "))
	}
	return nil
}

// providersFlag is the flag --execution-providers, names with commas between them.
type providersFlag []providerSetting

func (p *providersFlag) String() string { return "" }

// Type implements pflag.Value.
func (p *providersFlag) Type() string { return "names" }

// Set implements pflag.Value.
func (p *providersFlag) Set(text string) error {
	if text == "" {
		return errors.New("no name; want names with commas between them, such as tensorrt,cuda,cpu")
	}
	for name := range strings.SplitSeq(text, ",") {
		*p = append(*p, providerSetting{Name: strings.TrimSpace(name)})
	}
	return nil
}

// executionProviders are what runs the models.
func (s *settings) executionProviders() []onnx.Provider {
	all := make([]onnx.Provider, len(s.providers))
	for i, p := range s.providers {
		all[i] = onnx.Provider{Name: p.Name, Options: p.Options}
	}
	return all
}
