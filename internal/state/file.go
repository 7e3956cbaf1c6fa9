package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// FileOptions are the choices of OpenFile.
type FileOptions struct {
	// Wait is how long OpenFile waits for another process to close the file: the old weir when a new one
	// takes over.
	Wait time.Duration
	// Warn is told when Load puts a file aside that it cannot use.
	Warn func(string)
}

// File is the Store that keeps its Document in a file of JSON.
type File struct {
	path string // behind symbolic links
	warn func(string)

	mu   sync.Mutex
	lock *os.File // nil once closed
}

var _ Store = (*File)(nil)

// OpenFile opens the state file at path, which need not exist; its directory must. Of all processes one
// at a time has it open, by a lock upon the file path.lock beside it, which stays there. A symbolic
// link is followed, and everything is written beside the file that it leads to.
func OpenFile(path string, o FileOptions) (*File, error) {
	real, err := follow(path)
	if err != nil {
		return nil, fmt.Errorf("state.file %s: %w", path, err)
	}
	f := &File{path: real, warn: o.Warn}
	if f.warn == nil {
		f.warn = func(string) {}
	}
	if f.lock, err = acquire(real+".lock", o.Wait); err != nil {
		return nil, fmt.Errorf("state.file %s: %w", path, err)
	}
	// A process that was killed in Save left it.
	if err := removeIfThere(f.temporary()); err != nil {
		f.lock.Close()
		return nil, fmt.Errorf("state.file %s: %w", path, err)
	}
	return f, nil
}

// Load returns what was saved last, nil when nothing was. A file that holds something else than what
// Save writes is renamed to path.broken-TIME, Warn is told, and nil is returned: weir serves without
// its memory rather than not at all. A file that cannot be read is an error.
func (f *File) Load() (*Document, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return nil, errClosed
	}
	data, err := read(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, f.failed("loading", err)
	}
	d, unusable := decode(data)
	if unusable == nil {
		return d, nil
	}
	aside, err := f.putAside(time.Now())
	if err != nil {
		return nil, f.failed("loading", fmt.Errorf("the file %w; and it cannot be put aside: %w", unusable, err))
	}
	f.warn(fmt.Sprintf("state.file %s %v; it was renamed to %s, and weights, drains and history begin anew", f.path, unusable, aside))
	return nil, nil
}

// Save replaces the file by rename. It costs, beside the encoding, one fsync of the new file and one of
// its directory: milliseconds, and on a busy disk many. An error leaves the old file, but for one: when only the last
// step failed, the fsync of the directory, Load returns d, and after a power failure d or the one before.
func (f *File) Save(d *Document) error {
	data, err := encode(d)
	if err != nil {
		return f.failed("saving", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return errClosed
	}
	err = f.write(data)
	if err == nil {
		err = os.Rename(f.temporary(), f.path)
	}
	if err != nil {
		_ = removeIfThere(f.temporary()) // else the next Save or OpenFile does
		return f.failed("saving", err)
	}
	if err := syncDirectory(filepath.Dir(f.path)); err != nil {
		return f.failed("saving", err)
	}
	return nil
}

// Close gives the lock free.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return nil
	}
	err := f.lock.Close()
	f.lock = nil
	return err
}

// temporary is where Save writes. One name is enough: whoever holds the lock is alone.
func (f *File) temporary() string { return f.path + ".tmp" }

// write makes the temporary file, which is on disk when it returns nil. Only its owner may read it,
// unless the operator decided otherwise for the file it will replace.
func (f *File) write(data []byte) error {
	if err := removeIfThere(f.temporary()); err != nil {
		return err
	}
	t, err := os.OpenFile(f.temporary(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	if old, e := os.Stat(f.path); err == nil && e == nil && keepOwner(t, old) {
		err = t.Chmod(old.Mode().Perm())
	}
	if err == nil {
		err = t.Sync()
	}
	if e := t.Close(); err == nil {
		err = e
	}
	return err
}

// putAside renames the file to a name that is free, and returns that.
func (f *File) putAside(now time.Time) (string, error) {
	base := f.path + ".broken-" + now.UTC().Format("20060102T150405")
	aside := base
	for n := 2; ; n++ {
		_, err := os.Lstat(aside)
		if errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(f.path, aside)
		}
		if err != nil {
			return "", err
		}
		aside = fmt.Sprintf("%s-%d", base, n)
	}
}

func (f *File) failed(doing string, err error) error {
	if errors.Is(err, syscall.EBUSY) {
		err = fmt.Errorf("%w (is the file a mount of its own? it is replaced by rename: mount its directory)", err)
	}
	return fmt.Errorf("state.file %s: %s: %w", f.path, doing, err)
}

// acquire opens the lock file and takes its lock. It asks again and again: a wait inside the system
// could not be ended.
func acquire(path string, wait time.Duration) (*os.File, error) {
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		err = fmt.Errorf("%w; name a file that can be written (state: {file: …}), or keep nothing (state: off)", err)
	}
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		got, err := tryLock(lock)
		if got {
			return lock, nil
		}
		if err == nil && !time.Now().Before(deadline) {
			err = fmt.Errorf("another weir uses it (%s is locked); take over from it with serve --takeover, or give this one a state.file of its own", path)
		}
		if err != nil {
			lock.Close()
			return nil, err
		}
		time.Sleep(min(10*time.Millisecond, time.Until(deadline)))
	}
}

// read is os.ReadFile that does not wait for the other end of a pipe.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no regular file (%v)", info.Mode().Type())
	}
	return os.ReadFile(path)
}

// follow returns the path that path leads to. Unlike filepath.EvalSymlinks it accepts that the last
// file is not there yet.
func follow(path string) (string, error) {
	path = filepath.Clean(path)
	for range 40 { // as many as Linux follows
		directory, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(directory, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil {
			// Not there or no link. What else may hinder shows when the file is used.
			return path, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(directory, target)
		}
		path = target
	}
	return "", errors.New("too many symbolic links")
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
