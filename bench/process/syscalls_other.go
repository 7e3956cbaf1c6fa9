//go:build !linux

package process

// CountSystemCalls fails: only Linux counts them.
func (p *Process) CountSystemCalls(func() error) (n uint64, by string, err error) {
	return 0, "", errLinuxOnly
}
