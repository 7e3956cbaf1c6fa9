package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
	"weir/balancer"
	"weir/config"
)

// listening is a listening socket: a *net.TCPListener or a *unixListener.
type listening interface {
	net.Listener
	syscall.Conn
	SetDeadline(t time.Time) error
}

// unixListener is a listening Unix socket, whose file is the address: while that is there clients find the socket, and who
// is the last to listen removes it.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo // nil: it could not be seen
	made bool        // by this process, and not passed on to it
}

// Addr returns the address as it is configured.
func (l *unixListener) Addr() net.Addr { return balancer.Addr{Path: l.path} }

func newUnixListener(l *net.UnixListener, path string, made bool) *unixListener {
	l.SetUnlinkOnClose(false)
	u := &unixListener{UnixListener: l, path: path, made: made}
	u.file, _ = os.Lstat(path)
	return u
}

// bindUnix listens at a path. It takes the place of a socket that nobody listens on any more, which a weir that was
// killed leaves behind.
func bindUnix(path string) (*unixListener, error) {
	lc := net.ListenConfig{Control: privately}
	for retried := false; ; retried = true {
		l, err := lc.Listen(context.Background(), "unix", path)
		switch {
		case err == nil:
			return newUnixListener(l.(*net.UnixListener), path, true), nil
		case retried || !errors.Is(err, syscall.EADDRINUSE):
			return nil, err
		}
		if err := removeStale(path); err != nil {
			return nil, err
		}
	}
}

// privately has a socket's file made for its owner alone, until it has the mode that is configured. Linux takes it from
// the socket's; elsewhere the umask decides.
func privately(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}

// removeStale removes the file of a socket that nobody listens on, and nothing else.
func removeStale(path string) error {
	const advice = "remove it, or write another path"
	switch f, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case f.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is no socket, but %s; %s", path, fileKind(f.Mode()), advice)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		fallthrough
	case errors.Is(err, syscall.EAGAIN): // its backlog is full
		return fmt.Errorf("another process listens on %s; end that, or write another path", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, syscall.EPROTOTYPE):
		return fmt.Errorf("%s is a socket of another kind; %s", path, advice)
	}
	return fmt.Errorf("%s exists, and whether anybody listens on it cannot be told (%w); %s", path, err, advice)
}

func fileKind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m.IsRegular():
		return "a file"
	case m.Type() == fs.ModeSymlink:
		return "a symbolic link"
	}
	return "something else"
}

// remove takes the address away, unless something else is there by now. Who has connected is still accepted.
func (l *unixListener) remove() {
	if now, err := os.Lstat(l.path); err == nil && l.file != nil && os.SameFile(now, l.file) {
		_ = os.Remove(l.path)
	}
}

// permit gives the socket's file the configured mode where it may have another.
func (l *listener) permit(c, old *config.Listener) {
	u, ok := l.socket.(*unixListener)
	if !ok || old != nil && old.SocketMode() == c.SocketMode() {
		return
	}
	if err := os.Chmod(u.path, c.SocketMode()); err != nil {
		l.p.log.Warn("cannot set the mode of a listener's socket", zap.String("listener", l.address), zap.Error(err))
	}
}

// discard closes a socket that has never been accepted on, with the file if that was made for it.
func discard(l listening) {
	if u, ok := l.(*unixListener); ok && u.made {
		u.remove()
	}
	_ = l.Close()
}

// refuse keeps connections from being made between the last accept and the close, which would reset them.
func refuse(l listening) {
	switch l := l.(type) {
	case *unixListener:
		l.remove()
	case *net.TCPListener:
		refuseNew(l)
	}
}
