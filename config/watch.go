package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watch calls changed whenever the content of the file becomes another, until ctx ends. It
// returns at once; what the file holds then is what changes are measured against, so a
// caller that starts it before Load misses nothing. The returned channel is closed when
// the watch has ended and neither function will be called again.
//
// It sees edits in place, files that are renamed over the old one, the swap of the ..data
// link by which Kubernetes updates a ConfigMap, edits behind a symbolic link, and a
// directory that is replaced. Where notifications do not arrive (network file systems, or
// no inotify instances left) a change is found within 15 seconds. Changes within 200 ms
// count as one. Not seen is a file that Kubernetes mounts with subPath: it never changes.
//
// log gets what hinders the watch, once until it is over; some of it before Watch returns.
// The two functions are never called at the same time.
func Watch(ctx context.Context, path string, log func(error), changed func()) <-chan struct{} {
	w := watcher{
		path: path, log: log, changed: changed,
		quiet: 200 * time.Millisecond, latest: 2 * time.Second, poll: 15 * time.Second, lost: time.Second,
	}
	return w.start(ctx)
}

// watcher is one running Watch. Its fields belong to the goroutine of run.
type watcher struct {
	path    string
	log     func(error)
	changed func()

	quiet  time.Duration // without an event, before the file is read
	latest time.Duration // after the first event, whatever else happens in the directory
	poll   time.Duration // between two looks without any event
	lost   time.Duration // the same, while a directory cannot be watched

	notify  *fsnotify.Watcher // nil where there are no notifications
	events  <-chan fsnotify.Event
	watched map[string]os.FileInfo // directories by path, as they were when the watch was set
	digest  [sha256.Size]byte
	missing string // what the file could not be read for at the last look
	blind   string // what hindered the notifications at the last look
}

func (w *watcher) start(ctx context.Context) <-chan struct{} {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log(fmt.Errorf("watching %s: no notifications (%w); it is looked at every %s", w.path, err, FormatDuration(w.poll)))
		return w.follow(ctx)
	}
	w.notify, w.events = notify, notify.Events
	return w.follow(ctx)
}

// follow takes the first look and leaves the others to a goroutine.
func (w *watcher) follow(ctx context.Context) <-chan struct{} {
	w.watchDirectories() // before the look, so that no change falls between the two
	w.look()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	return done
}

func (w *watcher) run(ctx context.Context) {
	var failures <-chan error
	if w.notify != nil {
		defer w.notify.Close()
		failures = w.notify.Errors
	}
	timer := time.NewTimer(w.pause())
	defer timer.Stop()
	var first time.Time // of the events that wait for quiet
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.events:
			if !w.concerns(event) {
				continue
			}
			if first.IsZero() {
				first = time.Now()
			}
			timer.Reset(min(w.quiet, max(w.latest-time.Since(first), 0)))
			continue
		case <-failures: // an overflow of the queue, most likely: what was lost is found by looking
		case <-timer.C:
		}
		first = time.Time{}
		w.watchDirectories()
		if w.look() && ctx.Err() == nil {
			w.changed()
		}
		timer.Reset(w.pause())
	}
}

func (w *watcher) pause() time.Duration {
	if w.blind != "" {
		return min(w.lost, w.poll)
	}
	return w.poll
}

// concerns leaves out what is written to other files of the directory, such as an access
// log. Whatever appears or vanishes there may be a link on the way to the file.
func (w *watcher) concerns(event fsnotify.Event) bool {
	if event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		return true
	}
	name := filepath.Base(event.Name)
	if name == filepath.Base(w.path) || strings.HasPrefix(name, "..") {
		return true
	}
	target, err := filepath.EvalSymlinks(w.path)
	return err == nil && name == filepath.Base(target)
}

// watchDirectories keeps a watch on the directory of the file and on that of the file
// behind the link, if it is one. The directory is watched and never the file, which would
// be lost when another is renamed over it.
func (w *watcher) watchDirectories() {
	if w.notify == nil {
		return
	}
	now := map[string]os.FileInfo{}
	var hindrance error
	for _, dir := range w.directories() {
		info, err := os.Stat(dir)
		if before, ok := w.watched[dir]; ok && (err != nil || !os.SameFile(before, info)) {
			w.notify.Remove(dir) // may be gone with the directory
			delete(w.watched, dir)
		}
		if err == nil {
			if err = w.notify.Add(dir); err == nil {
				now[dir] = info
				continue
			}
		}
		hindrance = errors.Join(hindrance, err)
	}
	for dir := range w.watched {
		if now[dir] == nil {
			w.notify.Remove(dir)
		}
	}
	w.watched = now
	w.blind = w.tell("no notifications", w.blind, hindrance)
}

// directories lists what has to be watched: one directory, or two where the file is a link
// that leads out of it.
func (w *watcher) directories() []string {
	dir := filepath.Dir(w.path)
	target, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return []string{dir}
	}
	if direct, err := filepath.EvalSymlinks(dir); err == nil && direct == filepath.Dir(target) {
		return []string{dir}
	}
	return []string{dir, filepath.Dir(target)}
}

// look reads the file and reports whether it is another than at the last look. A file that
// cannot be read has not changed: it may be on its way.
func (w *watcher) look() bool {
	data, err := readFile(w.path)
	w.missing = w.tell("the file", w.missing, err)
	if err != nil {
		return false
	}
	before := w.digest
	w.digest = sha256.Sum256(data)
	return w.digest != before
}

// tell logs a hindrance unless it is the one of the last look, and returns how it reads.
func (w *watcher) tell(what, before string, err error) string {
	if err == nil {
		return ""
	}
	if err.Error() != before {
		w.log(fmt.Errorf("watching %s: %s: %w", w.path, what, err))
	}
	return err.Error()
}
