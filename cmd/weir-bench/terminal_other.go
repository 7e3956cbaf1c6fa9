//go:build !linux

package main

import "os"

// terminal reports that f is none: output is written in plain lines.
func terminal(*os.File) (width func() int, ok bool) { return func() int { return 0 }, false }
