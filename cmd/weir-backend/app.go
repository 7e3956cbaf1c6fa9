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
	server, err := backend.New(backend.Options{
		Models:       sources(s, runtime, log),
		Workers:      s.workers,
		Queue:        s.queue,
		BodyLimit:    int(s.body),
		Environment:  s.environment,
		Build:        version,
		ResourceGate: *s.gate,
		GPU:          gpus(s, log),
		Log:          log,
	})
	if err != nil {
		return errors.Join(err, runtime.Close())
	}
	if err := os.Remove(s.portFile); err != nil && s.portFile != "" && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("cannot remove the port file of an earlier run: %w", err), runtime.Close())
	}
	ln, err := net.Listen("tcp", s.listen)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot listen: %w", err), runtime.Close())
	}
	if s.portFile != "" {
		if err := writePort(s.portFile, ln.Addr()); err != nil {
			return errors.Join(err, ln.Close(), runtime.Close())
		}
		defer func() { err = errors.Join(err, os.Remove(s.portFile)) }()
	}
	log.Info("listening", zap.String("address", ln.Addr().String()))
	if err := serve(ctx, server, ln, s, log); err != nil {
		// Requests may still be running, so the runtime cannot be unloaded under them.
		return err
	}
	log.Info("weir-backend has stopped")
	return runtime.Close()
}

// serve serves on ln while the models are loaded, and until ctx ends or something fails.
func serve(ctx context.Context, server *backend.Server, ln net.Listener, s settings, log *zap.Logger) error {
	served, loaded := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
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
	return <-served
}

// sources are the models to load.
func sources(s settings, runtime *onnx.Runtime, log *zap.Logger) []backend.Source {
	all := make([]backend.Source, len(s.models))
	for i, m := range s.models {
		all[i] = backend.Source{Name: m.Name, Version: m.Version, Path: m.Path, Open: func() (backend.Runner, error) {
			path, err := modelFile(m.Path)
			if err != nil {
				return nil, err
			}
			model, warning, err := runtime.Load(path, onnx.Options{Threads: s.threads})
			if err != nil {
				return nil, err
			}
			if warning != nil {
				log.Warn("the model is served, but could not be warmed up", zap.String("model", m.Name), zap.String("path", path),
					telemetry.Exception(warning))
			}
			return model, nil
		}}
	}
	return all
}

// modelFile is the model's file: path itself, or the only .onnx file in the folder path.
func modelFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the model: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	found, err := filepath.Glob(filepath.Join(path, "*.onnx"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("the folder %s holds %d .onnx files; want one, or name the file", path, len(found))
	}
	return found[0], nil
}

// gpus is how the server reads the GPUs, nil when it shall not.
func gpus(s settings, log *zap.Logger) func() ([]backend.GPUDevice, error) {
	if s.gpu == "off" {
		return nil
	}
	reader := gpu.New()
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
