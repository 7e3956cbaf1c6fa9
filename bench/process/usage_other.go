//go:build !linux

package process

import "errors"

// Usage can be read on Linux only.
func (p *Process) Usage() (Usage, error) {
	return Usage{}, errors.New("what a program uses can be read on Linux only")
}
