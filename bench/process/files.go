//go:build unix

package process

import (
	"fmt"
	"syscall"
)

// FileLimit is how many files a program started from here may have open. Programs may raise
// their limit that far; Go programs do by themselves.
func FileLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	return uint64(limit.Max), nil
}
