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

// TestADiskThatHangsRefusesAtOnce: what would have to wait for a change that hangs is told that it is too late, and
// the end does not keep anybody waiting but itself.
func TestADiskThatHangsRefusesAtOnce(t *testing.T) {
	store := &hangingStore{Store: newStore(), saving: make(chan bool), release: make(chan bool)}
	x := run(t, store, newSite(t).parse(t))
	changed := make(chan error, 1)
	go func() {
		_, err := x.Switch("predict", "green", by)
		changed <- err
	}()
	<-store.saving
	closed := make(chan error, 1)
	go func() { closed <- x.Close() }()
	refusing := func() bool { return x.frozen.Load() != nil }
	eventually(t, "it refuses changes", refusing)
	for range 3 {
		_, err := x.SetWeights("predict", map[string]float64{"blue": 1, "green": 1}, by)
		refused(t, err, 503, "stopping")
	}
	if err := x.Close(); err != nil { // a second one does not wait
		t.Error(err)
	}
	select {
	case <-closed:
		t.Error("closed before the change had ended")
	default:
	}
	close(store.release)
	if err := <-changed; err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
