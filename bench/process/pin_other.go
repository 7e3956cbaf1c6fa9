//go:build !linux

package process

import "errors"

// PinSelf binds every thread of the calling program to cpus, on Linux only.
func PinSelf([]int) error { return errors.New("binding to processors works on Linux only") }
