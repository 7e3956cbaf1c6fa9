package main

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"weir/backend"
	"weir/backend/onnx"
	"weir/internal/telemetry"
)

// repositorySetting is a folder of models, and who may change what is served.
type repositorySetting struct {
	Folder   string        `yaml:"folder"`
	Versions int           `yaml:"versions"`
	Poll     time.Duration `yaml:"poll"`
	Control  *bool         `yaml:"control"`
}

// fill sets what is not set yet.
func (r *repositorySetting) fill(from repositorySetting) {
	fillOne(&r.Folder, from.Folder)
	fillOne(&r.Versions, from.Versions)
	fillOne(&r.Poll, from.Poll)
	if r.Control == nil {
		r.Control = from.Control
	}
}

// checkModels refuses what can be seen to be wrong about the models without opening one.
func (s *settings) checkModels() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(s.models) == 0 && s.repository.Folder == "" {
		fault("no model to serve; give --model NAME=PATH, --model-repository FOLDER, models: or repository: in the file of -c, or MODEL_PATH")
	}
	for _, m := range s.models {
		serving := m.serving()
		if err := serving.Check(); err != nil {
			fault("model %s: %w", m.Name, err)
		}
		if m.Path == "" && m.ownVersion {
			fault("model %s: a model of repository.folder has the versions of the folder; take out its version, or give it a path", m.Name)
		}
	}
	switch r := s.repository; {
	case r.Versions < -1:
		fault("repository.versions is %d; want how many of the newest versions are served, or -1 for all", r.Versions)
	case r.Poll < 0:
		fault("repository.poll is %v; want 0s (never) or more", r.Poll)
	case r.Poll > 0 && r.Folder == "":
		fault("repository.poll is %v, but there is no repository.folder to look into", r.Poll)
	}
	return faults
}

// opener opens models by ONNX Runtime, and says in the log what it could not do for them.
type opener struct {
	s       settings
	runtime *onnx.Runtime
	log     *zap.Logger
}

// open loads the file at path as the model name.
func (o *opener) open(name, path string) (backend.Runner, error) {
	model, warning, err := o.runtime.Load(path, onnx.Options{Threads: o.s.threads, Providers: o.s.executionProviders(), Strict: *o.s.strict})
	if err != nil {
		return nil, err
	}
	if fallback := model.Fallback(); fallback != nil {
		o.log.Warn("the model is served, but not by every execution provider that is asked for", zap.String("model", name),
			zap.Strings("execution_providers", model.Signature().Providers), telemetry.Exception(fallback))
	}
	if warning != nil {
		o.log.Warn("the model is served, but could not be warmed up", zap.String("model", name), zap.String("path", path),
			telemetry.Exception(warning))
	}
	return model, nil
}

// sources are the models that are named with their paths.
func (o *opener) sources() (all []backend.Source) {
	for _, m := range o.s.models {
		if m.Path == "" {
			continue // of the folder
		}
		all = append(all, backend.Source{Name: m.Name, Version: m.Version, Path: m.Path, Serving: m.serving(), Open: func() (backend.Runner, error) {
			path, err := backend.ModelFile(m.Path)
			if err != nil {
				return nil, err
			}
			return o.open(m.Name, path)
		}})
	}
	return all
}

// folder is the folder of models, nil without one.
func (o *opener) folder() *backend.Folder {
	r := o.s.repository
	if r.Folder == "" {
		return nil
	}
	return &backend.Folder{Path: r.Folder, Versions: r.Versions, Poll: r.Poll, Open: o.open, Serving: func(name string) backend.Serving {
		for _, m := range o.s.models {
			if m.Path == "" && m.Name == name {
				return m.serving()
			}
		}
		return backend.Serving{}
	}}
}
