package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/config"
	"weir/internal/certificate"
	"weir/internal/state"
	"weir/internal/takeover"
	"weir/internal/telemetry"
	"weir/proxy"
	"weir/proxy/admin"
	"weir/proxy/control"
)

// adminGrace is how long running requests of the admin API may take once the proxy has stopped.
const adminGrace = 2 * time.Second

// settleGrace is how long a change under way may take before weir stops accepting all the same.
const settleGrace = 2 * time.Second

// appOptions are what "weir serve" was called with.
type appOptions struct {
	file         string
	drainTimeout time.Duration
	takeover     bool
	version      string
	stderr       io.Writer
}

// app is a running weir: its parts, wired. Open it with openApp, then run it.
type app struct {
	o        appOptions
	log      *zap.Logger
	access   *telemetry.AccessLog
	proxy    *proxy.Proxy
	control  *control.Controller
	reloader *reloader

	admin         *admin.Server
	adminListener net.Listener
	tokens        *admin.Tokens
	certificate   *certificate.Watcher // nil without admin.tls

	successors *takeover.Listener // nil where no other weir can take over
	takenOver  chan struct{}      // closed when one has
	reclaim    reclaim

	started, stopping atomic.Bool
	background        sync.WaitGroup // reloads by signal, and the servers
}

// openApp makes the parts, in an order in which each has what it needs: configuration, logs, proxy with
// its listeners, admin listener. On an error nothing is left open.
func openApp(o appOptions) (*app, error) {
	cfg, err := config.Load(o.file)
	if err == nil {
		err = admin.Check(cfg)
	}
	if err != nil {
		return nil, err
	}
	log, level, err := telemetry.NewLogger(cfg.Log.Level, o.stderr)
	if err != nil {
		return nil, err
	}
	a := &app{o: o, log: log, tokens: admin.NewTokens(log.Named("admin")), takenOver: make(chan struct{})}
	output, err := telemetry.OpenAccessLog(cfg.Log.Access.Output, a.accessLogFailed)
	if err != nil {
		return nil, err
	}
	a.access = telemetry.NewAccessLog(output, telemetry.DefaultAccessBuffer)
	var in inheritance
	if o.takeover {
		if in, err = a.inherit(cfg); err != nil {
			a.close()
			return nil, err
		}
	}
	if err := a.openParts(cfg, level, &in); err != nil {
		a.close() // the state first: the running weir takes it back
		in.close()
		return nil, err
	}
	return a, nil
}

// openParts makes what serves. Where the running weir hands over, this one serves from here on.
func (a *app) openParts(cfg *config.Config, level zap.AtomicLevel, in *inheritance) error {
	if err := a.openControl(cfg.State); err != nil {
		return err
	}
	if err := a.proxy.Use(cfg.Listeners, in.sockets); err != nil {
		return err
	}
	a.reloader = &reloader{file: a.o.file, log: a.log.Named("reload"), level: level, access: a.access, accessFailed: a.accessLogFailed, control: a.control, tokens: a.tokens}
	if err := a.reloader.first(cfg); err != nil {
		return err
	}
	a.adminListener, in.admin = in.admin, nil
	if err := a.openAdmin(cfg.Admin); err != nil {
		return err
	}
	if err := in.serving(); err != nil {
		return err
	}
	a.successors = a.listenForTakeover(cfg.State, *in)
	return nil
}

func (a *app) accessLogFailed(err error) { a.log.Warn(err.Error()) }

// openControl makes the proxy, and what steers it from what the last run left.
func (a *app) openControl(cfg config.State) (err error) {
	log := a.log.Named("control")
	store := state.Store(new(state.Memory))
	if cfg.File != "" {
		wait := time.Duration(0)
		if a.o.takeover {
			wait = stateWait
		}
		if store, err = state.OpenFile(cfg.File, state.FileOptions{Wait: wait, Warn: func(message string) { log.Warn(message) }}); err != nil {
			return err
		}
	}
	a.control, err = control.New(control.Options{
		Proxy: proxy.Options{Log: a.log.Named("proxy"), AccessLog: a.access, Version: a.o.version, Dedicated: true},
		Store: store, Log: log,
	})
	if err != nil {
		_ = store.Close() // nothing was written to it
		return err
	}
	a.proxy = a.control.Proxy()
	return nil
}

func (a *app) openAdmin(cfg config.Admin) (err error) {
	log := a.log.Named("admin")
	o := admin.Options{
		Address:    cfg.Address,
		Control:    a.control,
		Config:     a.reloader.inForce,
		Reload:     a.reloader.reload,
		Started:    a.started.Load,
		Ready:      a.notReady,
		Tokens:     a.tokens,
		Collectors: []prometheus.Collector{a.proxy.Collector(), a.control.Collector(), certificate.NewCollector(a.certificates)},
		Log:        log,
	}
	if cfg.TLS != nil {
		a.certificate, err = certificate.Watch(cfg.TLS.Cert, cfg.TLS.Key, certificate.Options{Log: log})
		if err != nil {
			return fmt.Errorf("cannot open the admin listener (admin.tls): %w", err)
		}
		a.reloader.certificate = a.certificate
		o.GetCertificate = a.certificate.GetCertificate
	} else if !config.LoopbackAddress(cfg.Address) {
		log.Warn("the admin API can be reached from other machines without TLS: who listens on the way can read the tokens; set admin.tls",
			zap.String("address", cfg.Address))
	}
	if a.admin, err = admin.New(o); err != nil {
		return err
	}
	if a.adminListener != nil { // from the weir before
		return nil
	}
	a.adminListener, err = net.Listen("tcp", cfg.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("cannot open the admin listener: %w\nIs another weir running? Give this one an admin.address of its own", err)
	}
	if err != nil {
		return fmt.Errorf("cannot open the admin listener (admin.address): %w", err)
	}
	return nil
}

// certificates are all that are served, for their metric.
func (a *app) certificates() []certificate.Served {
	all := a.proxy.Certificates()
	if a.certificate != nil {
		all = append(all, a.certificate)
	}
	return all
}

// notReady says why no new requests should be sent here; nothing when they should.
func (a *app) notReady() []string {
	switch {
	case a.stopping.Load():
		return []string{"weir is stopping"}
	case a.proxy.Ready():
		return nil
	}
	return append([]string{"no route has a usable endpoint"}, a.control.Status().Reasons...)
}

// run serves until a signal stops it or a server fails. It returns nil after a clean stop: nothing that
// was accepted is lost.
func (a *app) run(signals <-chan os.Signal) error {
	defer a.close()
	failed := make(chan error, 2)
	a.background.Go(func() {
		if err := a.proxy.Serve(context.Background()); err != nil {
			failed <- fmt.Errorf("proxy: %w", err)
		}
	})
	a.background.Go(func() {
		if err := a.admin.Serve(a.adminListener); err != nil {
			failed <- fmt.Errorf("admin listener: %w", err)
		}
	})
	ctx, stopWatch := context.WithCancel(context.Background())
	defer stopWatch()
	watched := config.Watch(ctx, a.o.file,
		func(err error) { a.log.Warn("cannot watch the configuration", telemetry.Exception(err)) },
		func() { a.reload("file") })
	a.background.Go(func() { <-watched })
	a.background.Go(func() { a.serveTakeovers(ctx, a.reloader.current.Load().cfg.State) })
	a.started.Store(true)
	a.logListening()
	a.reload("start") // the file may have changed between being read and being watched

	for {
		select {
		case err := <-failed:
			a.log.Error("weir cannot go on", telemetry.Exception(err))
			stopWatch()
			return errors.Join(err, a.stop("failure", signals))
		case s := <-signals:
			if s != syscall.SIGHUP {
				stopWatch()
				return a.stop(s.String(), signals)
			}
			a.background.Go(func() { a.reload("SIGHUP") })
		case <-a.takenOver:
			stopWatch()
			a.stopAdmin() // at once: who asks now means the new weir
			return a.stop("takeover", signals)
		}
	}
}

// reload reads the file again; the reloader has logged what came of it.
func (a *app) reload(by string) { _, _, _ = a.reloader.reload(by) }

func (a *app) logListening() {
	var addresses []string
	for _, addr := range a.proxy.Addrs() {
		addresses = append(addresses, addr.String())
	}
	// The one line that every level shows: where weir is, with port 0, is to be learned nowhere else.
	log, _, err := telemetry.NewLogger("info", a.o.stderr)
	if err != nil {
		log = a.log
	}
	log.Info("listening", zap.Strings("addresses", addresses), zap.String("admin", a.adminListener.Addr().String()),
		zap.String("config", a.o.file), zap.Uint64("generation", a.proxy.Generation()), zap.String("version", a.o.version))
}

// stop ends the proxy: no new connections, what runs is finished. A further signal ends the wait.
func (a *app) stop(why string, signals <-chan os.Signal) error {
	a.log.Info("stopping: running requests are finished first", zap.String("by", why), zap.Duration("at_most", a.o.drainTimeout))
	a.stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), a.o.drainTimeout)
	defer cancel()
	settled, drained := make(chan bool), make(chan error, 1)
	go func() {
		defer close(settled)
		a.reloader.close() // after a reload that is under way, so that it opens nothing anew
		if err := a.control.Close(); err != nil {
			a.log.Warn("the state file cannot be closed", telemetry.Exception(err))
		}
	}()
	go func() {
		select {
		case <-settled:
		case <-time.After(settleGrace):
			a.log.Warn("a change is still waiting for the disk; weir stops all the same")
		}
		drained <- a.proxy.Shutdown(ctx)
	}()
	for {
		select {
		case err := <-drained:
			if err != nil {
				return fmt.Errorf("not everything was finished within --drain-timeout %s: %w", a.o.drainTimeout, err)
			}
			a.stopAdmin()
			select {
			case <-settled:
			case <-ctx.Done():
				return fmt.Errorf("the disk of the state file did not answer within --drain-timeout %s: the last change may be lost", a.o.drainTimeout)
			}
			a.background.Wait()
			a.log.Info("stopped")
			return nil
		case s := <-signals:
			if s != syscall.SIGHUP {
				return fmt.Errorf("quit at once by a second signal (%s): running requests were cut off", s)
			}
		}
	}
}

func (a *app) stopAdmin() {
	ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	if err := a.admin.Shutdown(ctx); err != nil {
		a.log.Warn("the admin API was cut off", telemetry.Exception(err))
	}
}

// close releases what is still open; after a clean stop that is the logs.
func (a *app) close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if a.control != nil {
		_ = a.control.Close()
		_ = a.proxy.Shutdown(ended) // after a clean stop there is nothing left, else it was reported
	}
	if a.adminListener != nil {
		_ = a.adminListener.Close()
	}
	if a.certificate != nil {
		a.certificate.Close()
	}
	a.tokens.Close()
	if err := a.access.Close(); err != nil {
		a.log.Warn("the access log is not complete", telemetry.Exception(err))
	}
	_ = a.log.Sync() // stderr cannot be synced on every system
}
