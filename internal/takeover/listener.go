package takeover

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Listener is where a running weir can be asked for its sockets.
type Listener struct {
	l    *net.UnixListener
	path string
}

// Listen opens the socket at path, which only this user can connect to. It replaces the file that a
// process left which was killed; that of a living one is an error. Whoever calls it should hold the
// lock of the state, so that no two do at the same time.
func Listen(path string) (*Listener, error) {
	l, err := listen(path)
	if isInUse(err) {
		if err = removeStale(path); err == nil {
			l, err = listen(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for takeovers: %w", err)
	}
	return newListener(l, path), nil
}

func newListener(l *net.UnixListener, path string) *Listener {
	l.SetUnlinkOnClose(false) // the path is not always the name by which it was bound
	return &Listener{l, path}
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way: remove it", path)
	}
	c, err := connect(path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("%s: another weir listens there; let each have a state.file of its own", path)
	case !isRefused(err):
		return err
	}
	return os.Remove(path)
}

// Path is where it listens.
func (l *Listener) Path() string { return l.path }

// Close ends listening and removes the file.
func (l *Listener) Close() {
	_ = os.Remove(l.path)
	l.leave()
}

// leave ends listening here; another process goes on.
func (l *Listener) leave() { _ = l.l.Close() }

func (l *Listener) interrupt() { _ = l.l.SetDeadline(time.Now()) }

func (l *Listener) accept() (link, error) {
	c, err := l.l.AcceptUnix()
	return link{c}, err
}

// shortened calls f with a name for path that is no longer than limit: path itself, or its last part
// under a name of its directory that inDirectory makes.
func shortened(path string, limit int, inDirectory func(directory string, f func(name string) error) error, f func(name string) error) error {
	if len(path) <= limit {
		return f(path)
	}
	directory, base := filepath.Split(path)
	return inDirectory(directory, func(name string) error {
		short := filepath.Join(name, base)
		if len(short) > limit {
			return fmt.Errorf("%s: the name %s is too long for a socket by %d bytes; give state.file a shorter one", path, base, len(short)-limit)
		}
		return f(short)
	})
}
