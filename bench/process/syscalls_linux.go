package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SystemCalls counts the system calls of a program and its children, exactly, by the kernel's
// tracepoint for their entry. Counting costs the program a little time for each call.
type SystemCalls struct {
	fds []int // one for each thread; new threads count into that of their maker
}

// CountSystemCalls begins to count. It needs tracefs and the right to use it, which usually is root's;
// the error says what is missing.
func (p *Process) CountSystemCalls() (_ *SystemCalls, err error) {
	id, err := tracepoint("raw_syscalls", "sys_enter")
	if err != nil {
		return nil, err
	}
	pids, err := p.Pids()
	if err != nil {
		return nil, err
	}
	c := &SystemCalls{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				return nil, err
			}
			if err := c.open(id, tid); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// tracepoint returns the number of an event of tracefs.
func tracepoint(system, event string) (uint64, error) {
	var missing error
	for _, root := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		text, err := os.ReadFile(filepath.Join(root, "events", system, event, "id"))
		if err == nil {
			return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		}
		if missing == nil {
			missing = err
		}
	}
	return 0, missing
}

func (c *SystemCalls) open(id uint64, tid int) error {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Bits: unix.PerfBitInherit,
		Size: uint32(binary.Size(unix.PerfEventAttr{})),
	}
	fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if errors.Is(err, unix.ESRCH) {
		return nil // the thread has ended
	}
	if err != nil {
		return fmt.Errorf("perf_event_open: %w", err)
	}
	c.fds = append(c.fds, fd)
	return nil
}

// Count is the number of calls so far.
func (c *SystemCalls) Count() (uint64, error) {
	var sum uint64
	for _, fd := range c.fds {
		var value [8]byte
		if n, err := unix.Read(fd, value[:]); err != nil || n != len(value) {
			return 0, fmt.Errorf("read a counter of system calls: %w", errors.Join(err, os.ErrInvalid))
		}
		sum += binary.NativeEndian.Uint64(value[:])
	}
	return sum, nil
}

// Close ends the counting.
func (c *SystemCalls) Close() {
	for _, fd := range c.fds {
		_ = unix.Close(fd)
	}
	c.fds = nil
}
