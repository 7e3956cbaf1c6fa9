package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/backend"
	"weir/backend/gpu"
	"weir/backend/onnx"
	"weir/internal/telemetry"
)

// run serves until ctx ends, and then stops as the settings say.
func run(ctx context.Context, s settings, out io.Writer) (err error) {
	log, _, err := telemetry.NewLogger(s.logLevel, out)
	if err != nil {
		return err
	}
	log = log.Named("backend")
	library, err := onnx.Locate(s.library)
	if err != nil {
		return err
	}
	runtime, err := onnx.Start(library)
	if err != nil {
		return err
	}
	log.Info("weir-backend is starting", zap.String("version", version), zap.String("onnxruntime", runtime.Version()),
		zap.String("library", library), zap.String("environment", s.environment))
	drift, err := s.drift.open()
	if err != nil {
		return errors.Join(err, runtime.Close())
	}
	models := &opener{s: s, runtime: runtime, log: log}
	server, err := backend.New(backend.Options{
		Models:       models.sources(),
		Folder:       models.folder(),
		Control:      *s.repository.Control,
		Workers:      s.workers,
		Queue:        s.queue,
		Batching:     s.batching.backend(),
		BodyLimit:    int(s.body),
		Environment:  s.environment,
		Build:        version,
		ResourceGate: *s.gate,
		Drift:        drift,
		GPU:          gpus(s, log),
		Log:          log,
	})
	if err != nil {
		return errors.Join(err, runtime.Close())
	}
	if err := os.Remove(s.portFile); err != nil && s.portFile != "" && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("cannot remove the port file of an earlier run: %w", err), runtime.Close())
	}
	open, err := listen(s, log)
	if err != nil {
		return errors.Join(err, runtime.Close())
	}
	if s.portFile != "" {
		if err := writePort(s.portFile, open.http.Addr()); err != nil {
			return errors.Join(err, open.close(), runtime.Close())
		}
		defer func() { err = errors.Join(err, os.Remove(s.portFile)) }()
	}
	if err := serve(ctx, server, open, s, log); err != nil {
		// Requests may still be running, so the runtime cannot be unloaded under them.
		return err
	}
	log.Info("weir-backend has stopped")
	return runtime.Close()
}

// listeners are what the program listens on; grpc is nil where it shall not.
type listeners struct{ http, grpc net.Listener }

// listen opens all listeners, or none.
func listen(s settings, log *zap.Logger) (open listeners, err error) {
	if open.http, err = net.Listen("tcp", s.listen); err != nil {
		return open, fmt.Errorf("cannot listen: %w", err)
	}
	if s.grpcListen != "" {
		if open.grpc, err = net.Listen("tcp", s.grpcListen); err != nil {
			return open, errors.Join(fmt.Errorf("cannot listen for gRPC: %w", err), open.http.Close())
		}
	}
	log.Info("listening", zap.String("address", open.http.Addr().String()))
	if open.grpc != nil {
		log.Info("listening for gRPC", zap.String("address", open.grpc.Addr().String()))
	}
	return open, nil
}

func (l listeners) close() error {
	err := l.http.Close()
	if l.grpc != nil {
		err = errors.Join(err, l.grpc.Close())
	}
	return err
}

// serve serves on the listeners while the models are loaded, and until ctx ends or something
// fails.
func serve(ctx context.Context, server *backend.Server, open listeners, s settings, log *zap.Logger) error {
	served, loaded := make(chan error, 2), make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { served <- server.Serve(open.http) })
	if open.grpc != nil {
		serving.Go(func() { served <- server.ServeGRPC(open.grpc) })
	}
	go func() {
		serving.Wait()
		close(served)
	}()
	go func() { loaded <- server.Load() }()
	loading := true
	for {
		select {
		case err := <-loaded:
			if err != nil {
				return errors.Join(err, stop(server, served, s.timeout))
			}
			loading = false
			loaded = nil
			log.Info("ready to serve")
		case err := <-served:
			return errors.Join(errors.New("the server ended by itself"), err)
		case <-ctx.Done():
			log.Info("stopping", zap.Duration("delay", s.delay), zap.Duration("timeout", s.timeout))
			server.Drain()
			// Not the end of ctx: that has come.
			timer := time.NewTimer(s.delay)
			<-timer.C
			if loading {
				<-loaded // a model cannot be closed while it is being loaded
			}
			return stop(server, served, s.timeout)
		}
	}
}

func stop(server *backend.Server, served <-chan error, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return err
	}
	var all error
	for err := range served {
		all = errors.Join(all, err)
	}
	return all
}

// gpus is how the server reads the GPUs, nil when it shall not.
func gpus(s settings, log *zap.Logger) func() ([]backend.GPUDevice, error) {
	if s.gpu == gpuOff {
		return nil
	}
	reader := gpu.NewMachine(s.gpu)
	logged := ""
	return func() ([]backend.GPUDevice, error) {
		found, err := reader.Read()
		if now := fmt.Sprint(len(found), err); now != logged {
			logged = now
			log.Info("GPUs", zap.Int("devices", len(found)), telemetry.Exception(err))
		}
		devices := make([]backend.GPUDevice, len(found))
		for i, d := range found {
			devices[i] = backend.GPUDevice(d)
		}
		return devices, err
	}
}

// writePort writes the port of the address to a file, all at once: whoever reads it reads it
// whole.
func writePort(path string, address net.Addr) error {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("the address %s has no port", address)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write the port file: %w", err)
	}
	_, err = temporary.WriteString(strconv.Itoa(tcp.Port) + "\n")
	err = errors.Join(err, temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write the port file: %w", err), os.Remove(temporary.Name()))
	}
	return nil
}
