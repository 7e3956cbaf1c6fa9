package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watching is a running watcher whose calls a test can wait for.
type watching struct {
	t       *testing.T
	path    string
	changed chan struct{}
	logged  chan error
}

// watchFile starts a watcher with real notifications, and with polling only where it is
// what is tested.
func watchFile(t *testing.T, path string, poll time.Duration) *watching {
	t.Helper()
	w := &watching{t: t, path: path, changed: make(chan struct{}, 100), logged: make(chan error, 100)}
	running := watcher{
		path: path, quiet: 20 * time.Millisecond, latest: 200 * time.Millisecond, poll: poll, lost: 10 * time.Millisecond,
		log: func(err error) { w.logged <- err }, changed: func() { w.changed <- struct{}{} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := running.start(ctx)
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watching) wantChange(what string) {
	w.t.Helper()
	select {
	case <-w.changed:
	case <-time.After(30 * time.Second):
		w.t.Fatalf("%s: no change within 30 s", what)
	}
}

// wantQuiet makes a last change and wants that nothing was reported but this one.
func (w *watching) wantQuiet() {
	w.t.Helper()
	write(w.t, w.path, "the last")
	w.wantChange("the last")
	if n := len(w.changed); n != 0 {
		w.t.Errorf("%d changes too many", n)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// must fails the test on the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesEditsInPlaceAndRenames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	write(t, path, "one")
	w := watchFile(t, path, time.Hour)

	write(t, path, "two")
	w.wantChange("in place")

	write(t, path+".new", "three")
	must(t, os.Rename(path+".new", path))
	w.wantChange("renamed over")

	write(t, path, "three") // the same again
	must(t, os.Chtimes(path, time.Now(), time.Now()))
	w.wantQuiet()
}

func TestWatchSeesKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	mount := func(version, content string) {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "weir.yaml"), content)
		must(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	mount("..2026_1", "one")
	path := filepath.Join(dir, "weir.yaml")
	must(t, os.Symlink("..data/weir.yaml", path))
	w := watchFile(t, path, time.Hour)

	for i := 2; i <= 4; i++ {
		mount(fmt.Sprintf("..2026_%d", i), fmt.Sprint("content ", i))
		must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", i-1))))
		w.wantChange(fmt.Sprint("swap ", i))
	}
	w.wantQuiet()
}

func TestWatchSeesEditBehindLink(t *testing.T) {
	path, target := filepath.Join(t.TempDir(), "weir.yaml"), filepath.Join(t.TempDir(), "real.yaml")
	write(t, target, "one")
	must(t, os.Symlink(target, path))
	w := watchFile(t, path, time.Hour)

	write(t, target, "two")
	w.wantChange("behind the link")

	other := filepath.Join(t.TempDir(), "other.yaml")
	write(t, other, "three")
	must(t, os.Symlink(other, path+".new"), os.Rename(path+".new", path))
	w.wantChange("another link")

	write(t, other, "four")
	w.wantChange("behind the other link")
}

func TestWatchSurvivesReplacedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	path := filepath.Join(dir, "weir.yaml")
	must(t, os.Mkdir(dir, 0o700))
	write(t, path, "one")
	w := watchFile(t, path, time.Hour)

	must(t, os.Rename(dir, dir+".old"))
	if err := <-w.logged; !strings.Contains(err.Error(), path) {
		t.Errorf("log %q does not name the file", err)
	}
	must(t, os.Mkdir(dir, 0o700))
	write(t, path, "two")
	w.wantChange("directory renamed away")

	must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o700))
	write(t, path, "three")
	w.wantChange("directory removed")

	write(t, path, "four")
	w.wantChange("in the new directory")
}

func TestWatchFollowsLinkedDirectory(t *testing.T) {
	base := t.TempDir()
	for _, release := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(base, release), 0o700))
		write(t, filepath.Join(base, release, "weir.yaml"), release)
	}
	dir := filepath.Join(base, "current")
	must(t, os.Symlink("1", dir))
	// A swap of the link to the directory is no event in the directory: polling finds it.
	w := watchFile(t, filepath.Join(dir, "weir.yaml"), 20*time.Millisecond)
	must(t, os.Symlink("2", dir+".new"), os.Rename(dir+".new", dir))
	w.wantChange("linked directory")
	w.wantQuiet()
}

func TestWatchReportsFileThatAppears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	w := watchFile(t, path, time.Hour)
	want := "watching " + path + ": the file: cannot be read: no such file or directory"
	if err := <-w.logged; err.Error() != want {
		t.Errorf("log %q, want %q", err, want)
	}
	write(t, path, "one")
	w.wantChange("appeared")

	must(t, os.Remove(path))
	<-w.logged
	write(t, path, "one") // back as it was
	w.wantQuiet()
}

// The rest needs no real notifications, only exact times.

func watchSilently(t *testing.T, path string, events <-chan fsnotify.Event) (changes func() int) {
	var count atomic.Int64
	w := watcher{
		path: path, log: func(err error) { t.Error(err) }, changed: func() { count.Add(1) }, events: events,
		quiet: 200 * time.Millisecond, latest: 2 * time.Second, poll: 15 * time.Second, lost: time.Second,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := w.follow(ctx)
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return func() int {
		synctest.Wait()
		return int(count.Load())
	}
}

func TestWatchPollsWithoutNotifications(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		changes := watchSilently(t, path, nil)
		write(t, path, "two")
		time.Sleep(14 * time.Second)
		if n := changes(); n != 0 {
			t.Errorf("%d changes after 14 s, want 0", n)
		}
		time.Sleep(time.Second)
		if n := changes(); n != 1 {
			t.Errorf("%d changes after 15 s, want 1", n)
		}
		time.Sleep(time.Minute)
		if n := changes(); n != 1 {
			t.Errorf("%d changes after a minute without one, want 1", n)
		}
	})
}

func TestWatchWaitsForQuiet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		events := make(chan fsnotify.Event)
		changes := watchSilently(t, path, events)
		edit := func(content string) {
			write(t, path, content)
			events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
		}
		for i := range 5 {
			edit(fmt.Sprint("draft ", i))
			time.Sleep(199 * time.Millisecond)
		}
		if n := changes(); n != 0 {
			t.Errorf("%d changes while it is written, want 0", n)
		}
		time.Sleep(time.Millisecond)
		if n := changes(); n != 1 {
			t.Errorf("%d changes 200 ms after the last write, want 1", n)
		}

		for i := range 20 { // a directory that is never quiet
			edit(fmt.Sprint("busy ", i))
			time.Sleep(101 * time.Millisecond)
		}
		if n := changes(); n != 2 {
			t.Errorf("%d changes 2 s after the first of many writes, want 2", n)
		}
	})
}

func TestWatchIgnoresWritesToOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		events := make(chan fsnotify.Event)
		changes := watchSilently(t, path, events)
		write(t, path, "two") // without an event of its own
		events <- fsnotify.Event{Name: filepath.Join(filepath.Dir(path), "access.log"), Op: fsnotify.Write}
		time.Sleep(time.Second)
		if n := changes(); n != 0 {
			t.Errorf("a write to the access log made %d looks, want 0", n)
		}
		events <- fsnotify.Event{Name: filepath.Join(filepath.Dir(path), "..data"), Op: fsnotify.Create}
		time.Sleep(time.Second)
		if n := changes(); n != 1 {
			t.Errorf("%d changes after the swap of ..data, want 1", n)
		}
	})
}

func TestWatchEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.yaml")
	write(t, path, "one")
	ctx, cancel := context.WithCancel(t.Context())
	done := Watch(ctx, path, func(err error) { t.Error(err) }, func() { t.Error("changed") })
	cancel()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the watch goes on after its context ended")
	}
}
