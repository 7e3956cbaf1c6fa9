// Package backend is the model server behind weir-backend: the deployment guide's API, the Open
// Inference Protocol V2 over REST with binary tensors and over gRPC, health, metrics and load
// reports. What runs the models comes in through [Runner], so this package needs no cgo.
package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"weir/backend/load"
	"weir/internal/telemetry"
)

// Defaults of Options.
const (
	DefaultQueue     = 1024
	DefaultBodyLimit = 64 << 20
)

// Bounds on clients. A request's head must fit maxHead; the other two are durations for a whole
// request, and for a connection between requests (longer than proxies keep theirs, so that it is
// they who close).
const (
	maxHead     = 32 << 10
	readTimeout = 60 * time.Second
	idleTimeout = 120 * time.Second
)

// samplePeriod is how often resources and GPUs are read.
const samplePeriod = 2 * time.Second

// Options of a Server. Only Models is required.
type Options struct {
	// Models to serve. The first is what /predict asks; the first of several versions is the
	// one that V2 requests without a version get.
	Models []Source
	// Folder of further models, nil for none.
	Folder *Folder
	// Control lets clients load and unload models.
	Control bool
	// Workers is how many runs there are at once, default the number of CPUs.
	Workers int
	// Queue is how many requests may wait for a worker, default DefaultQueue; the next one is
	// refused with 503, or RESOURCE_EXHAUSTED.
	Queue int
	// Batching of the models that can be batched and do not say otherwise, default none.
	Batching Batching
	// BodyLimit is the largest request body, or gRPC message, in bytes, default DefaultBodyLimit;
	// beyond it 413, or RESOURCE_EXHAUSTED.
	BodyLimit int
	// Environment is told in ml_model_info and the log.
	Environment string
	// Build is this program's version, told in the V2 server metadata.
	Build string
	// ResourceGate lets a shortage of CPU, memory or disk make the server not ready.
	ResourceGate bool
	// Drift of predictions, watched unless it is off.
	Drift Drifting
	// GPU reads the GPUs, nil for none. An error makes the server not ready.
	GPU func() ([]GPUDevice, error)
	// Log, default none.
	Log *zap.Logger
	// Now, default time.Now.
	Now func() time.Time
}

// Server serves models over HTTP/1.1 and gRPC.
type Server struct {
	options Options
	log     *zap.Logger
	started time.Time
	http    fasthttp.Server
	grpc    *grpcServer

	meter      *meter
	scheduler  *scheduler
	departures *departures
	metrics    *metrics
	unnamed    errorCounters // faults before a model was chosen
	resources  *resources
	gpus       *gpuWatch

	// repository is nil until every model is loaded and warm, and after Shutdown.
	repository atomic.Pointer[repository]
	registry   *registry
	draining   atomic.Bool
	reports    sync.Pool // *load.Report

	// mu orders Serve and Shutdown, which may be called in any order.
	mu       sync.Mutex
	listener net.Listener // once Serve was called
	stopped  bool         // once Shutdown was called
}

// New returns a Server that answers its health endpoints at once, and requests after Load.
func New(o Options) (*Server, error) {
	if len(o.Models) == 0 && o.Folder == nil {
		return nil, errors.New("no model to serve; name one by --model NAME=PATH, models: in the file of -c, or MODEL_PATH")
	}
	for i := range o.Models {
		m := &o.Models[i]
		if !validName(m.Name) {
			return nil, fmt.Errorf("the model name %q is not valid; want %s", m.Name, nameAlphabet)
		}
		if m.Version != "" && !validName(m.Version) {
			return nil, fmt.Errorf("model %s: the version %q is not valid; want %s", m.Name, m.Version, nameAlphabet)
		}
		if err := m.Serving.Check(); err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	if err := o.Batching.Check(); err != nil {
		return nil, fmt.Errorf("batching: %w", err)
	}
	if err := o.Drift.Check(); err != nil {
		return nil, fmt.Errorf("drift: %w", err)
	}
	o.Drift.fill()
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	if o.BodyLimit <= 0 {
		o.BodyLimit = DefaultBodyLimit
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		options:    o,
		log:        o.Log,
		started:    o.Now(),
		meter:      newMeter(o.Workers, o.Now),
		departures: newDepartures(),
		metrics:    newMetrics(),
		resources:  newResources("/"),
		gpus:       newGPUWatch(o.GPU),
	}
	s.registry = newRegistry(s)
	s.scheduler = newScheduler(o.Workers, o.Queue, s.meter, o.Now)
	s.reports.New = func() any { return new(load.Report) }
	s.unnamed = s.metrics.errorsOf("")
	s.metrics.registry.MustRegister(newState(s))
	// What fasthttp has to say is about malformed requests; their senders are told.
	quiet, err := zap.NewStdLogAt(o.Log, zap.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("cannot make a log for fasthttp: %w", err)
	}
	s.configure(quiet)
	s.grpc = newGRPC(s)
	return s, nil
}

// configure sets up the HTTP server, whose own log is log.
func (s *Server) configure(log fasthttp.Logger) {
	s.http = fasthttp.Server{
		Handler:               s.handle,
		ErrorHandler:          s.refuse,
		Name:                  "weir-backend",
		ReadBufferSize:        maxHead,
		MaxRequestBodySize:    s.options.BodyLimit,
		ReadTimeout:           readTimeout,
		IdleTimeout:           idleTimeout,
		CloseOnShutdown:       true,
		NoDefaultContentType:  true,
		LazyRequestTime:       true,
		Logger:                log,
		SecureErrorLogMessage: true,
		// A body is a tensor, whatever its content type says.
		DisablePreParseMultipartForm: true,
	}
}

// Load opens every model, in the order of the options and then of the folder, and makes the server
// ready. After an error nothing is loaded.
func (s *Server) Load() error {
	if err := s.registry.loadAll(); err != nil {
		return err
	}
	s.grpc.health.tell()
	return nil
}

// Serve answers requests on ln until Shutdown; then it returns nil, at once when Shutdown came
// before. It closes ln. It may be called once.
func (s *Server) Serve(ln net.Listener) error {
	ln = &lingering{Listener: ln}
	s.mu.Lock()
	s.listener = ln
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return ln.Close()
	}
	stop := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() { s.sampleUntil(stop) })
	sampling.Go(func() { s.departures.until(stop) })
	if f := s.options.Folder; f != nil && f.Poll > 0 {
		sampling.Go(func() { s.registry.pollUntil(stop) })
	}
	defer sampling.Wait()
	defer close(stop)
	return s.http.Serve(ln)
}

func (s *Server) sampleUntil(stop <-chan struct{}) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		now := s.options.Now()
		s.resources.sample(now)
		go s.gpus.sample(now) // alone, because a driver may hang
		s.tickDrift(now)
		s.grpc.health.tell()
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// Drain makes the server not ready and ends each connection of HTTP/1.1 after its next answer. It
// serves on.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.grpc.health.tell()
}

// Shutdown takes no more connections, lets running requests end and closes the models. When ctx
// ends first, it returns its error and leaves the models open, because requests still use them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.stopped = true
	ln := s.listener
	s.mu.Unlock()
	if ln != nil {
		// fasthttp does not close a listener that its Serve has not come to yet.
		if err := ln.Close(); err != nil {
			return fmt.Errorf("cannot close the listener: %w", err)
		}
	}
	calls := make(chan error, 1)
	go func() { calls <- s.grpc.shutdown(ctx) }()
	err := s.http.ShutdownWithContext(ctx)
	if err != nil {
		err = fmt.Errorf("requests are still running: %w", err)
	}
	if err = errors.Join(err, <-calls); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		s.registry.close()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a model is still being loaded: %w", ctx.Err())
	}
}

// handle answers one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a request", telemetry.Panic(p, debug.Stack()))
			f := &fault{status: fasthttp.StatusInternalServerError, kind: faultPanic, message: "internal error"}
			s.unnamed.count(f)
			s.fail(ctx, f)
		}
		s.addLoadReport(ctx)
		if s.draining.Load() {
			ctx.SetConnectionClose()
		}
	}()
	if f := s.route(ctx); f != nil {
		s.fail(ctx, f)
	}
}

// fail answers with the fault.
func (s *Server) fail(ctx *fasthttp.RequestCtx, f *fault) {
	ctx.Response.ResetBody()
	if f.status == fasthttp.StatusServiceUnavailable {
		ctx.Response.Header.Set("Retry-After", f.retryAfter())
	}
	answer(ctx, f.status, struct {
		Error string `json:"error"`
	}{f.message})
}

// addLoadReport adds the ORCA report when the request asks for it.
func (s *Server) addLoadReport(ctx *fasthttp.RequestCtx) {
	asked := ctx.Request.Header.Peek(load.RequestHeader)
	if len(asked) == 0 {
		return
	}
	format, ok := load.ParseFormat(asked)
	if !ok {
		return
	}
	r := s.reports.Get().(*load.Report)
	s.report(r)
	var buffer [384]byte
	ctx.Response.Header.SetBytesV(load.ResponseHeader, r.Append(buffer[:0], format))
	s.reports.Put(r)
}

// report fills in the load as it is now.
func (s *Server) report(r *load.Report) {
	s.meter.report(r)
	s.gpus.report(r, s.options.Now())
}
