//go:build unix

package main

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether w shows to a person. (/dev/null is a character device, too, but has no size.)
func isTerminal(w io.Writer) bool {
	_, ok := winsize(w)
	return ok
}

// terminalSize is the size of the terminal that w writes to, 0 where it has none.
func terminalSize(w io.Writer) (width, height int) {
	size, ok := winsize(w)
	if !ok {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

func winsize(w io.Writer) (*unix.Winsize, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return nil, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return size, err == nil
}

// notifyTerminal tells, until stop is called, when the terminal gets another size, and when the shell wants
// it back or gives it again.
func notifyTerminal() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT)
	return c, func() { signal.Stop(c) }
}

func isSuspend(s os.Signal) bool { return s == unix.SIGTSTP }

func isContinue(s os.Signal) bool { return s == unix.SIGCONT }

// suspend stops the program until the shell goes on with it.
func suspend() { _ = unix.Kill(unix.Getpid(), unix.SIGSTOP) } // a program may always stop itself
