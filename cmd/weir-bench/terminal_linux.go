package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal reports whether f is a terminal that understands sequences, and returns what tells
// how wide it is.
func terminal(f *os.File) (width func() int, ok bool) {
	width = func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0
		}
		return int(size.Col)
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return width, err == nil && os.Getenv("TERM") != "dumb"
}
