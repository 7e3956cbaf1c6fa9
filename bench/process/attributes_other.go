//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"
)

// attributes: only Linux can end a child with its parent.
func attributes(Spec) *syscall.SysProcAttr { return nil }

func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

func startOn(cpus []int, start func() error) error {
	if len(cpus) > 0 {
		return errors.New("binding to processors works on Linux only")
	}
	return start()
}
