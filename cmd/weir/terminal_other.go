//go:build !unix

package main

import (
	"io"
	"os"
)

// isTerminal reports whether w shows to a person; where it is not known, plain lines are right.
func isTerminal(io.Writer) bool { return false }

// terminalSize is not known.
func terminalSize(io.Writer) (width, height int) { return 0, 0 }

// notifyTerminal never tells.
func notifyTerminal() (signals <-chan os.Signal, stop func()) { return nil, func() {} }

func isSuspend(os.Signal) bool { return false }

func isContinue(os.Signal) bool { return false }

func suspend() {}
