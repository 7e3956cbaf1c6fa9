package main

import (
	"errors"
	"strings"
	"testing"

	"weir/internal/state"
	"weir/proxy/control"
)

func TestWhatAReloadSays(t *testing.T) {
	for want, r := range map[string]reloaded{
		"nothing has changed; generation 3 is in force\n":                          {3, []string{}},
		"generation 3 is in force\n":                                               {3, nil},
		"log.level: info → debug\npools.x: added (a·)\ngeneration 4 is in force\n": {4, []string{"log.level: info → debug", "pools.x: added (a\x1b)"}},
	} {
		var got strings.Builder
		if r.write(&got); got.String() != want {
			t.Errorf("%q, want %q", got.String(), want)
		}
	}
}

func TestReloadsThatWereRefusedAreMissed(t *testing.T) {
	r := &reloader{control: newControl(t)}
	busy := errors.New("busy")
	reload := func() error { _, _, err := r.reload("file"); return err }
	if r.refuse(busy) || r.refuse(nil) {
		t.Error("none was refused, and one is missed")
	}
	r.refuse(busy)
	if err := reload(); err != busy {
		t.Errorf("refused with %v", err)
	}
	if !r.refuse(nil) || r.refuse(nil) {
		t.Error("one was refused, and is not missed, or twice")
	}
	r.close()
	if err := reload(); r.refuse(nil) || err == nil || reload() == nil {
		t.Error("a stopping weir reloads")
	}
}

func newControl(t *testing.T) *control.Controller {
	t.Helper()
	c, err := control.New(control.Options{Store: new(state.Memory)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
