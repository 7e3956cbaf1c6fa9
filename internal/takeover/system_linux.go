package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// longestName is what fits into a sockaddr_un with the zero that ends it.
const longestName = 107

// withName calls f with a name for path that fits into an address.
func withName(path string, f func(name string) error) error {
	return shortened(path, longestName, func(directory string, f func(string) error) error {
		if directory == "" {
			directory = "."
		}
		d, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: directory, Err: err}
		}
		defer func() { _ = unix.Close(d) }()
		return f(fmt.Sprintf("/proc/self/fd/%d", d))
	}, f)
}

func listen(path string) (l *net.UnixListener, err error) {
	// The file gets its mode from the socket's, less the umask: it is never open to others.
	private := func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}
	err = withName(path, func(name string) error {
		o, err := (&net.ListenConfig{Control: private}).Listen(context.Background(), "unixpacket", name)
		if err == nil {
			l = o.(*net.UnixListener)
		}
		return err
	})
	return l, err
}

func connect(path string) (c *net.UnixConn, err error) {
	err = withName(path, func(name string) error {
		c, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
		return err
	})
	return c, err
}

func isInUse(err error) bool   { return errors.Is(err, unix.EADDRINUSE) }
func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
func isReset(err error) bool   { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }

// trusted returns the process at the other end if it may do everything that this one may. At the end
// that connects it is the process that began to listen, which may have passed the socket on since.
func trusted(c *net.UnixConn) (pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("the other process runs as user %d, this one as %d: it must be the same, or root", cred.Uid, os.Geteuid())
	}
	return int(cred.Pid), nil
}

// rights is the control message that passes descriptors of files. They must stay open until release.
func rights(files []*os.File) (oob []byte, release func(), err error) {
	var fds []int
	for _, f := range files {
		// Not by Fd, which makes what package net opened blocking, for everybody who has the socket.
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return unix.UnixRights(fds...), func() { runtime.KeepAlive(files) }, nil
}

func rightsSpace(descriptors int) int { return unix.CmsgSpace(4 * descriptors) }

// received returns the descriptors that came with a packet.
func received(oob []byte, flags int) ([]*os.File, error) {
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		var fds []int
		if fds, err = unix.ParseUnixRights(&m); err != nil {
			break
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "takeover"))
		}
	}
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("not all descriptors came through: raise the limit of open files (RLIMIT_NOFILE)")
	case flags&unix.MSG_TRUNC != 0:
		err = errors.New("the other weir sent a packet that is too long")
	default:
		return files, nil
	}
	closeAll(files)
	return nil, err
}
