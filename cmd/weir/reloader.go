package main

import (
	"cmp"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/certificate"
	"weir/internal/telemetry"
	"weir/proxy"
	"weir/proxy/admin"
	"weir/proxy/control"
)

// errStopping is why a stopping weir reads no configuration.
func errStopping() error {
	return &proxy.ControlError{Status: 503, Code: "stopping", Message: "weir is stopping; nothing is reloaded any more"}
}

// reloader is the one way in which a configuration comes into force: a changed file, SIGHUP and the API
// all call reload. Everything that can fail is done first and touches nothing that runs.
type reloader struct {
	file         string
	log          *zap.Logger
	level        zap.AtomicLevel
	access       *telemetry.AccessLog
	accessFailed func(error)
	control      *control.Controller
	tokens       *admin.Tokens
	certificate  *certificate.Watcher // the admin listener's; nil without admin.tls

	mu      sync.Mutex // one reload at a time
	refused error      // why nothing is reloaded
	closed  bool       // refused stays
	missed  bool       // a reload was refused that refuse(nil) has not told of
	current atomic.Pointer[inForce]
}

// inForce is a configuration and the generation it came into force with.
type inForce struct {
	cfg        *config.Config
	generation uint64
}

// first puts the configuration of the start in force. The logs follow it already.
func (r *reloader) first(cfg *config.Config) error {
	tokens, err := admin.ReadTokens(cfg.Admin.TokenFile)
	if err != nil {
		return err
	}
	generation, _, err := r.control.Apply(cfg, proxy.Cause{By: "file"})
	if err != nil {
		return err
	}
	r.tokens.Use(cfg.Admin.TokenFile, tokens)
	r.current.Store(&inForce{cfg, generation})
	return nil
}

// inForce returns the configuration in force and the generation it came with.
func (r *reloader) inForce() (*config.Config, uint64) {
	c := r.current.Load()
	return c.cfg, c.generation
}

// close waits for a reload under way and refuses all later ones.
func (r *reloader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused, r.closed = errStopping(), true
}

// refuse waits for a reload under way and refuses later ones with err; nil undoes that, and reports whether
// one was refused meanwhile. After close it does nothing.
func (r *reloader) refuse(err error) (missed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	missed = err == nil && r.missed
	r.refused, r.missed = err, false
	return missed
}

// adminAddress is the configured one.
func (r *reloader) adminAddress() string { return r.current.Load().cfg.Admin.Address }

// reload reads the file and puts it in force; by says who asked. It returns the generation then in
// force, be it the old one, and what changed: after an error nothing has.
func (r *reloader) reload(by string) (generation uint64, changes []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused != nil {
		r.missed = true
		return r.control.Generation(), nil, r.refused
	}
	cfg, err := config.Load(r.file)
	if err == nil {
		err = r.restartNeeded(cfg)
	}
	var tokens *admin.TokenSet
	if err == nil {
		tokens, err = admin.ReadTokens(cfg.Admin.TokenFile)
	}
	if err != nil {
		return r.reject(by, err)
	}
	return r.apply(by, cfg, tokens)
}

// restartNeeded refuses what takes a restart.
func (r *reloader) restartNeeded(cfg *config.Config) error {
	if faults := restartFaults(r.file, r.current.Load().cfg, cfg); len(faults) > 0 {
		return faults
	}
	return nil
}

// restartFaults are what of the next configuration, which file holds, takes a restart. The API is where the
// outcome of a reload is told, and moving it under its callers would leave them without an answer.
func restartFaults(file string, old, next *config.Config) (faults config.Faults) {
	refuse := func(key, was, is, instead string) {
		if was != is {
			faults = append(faults, config.Fault{File: file, Key: key,
				Message: "cannot change by a reload: it is " + was + ", the file says " + is + "; restart weir, or put " + instead})
		}
	}
	refuse("admin.address", old.Admin.Address, next.Admin.Address, "the old address back")
	refuse("admin.tls", pairName(old.Admin.TLS), pairName(next.Admin.TLS), "it back (what the files hold may change at any time)")
	refuse("state.file", cmp.Or(old.State.File, "off"), cmp.Or(next.State.File, "off"), "it back")
	return faults
}

func pairName(c *config.Certificate) string {
	if c == nil {
		return "off"
	}
	return c.Cert + " with " + c.Key
}

func (r *reloader) apply(by string, cfg *config.Config, tokens *admin.TokenSet) (generation uint64, changes []string, err error) {
	before := r.current.Load()
	// Opened again even when the name is the same: that is how a rotated file is let go.
	output, err := telemetry.OpenAccessLog(cfg.Log.Access.Output, r.accessFailed)
	if err != nil {
		return r.reject(by, err)
	}
	generation, changes, err = r.control.Apply(cfg, proxy.Cause{By: by})
	if err != nil {
		_ = telemetry.CloseOutput(output) // nothing was written to it
		return r.reject(by, err)
	}
	// From here on nothing can fail.
	r.access.SetOutput(output)
	r.tokens.Use(cfg.Admin.TokenFile, tokens)
	for _, c := range r.control.Proxy().Certificates() {
		c.Refresh()
	}
	if r.certificate != nil {
		r.certificate.Refresh()
	}
	if level, err := telemetry.ParseLevel(cfg.Log.Level); err == nil { // the loader has checked it
		r.level.SetLevel(level)
	}
	if r.control.Proxy().Config() == before.cfg {
		r.log.Debug("the configuration was read again; nothing has changed", zap.String("by", by))
		return generation, nil, nil
	}
	r.current.Store(&inForce{cfg, generation})
	r.log.Info("the configuration was reloaded", zap.String("by", by), zap.Uint64("generation", generation), zap.Strings("changes", changes))
	return generation, changes, nil
}

// reject logs every fault; the configuration in force stays.
func (r *reloader) reject(by string, err error) (uint64, []string, error) {
	generation := r.control.Generation()
	faults := faultLines(err)
	r.control.ReloadFailed(by, faults)
	for _, fault := range faults {
		r.log.Error("the configuration was rejected; the one before it stays in force",
			zap.String("by", by), zap.String("fault", fault), zap.Uint64("generation", generation))
	}
	return generation, nil, err
}
