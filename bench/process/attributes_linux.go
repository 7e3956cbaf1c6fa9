package process

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func attributes(s Spec) *syscall.SysProcAttr {
	death := syscall.SIGKILL
	if s.EndsGently {
		death = syscall.SIGTERM
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
}

// killGroup kills a process and its descendants, whose group it leads.
func killGroup(pid int) { _ = unix.Kill(-pid, unix.SIGKILL) }

// startOn runs start with the calling thread bound to cpus, which a child started there inherits.
// The caller must be locked to its thread.
func startOn(cpus []int, start func() error) error {
	if len(cpus) == 0 {
		return start()
	}
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read the processors: %w", err)
	}
	for _, cpu := range cpus {
		wanted.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return fmt.Errorf("bind to processors %v: %w", cpus, err)
	}
	err := start()
	if back := unix.SchedSetaffinity(0, &before); err == nil && back != nil {
		return fmt.Errorf("unbind from processors %v: %w", cpus, back)
	}
	return err
}
