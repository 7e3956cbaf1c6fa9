//go:build !unix

package main

import "io"

// isTerminal reports whether w shows to a person; where it is not known, plain lines are right.
func isTerminal(io.Writer) bool { return false }
