package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTakeoverOfAStateThatAThirdHolds: somebody else gets the lock of the state in the middle of a takeover. The
// old weir serves on, says why nothing can be changed, and can be steered again when the lock is free.
func TestTakeoverOfAStateThatAThirdHolds(t *testing.T) {
	old := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	lock, err := os.OpenFile(strings.TrimSuffix(old.file, "weir.yaml")+"weir.state.json.lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	held := make(chan error, 1)
	go func() { held <- unix.Flock(int(lock.Fd()), unix.LOCK_EX) }() // first in the queue when the old one lets it go
	w := start(t, "serve", "-c", old.file, "--takeover")
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	if code := w.exit(); code != 1 || !strings.Contains(w.log.text(), "another weir uses it") {
		t.Errorf("the new weir: exit %d\n%s", code, w.log.text())
	}
	eventually(t, "the old one says that its state is lost", func() bool { return len(old.log.find(t, "this weir goes on")) == 1 })
	if _, stderr, code := old.command("shift", "predict", "blue=0", "green=1"); code != 1 || !strings.Contains(stderr, "the state is not this weir's") {
		t.Errorf("shift: exit %d, %s", code, stderr)
	}
	if got := old.variants(5); got["blue"] != 5 || !old.state().Degraded {
		t.Errorf("%v, degraded %v", got, old.state().Degraded)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it can be steered again", func() bool {
		_, _, code := old.command("shift", "predict", "blue=0", "green=1")
		return code == 0
	})
	if s := old.state(); s.Degraded || s.Generation != 2 {
		t.Errorf("%+v", s)
	}
	takeOver(t, old)
}
