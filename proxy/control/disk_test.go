package control

import (
	"testing"
	"time"

	"weir/internal/state"
	"weir/proxy"
)

// hangingStore is a disk that takes its time.
type hangingStore struct {
	state.Store
	saving, release chan bool
}

func (h *hangingStore) Save(d *state.Document) error {
	if len(d.History) > 1 { // not the start
		h.saving <- true
		<-h.release
	}
	return h.Store.Save(d)
}

func TestADiskThatHangsHidesNothing(t *testing.T) {
	store := &hangingStore{Store: newStore(), saving: make(chan bool), release: make(chan bool)}
	x := run(t, store, newSite(t).parse(t))
	done := make(chan error, 1)
	go func() {
		_, err := x.Switch("predict", "green", by)
		done <- err
	}()
	<-store.saving
	seen := make(chan proxy.Status, 1)
	go func() {
		x.History()
		x.Route("predict")
		_ = x.Unsaved()
		_, _, cancel := x.Subscribe("")
		cancel()
		seen <- x.Status()
	}()
	select {
	case s := <-seen:
		if s.Routes[0].Variants[0].Weight != 90 {
			t.Errorf("in force before it is saved: %+v", s.Routes[0])
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody sees anything while the disk hangs")
	}
	close(store.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
