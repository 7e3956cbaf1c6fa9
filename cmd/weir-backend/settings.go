package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"weir/backend"
	"weir/config"
	"weir/internal/telemetry"
)

// settings are everything an operator can set. The zero value of a field means "not set", so
// that sources of settings can be laid over each other.
type settings struct {
	listen      string
	portFile    string
	models      []modelSetting
	version     string // of models that give none
	environment string
	logLevel    string
	library     string
	threads     int // of one run
	workers     int
	queue       int
	body        config.Size
	gate        *bool
	gpu         string // auto, off
	delay       time.Duration
	timeout     time.Duration
	gateFlag    bool // where the flag of gate is parsed to
}

type modelSetting struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	Path    string `yaml:"path"`
}

// defaults are used where nothing else is set.
func defaults() settings {
	off := false
	return settings{
		listen: "127.0.0.1:8001", logLevel: "info", threads: 1,
		queue: backend.DefaultQueue, body: backend.DefaultBodyLimit, gate: &off, gpu: "auto", timeout: 30 * time.Second,
	}
}

// bind defines the flags. Their defaults are in the help texts and not in the values: a value
// that stays zero was not set.
func (s *settings) bind(f *pflag.FlagSet) {
	d := defaults()
	f.StringVar(&s.listen, "listen", "", fmt.Sprintf("HOST:PORT to listen on, port 0 lets the system choose (default %s)", d.listen))
	f.StringVar(&s.portFile, "port-file", "", "file to write the port to once it is open; it is removed at the end")
	f.Var((*modelFlag)(&s.models), "model", "NAME=PATH[@VERSION] of a model, or PATH alone; can be repeated, /predict asks the first")
	f.StringVar(&s.version, "version", "", "version of the models that give none (default: the model's own metadata, else 1)")
	f.StringVar(&s.environment, "environment", "", "told in ml_model_info and the log")
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.library, "onnxruntime", "", "ONNX Runtime's shared library, or the folder it is in")
	f.IntVar(&s.threads, "threads", 0, "threads of one run (default 1)")
	f.IntVar(&s.workers, "workers", 0, "requests that run at once (default: the number of CPUs)")
	f.IntVar(&s.queue, "queue", 0, fmt.Sprintf("requests that may wait for a worker before 503 (default %d)", d.queue))
	f.Var((*sizeFlag)(&s.body), "max-body", fmt.Sprintf("largest request body before 413 (default %s)", d.body))
	f.BoolVar(&s.gateFlag, "resource-gate", false, "not ready while CPU, memory or disk are 90% used")
	f.StringVar(&s.gpu, "gpu", "", "auto: watch NVIDIA GPUs where there are any; off (default auto)")
	f.DurationVar(&s.delay, "shutdown-delay", 0, "after SIGTERM, serve on for this long while not ready (default 0s)")
	f.DurationVar(&s.timeout, "shutdown-timeout", 0, fmt.Sprintf("after that, let running requests end for this long (default %s)", d.timeout))
}

// modelFlag is the repeatable flag --model.
type modelFlag []modelSetting

func (m *modelFlag) String() string { return "" }

// Type implements pflag.Value.
func (m *modelFlag) Type() string { return "model" }

// Set implements pflag.Value.
func (m *modelFlag) Set(text string) error {
	var model modelSetting
	name, rest, named := strings.Cut(text, "=")
	if named {
		model.Name = name
	} else {
		rest = text
	}
	model.Path = rest
	// A version follows the last @, unless that is part of the path: of a folder, or of the name
	// of a model file.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if after := rest[at+1:]; !strings.ContainsRune(after, '/') && !strings.HasSuffix(after, ".onnx") {
			if after == "" {
				return fmt.Errorf("%q has no version after the @; want NAME=PATH@VERSION", text)
			}
			model.Path, model.Version = rest[:at], after
		}
	}
	if model.Path == "" {
		return fmt.Errorf("%q has no path; want NAME=PATH[@VERSION]", text)
	}
	*m = append(*m, model)
	return nil
}

// sizeFlag is a flag such as 64MiB.
type sizeFlag config.Size

func (s *sizeFlag) String() string { return "" }

// Type implements pflag.Value.
func (s *sizeFlag) Type() string { return "size" }

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) error {
	size, err := config.ParseSize(text)
	*s = sizeFlag(size)
	return err
}

// collect lays the sources of settings over each other and checks the result.
func collect(f *pflag.FlagSet, flags *settings, file string, getenv func(string) string) (settings, error) {
	if f.Changed("resource-gate") {
		flags.gate = &flags.gateFlag
	}
	s := *flags
	if file != "" {
		fromFile, err := readFile(file)
		if err != nil {
			return s, err
		}
		s.fill(fromFile)
	}
	s.fill(fromEnvironment(getenv))
	s.fill(defaults())
	s.logLevel = guideLevel(s.logLevel)
	for i := range s.models {
		m := &s.models[i]
		if m.Version == "" {
			m.Version = s.version
		}
		if m.Name == "" {
			m.Name = strings.TrimSuffix(filepath.Base(m.Path), ".onnx")
		}
	}
	return s, s.check()
}

// fill sets what is not set yet.
func (s *settings) fill(from settings) {
	if s.models == nil {
		s.models = from.models
	}
	if s.gate == nil {
		s.gate = from.gate
	}
	fillOne(&s.listen, from.listen)
	fillOne(&s.portFile, from.portFile)
	fillOne(&s.version, from.version)
	fillOne(&s.environment, from.environment)
	fillOne(&s.logLevel, from.logLevel)
	fillOne(&s.library, from.library)
	fillOne(&s.threads, from.threads)
	fillOne(&s.workers, from.workers)
	fillOne(&s.queue, from.queue)
	fillOne(&s.body, from.body)
	fillOne(&s.gpu, from.gpu)
	fillOne(&s.delay, from.delay)
	fillOne(&s.timeout, from.timeout)
}

func fillOne[T comparable](value *T, from T) {
	var zero T
	if *value == zero {
		*value = from
	}
}

// fromEnvironment reads the guide's variables.
func fromEnvironment(getenv func(string) string) settings {
	s := settings{
		version:     getenv("MODEL_VERSION"),
		environment: getenv("ENVIRONMENT"),
		logLevel:    getenv("LOG_LEVEL"),
	}
	if path := getenv("MODEL_PATH"); path != "" {
		// The versions of one model must have one name, which their files' names are not.
		name := getenv("MODEL_NAME")
		fillOne(&name, "model")
		s.models = []modelSetting{{Name: name, Path: path}}
	}
	return s
}

// guideLevel turns the names of Python's levels into ours.
func guideLevel(level string) string {
	switch lower := strings.ToLower(level); lower {
	case "warning":
		return "warn"
	case "critical", "fatal":
		return "error"
	default:
		return lower
	}
}

// check refuses what can be seen to be wrong without opening anything.
func (s *settings) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(s.models) == 0 {
		fault("no model to serve; give --model NAME=PATH, models: in the file of -c, or MODEL_PATH")
	}
	if _, err := telemetry.ParseLevel(s.logLevel); err != nil {
		faults = append(faults, err)
	}
	if s.gpu != "auto" && s.gpu != "off" {
		fault("gpu is %q; want auto or off", s.gpu)
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"threads", s.threads}, {"workers", s.workers}, {"queue", s.queue}, {"max-body", int(s.body)}} {
		if n.value < 0 {
			fault("%s is %d; want more than 0", n.name, n.value)
		}
	}
	if s.delay < 0 || s.timeout < 0 {
		fault("shutdown-delay is %v and shutdown-timeout %v; want 0s or more", s.delay, s.timeout)
	}
	return errors.Join(faults...)
}

// file is the form of the file of -c.
type file struct {
	Listen      string         `yaml:"listen"`
	PortFile    string         `yaml:"port_file"`
	Models      []modelSetting `yaml:"models"`
	Environment string         `yaml:"environment"`
	Log         struct {
		Level string `yaml:"level"`
	} `yaml:"log"`
	ONNXRuntime string `yaml:"onnxruntime"`
	Threads     int    `yaml:"threads"`
	Workers     int    `yaml:"workers"`
	Queue       int    `yaml:"queue"`
	Limits      struct {
		Body string `yaml:"body"`
	} `yaml:"limits"`
	ResourceGate *bool  `yaml:"resource_gate"`
	GPU          string `yaml:"gpu"`
	Shutdown     struct {
		Delay   time.Duration `yaml:"delay"`
		Timeout time.Duration `yaml:"timeout"`
	} `yaml:"shutdown"`
}

// readFile reads a file of settings; relative paths in it are relative to its folder.
func readFile(path string) (settings, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return settings{}, fmt.Errorf("cannot read the file of -c: %w", err)
	}
	var f file
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := yaml.Load(raw, &f, yaml.WithKnownFields()); err != nil {
			return settings{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	s := settings{
		listen: f.Listen, portFile: f.PortFile, models: f.Models, environment: f.Environment, logLevel: f.Log.Level,
		library: f.ONNXRuntime, threads: f.Threads, workers: f.Workers, queue: f.Queue, gate: f.ResourceGate, gpu: f.GPU,
		delay: f.Shutdown.Delay, timeout: f.Shutdown.Timeout,
	}
	if f.Limits.Body != "" {
		if s.body, err = config.ParseSize(f.Limits.Body); err != nil {
			return settings{}, fmt.Errorf("%s: limits.body: %w", path, err)
		}
	}
	folder := filepath.Dir(path)
	for i := range s.models {
		m := &s.models[i]
		if m.Path == "" {
			return settings{}, fmt.Errorf("%s: models[%d] has no path", path, i)
		}
		m.Path = resolve(folder, m.Path)
	}
	s.library = resolve(folder, s.library)
	s.portFile = resolve(folder, s.portFile)
	return s, nil
}

func resolve(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}
