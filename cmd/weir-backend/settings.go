package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"weir/backend"
	"weir/backend/gpu"
	"weir/backend/onnx"
	"weir/config"
	"weir/internal/telemetry"
)

// settings are everything an operator can set. The zero value of a field means "not set", so
// that sources of settings can be laid over each other.
type settings struct {
	listen      string
	grpcListen  string
	portFile    string
	models      []modelSetting
	repository  repositorySetting
	version     string // of models that give none
	environment string
	logLevel    string
	library     string
	threads     int // of one run
	workers     int
	queue       int
	batching    batchingSetting
	providers   []providerSetting
	strict      *bool
	body        config.Size
	gate        *bool
	gpu         string // auto, nvidia, amd, off
	drift       driftSetting
	delay       time.Duration
	timeout     time.Duration
	gateFlag    bool // where the flag of gate is parsed to
	strictFlag  bool // and that of strict
	controlFlag bool // and that of repository.control
	driftFlag   bool // and that of drift.watch
	pinFlag     bool // and that of drift.control
}

// gpuOff is the kind of GPU to watch where none shall be.
const gpuOff = "off"

// defaults are used where nothing else is set.
func defaults() settings {
	off, fallback := false, false
	return settings{
		repository: repositorySetting{Versions: 1, Control: &fallback},
		batching:   batchingSetting{MaxBatch: 1}, providers: []providerSetting{{Name: onnx.ProviderCPU}}, strict: &fallback,
		listen: "127.0.0.1:8001", logLevel: "info", threads: 1,
		queue: backend.DefaultQueue, body: backend.DefaultBodyLimit, gate: &off, gpu: gpu.Auto, drift: defaultDrift(), timeout: 30 * time.Second,
	}
}

// bind defines the flags. Their defaults are in the help texts and not in the values: a value
// that stays zero was not set.
func (s *settings) bind(f *pflag.FlagSet) {
	d := defaults()
	f.StringVar(&s.listen, "listen", "", fmt.Sprintf("HOST:PORT to listen on, port 0 lets the system choose (default %s)", d.listen))
	f.StringVar(&s.grpcListen, "grpc-listen", "", "HOST:PORT to listen on for gRPC, such as 127.0.0.1:9001 (default none: no gRPC)")
	f.StringVar(&s.portFile, "port-file", "", "file to write the port to once it is open; it is removed at the end")
	f.Var((*modelFlag)(&s.models), "model", "NAME=PATH[@VERSION] of a model, or PATH alone; can be repeated, /predict asks the first")
	f.StringVar(&s.repository.Folder, "model-repository", "", "folder of models as NAME/VERSION/model.onnx; the newest version of each is served")
	f.DurationVar(&s.repository.Poll, "poll", 0, "how often to look into that folder for what came, went or changed (default 0s: never)")
	f.BoolVar(&s.controlFlag, "model-control", false, "let clients load and unload models: POST /v2/repository/models/NAME/load")
	f.StringVar(&s.version, "version", "", "version of the models that give none (default: the model's own metadata, else 1)")
	f.StringVar(&s.environment, "environment", "", "told in ml_model_info and the log")
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.library, "onnxruntime", "", "ONNX Runtime's shared library, or the folder it is in")
	f.IntVar(&s.threads, "threads", 0, "threads of one run (default 1)")
	f.IntVar(&s.workers, "workers", 0, "requests that run at once (default: the number of CPUs)")
	f.IntVar(&s.queue, "queue", 0, fmt.Sprintf("requests that may wait for a worker before 503, or RESOURCE_EXHAUSTED (default %d)", d.queue))
	f.IntVar(&s.batching.MaxBatch, "max-batch", 0, "rows that requests for a model may be put together to for one run (default 1: no batching)")
	f.DurationVar(&s.batching.MaxDelay, "max-delay", 0, "how long the first request of a batch waits for others while a worker is free (default 0s)")
	f.Var((*providersFlag)(&s.providers), "execution-providers", "what runs the models, the first that can goes first: tensorrt, cuda, cpu (default cpu)")
	f.BoolVar(&s.strictFlag, "strict", false, "do not start where an execution provider cannot be used, instead of falling back to the next")
	f.Var((*sizeFlag)(&s.body), "max-body", fmt.Sprintf("largest request body before 413, or gRPC message before RESOURCE_EXHAUSTED (default %s)", d.body))
	f.BoolVar(&s.gateFlag, "resource-gate", false, "not ready while CPU, memory or disk are 90% used")
	f.StringVar(&s.gpu, "gpu", "", "GPUs to watch: nvidia, amd, off, or auto: NVIDIA's and, where there are none, AMD's (default auto)")
	f.BoolVar(&s.driftFlag, "drift", false, "watch predictions for drift; --drift=false does not (default true)")
	f.StringVar(&s.drift.References, "drift-references", "", "file of references to compare predictions with, as GET /drift/reference tells them (default: the first predictions)")
	f.BoolVar(&s.pinFlag, "drift-control", false, "let clients set the references: PUT /drift/reference")
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
	if f.Changed("model-control") {
		flags.repository.Control = &flags.controlFlag
	}
	if f.Changed("drift") {
		flags.drift.Watch = &flags.driftFlag
	}
	if f.Changed("drift-control") {
		flags.drift.Control = &flags.pinFlag
	}
	if f.Changed("strict") {
		flags.strict = &flags.strictFlag
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
		m.ownVersion = m.Version != ""
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
	if s.providers == nil {
		s.providers = from.providers
	}
	s.repository.fill(from.repository)
	s.drift.fill(from.drift)
	if s.strict == nil {
		s.strict = from.strict
	}
	fillOne(&s.batching.MaxBatch, from.batching.MaxBatch)
	fillOne(&s.batching.MaxDelay, from.batching.MaxDelay)
	if s.batching.Preferred == nil {
		s.batching.Preferred = from.batching.Preferred
	}
	fillOne(&s.listen, from.listen)
	fillOne(&s.grpcListen, from.grpcListen)
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

// fromEnvironment reads the guide's variables, and GRPC_LISTEN.
func fromEnvironment(getenv func(string) string) settings {
	s := settings{
		grpcListen:  getenv("GRPC_LISTEN"),
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
	faults = append(faults, s.checkModels()...)
	if _, err := telemetry.ParseLevel(s.logLevel); err != nil {
		faults = append(faults, err)
	}
	if kinds := []string{gpu.Auto, gpu.NVIDIA, gpu.Radeon, gpuOff}; !slices.Contains(kinds, s.gpu) {
		fault("gpu is %q; want one of %s", s.gpu, strings.Join(kinds, ", "))
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"threads", s.threads}, {"workers", s.workers}, {"queue", s.queue}, {"max-body", int(s.body)}} {
		if n.value < 0 {
			fault("%s is %d; want more than 0", n.name, n.value)
		}
	}
	if err := onnx.CheckProviders(s.executionProviders()); err != nil {
		fault("execution_providers: %w", err)
	}
	batching := s.batching.backend()
	if err := batching.Check(); err != nil {
		fault("batching: %w", err)
	}
	drift := s.drift.backend()
	if err := drift.Check(); err != nil {
		fault("drift: %w", err)
	}
	if *s.drift.Features < 0 {
		fault("drift: features is %d; want 0 to %d", *s.drift.Features, backend.DefaultDriftFeatures)
	}
	if s.delay < 0 || s.timeout < 0 {
		fault("shutdown-delay is %v and shutdown-timeout %v; want 0s or more", s.delay, s.timeout)
	}
	return errors.Join(faults...)
}

// file is the form of the file of -c.
type file struct {
	Listen      string            `yaml:"listen"`
	GRPCListen  string            `yaml:"grpc_listen"`
	PortFile    string            `yaml:"port_file"`
	Models      []modelSetting    `yaml:"models"`
	Repository  repositorySetting `yaml:"repository"`
	Environment string            `yaml:"environment"`
	Log         struct {
		Level string `yaml:"level"`
	} `yaml:"log"`
	ONNXRuntime        string            `yaml:"onnxruntime"`
	Threads            int               `yaml:"threads"`
	Workers            int               `yaml:"workers"`
	Queue              int               `yaml:"queue"`
	Batching           batchingSetting   `yaml:"batching"`
	ExecutionProviders []providerSetting `yaml:"execution_providers"`
	Strict             *bool             `yaml:"strict"`
	Limits             struct {
		Body string `yaml:"body"`
	} `yaml:"limits"`
	ResourceGate *bool        `yaml:"resource_gate"`
	GPU          string       `yaml:"gpu"`
	Drift        driftSetting `yaml:"drift"`
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
		listen: f.Listen, grpcListen: f.GRPCListen, portFile: f.PortFile, models: f.Models, repository: f.Repository, environment: f.Environment, logLevel: f.Log.Level,
		library: f.ONNXRuntime, threads: f.Threads, workers: f.Workers, queue: f.Queue,
		batching: f.Batching, providers: f.ExecutionProviders, strict: f.Strict, gate: f.ResourceGate, gpu: f.GPU, drift: f.Drift,
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
		if m.Path == "" && (m.Name == "" || f.Repository.Folder == "") {
			return settings{}, fmt.Errorf("%s: models[%d] has no path; only a model of repository.folder has none, but a name", path, i)
		}
		m.Path = resolve(folder, m.Path)
	}
	s.repository.Folder = resolve(folder, s.repository.Folder)
	s.drift.References = resolve(folder, s.drift.References)
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
