//go:build !linux

package process

import "errors"

var errLinuxOnly = errors.New("what a program uses can be read on Linux only")

// Usage can be read on Linux only.
func (p *Process) Usage() (Usage, error) { return Usage{}, errLinuxOnly }

// Self can be read on Linux only.
func Self() (Usage, error) { return Usage{}, errLinuxOnly }

// Pids can be read on Linux only.
func (p *Process) Pids() ([]int, error) { return nil, errLinuxOnly }
