package process

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// PinSelf binds every thread of the calling program to cpus.
func PinSelf(cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	// A new thread inherits from the one that makes it, which may not have been bound yet: go
	// over all of them until there was no new one.
	bound := map[string]bool{}
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			if bound[task.Name()] {
				continue
			}
			id, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("bind to processors %v: %w", cpus, err)
			}
			bound[task.Name()], again = true, true
		}
	}
	return nil
}
