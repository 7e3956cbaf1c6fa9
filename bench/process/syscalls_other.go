//go:build !linux

package process

import "errors"

// SystemCalls counts the system calls of a program, on Linux only.
type SystemCalls struct{}

// CountSystemCalls fails: only Linux counts them.
func (p *Process) CountSystemCalls() (*SystemCalls, error) {
	return nil, errors.New("system calls can be counted on Linux only")
}

// Count is the number of calls so far.
func (*SystemCalls) Count() (uint64, error) { return 0, nil }

// Close ends the counting.
func (*SystemCalls) Close() {}
