package main

import (
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"weir/internal/state"
	"weir/internal/takeover"
	"weir/proxy"
	"weir/proxy/control"
)

// TestAStateThatAThirdHolds: somebody else has the lock of the state when a takeover has failed. weir says why
// nothing can be changed, and can be steered again when the lock is free.
func TestAStateThatAThirdHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	writeFile(t, file, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	a, err := openApp(appOptions{file: file, drainTimeout: time.Second, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	defer a.successors.Close()
	shift := func() (code string) {
		_, err := a.control.SetWeights("predict", map[string]float64{"blue": 0, "green": 1}, control.Change{})
		var refused *proxy.ControlError
		if errors.As(err, &refused) {
			return refused.Code
		}
		return ""
	}
	s := a.reloader.current.Load().cfg.State
	g := a.giver(s)
	sockets, err := g.Sockets(takeover.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		_ = s.File.Close()
	}
	if err := g.Release(nil); err != nil {
		t.Fatal(err)
	}
	if code := shift(); code != "takeover" {
		t.Errorf("during the takeover: %q", code)
	}
	third, err := state.OpenFile(s.File, state.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Reclaim()
	if err == nil {
		t.Fatal("the state was taken back from somebody who holds it")
	}
	g.Failed(err)
	if code := shift(); code != "state_lost" || !a.control.Status().Degraded {
		t.Errorf("afterwards: %q, degraded %v", code, a.control.Status().Degraded)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it can be steered again", func() bool { return shift() == "" })
	if s := a.control.Status(); s.Degraded || s.Generation != 2 {
		t.Errorf("%+v", s)
	}
}
