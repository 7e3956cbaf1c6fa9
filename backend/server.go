// Package backend is the model server behind weir-backend: the deployment guide's API, the Open
// Inference Protocol V2 over REST with binary tensors, health, metrics and load reports. What
// runs the models comes in through [Runner], so this package needs no cgo.
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
	// Workers is how many requests run at once, default the number of CPUs.
	Workers int
	// Queue is how many requests may wait for a worker, default DefaultQueue; the next one is
	// refused with 503.
	Queue int
	// BodyLimit is the largest request body in bytes, default DefaultBodyLimit; beyond it 413.
	BodyLimit int
	// Environment is told in ml_model_info and the log.
	Environment string
	// Build is this program's version, told in the V2 server metadata.
	Build string
	// ResourceGate lets a shortage of CPU, memory or disk make the server not ready.
	ResourceGate bool
	// GPU reads the GPUs, nil for none. An error makes the server not ready.
	GPU func() ([]GPUDevice, error)
	// Log, default none.
	Log *zap.Logger
	// Now, default time.Now.
	Now func() time.Time
}

// Server serves models over HTTP.
type Server struct {
	options Options
	log     *zap.Logger
	started time.Time
	http    fasthttp.Server

	meter     *meter
	metrics   *metrics
	unnamed   errorCounters // faults before a model was chosen
	resources *resources
	gpus      *gpuWatch

	// repository is nil until every model is loaded and warm.
	repository atomic.Pointer[repository]
	draining   atomic.Bool
	reports    sync.Pool // *load.Report

	// mu orders Serve and Shutdown, which may be called in any order.
	mu       sync.Mutex
	listener net.Listener // once Serve was called
	stopped  bool         // once Shutdown was called
}

// New returns a Server that answers its health endpoints at once, and requests after Load.
func New(o Options) (*Server, error) {
	if len(o.Models) == 0 {
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
	}
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
		options:   o,
		log:       o.Log,
		started:   o.Now(),
		meter:     newMeter(o.Workers, o.Queue, o.Now),
		metrics:   newMetrics(),
		resources: newResources("/"),
		gpus:      newGPUWatch(o.GPU),
	}
	s.reports.New = func() any { return new(load.Report) }
	s.unnamed = s.metrics.errorsOf("")
	s.metrics.registry.MustRegister(newState(s))
	// What fasthttp has to say is about malformed requests; their senders are told.
	quiet, err := zap.NewStdLogAt(o.Log, zap.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("cannot make a log for fasthttp: %w", err)
	}
	s.configure(quiet)
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

// Load opens every model, in the order of the options, and makes the server ready. After an
// error nothing is loaded.
func (s *Server) Load() error {
	models, err := openAll(s.options.Models)
	if err != nil {
		return err
	}
	for i, m := range models.models {
		m.metrics = s.metrics.of(m)
		s.log.Info("model loaded", zap.String("model", m.Name), zap.String("model_version", m.Version),
			zap.String("path", s.options.Models[i].Path), zap.String("model_type", string(m.reading.kind)),
			zap.Any("metadata", m.signature.Metadata), zap.String("wants", m.wants()))
	}
	s.repository.Store(models)
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
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// Drain makes the server not ready and ends each connection after its next answer. It serves on.
func (s *Server) Drain() { s.draining.Store(true) }

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
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("requests are still running: %w", err)
	}
	if models := s.repository.Swap(nil); models != nil {
		return models.close()
	}
	return nil
}

// handle answers one request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a request", telemetry.Panic(p, debug.Stack()))
			f := &fault{fasthttp.StatusInternalServerError, faultPanic, "internal error"}
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
		ctx.Response.Header.Set("Retry-After", "1")
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
	s.meter.report(r)
	var buffer [256]byte
	ctx.Response.Header.SetBytesV(load.ResponseHeader, r.Append(buffer[:0], format))
	s.reports.Put(r)
}
