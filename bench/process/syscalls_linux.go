package process

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CountSystemCalls counts the system calls of a program and its children while during runs, and
// says by what. The kernel's tracepoint counts exactly and costs the program a little for each call, but needs
// tracefs and the right to use it, which usually is root's. Without them strace counts, under which a
// program is many times slower. The error is that of during, or says why nothing counts here.
func (p *Process) CountSystemCalls(during func() error) (n uint64, by string, err error) {
	pids, err := p.Pids()
	if err != nil {
		return 0, "", err
	}
	tracer, err := openTracer(pids)
	if err != nil {
		n, noStrace := straced(pids, during)
		if errors.Is(noStrace, errNoStrace) {
			return 0, "", errors.Join(err, noStrace)
		}
		return n, "strace", noStrace
	}
	defer tracer.close()
	before, err := tracer.count()
	if err != nil {
		return 0, "", err
	}
	if err := during(); err != nil {
		return 0, "", err
	}
	after, err := tracer.count()
	return after - before, "tracepoint", err
}

// tracer counts by the kernel's tracepoint for the entry of system calls.
type tracer struct {
	fds []int // one for each thread; new threads count into that of their maker
}

func openTracer(pids []int) (*tracer, error) {
	id, err := tracepoint("raw_syscalls", "sys_enter")
	if err != nil {
		return nil, err
	}
	t := &tracer{}
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name()) // they are numbers
			err = errors.Join(err, t.open(id, tid))
		}
		if err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

// tracepoint returns the number of an event of tracefs.
func tracepoint(system, event string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join("/sys/kernel/tracing/events", system, event, "id"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

func (t *tracer) open(id uint64, tid int) error {
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
	t.fds = append(t.fds, fd)
	return nil
}

func (t *tracer) count() (uint64, error) {
	var sum uint64
	for _, fd := range t.fds {
		var value [8]byte
		if _, err := unix.Read(fd, value[:]); err != nil {
			return 0, fmt.Errorf("read a counter of system calls: %w", err)
		}
		sum += binary.NativeEndian.Uint64(value[:])
	}
	return sum, nil
}

func (t *tracer) close() {
	for _, fd := range t.fds {
		_ = unix.Close(fd)
	}
}

var errNoStrace = errors.New("strace cannot count either")

// attachTimeout is how long strace may take to attach to a program.
const attachTimeout = 5 * time.Second

// straced counts with strace.
func straced(pids []int, during func() error) (uint64, error) {
	args := []string{"-c", "-f", "-q"}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command("strace", args...)
	var table bytes.Buffer
	cmd.Stderr = &table
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", errNoStrace, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := attached(pids, ended); err != nil {
		_ = cmd.Process.Kill()
		return 0, fmt.Errorf("%w: %w", errNoStrace, err)
	}
	failed := during()
	_ = cmd.Process.Signal(syscall.SIGINT) // it detaches and writes its table
	<-ended
	if failed != nil {
		return 0, failed
	}
	return straceTotal(&table)
}

// attached waits until every process is traced.
func attached(pids []int, ended chan error) error {
	for deadline := time.Now().Add(attachTimeout); len(pids) > 0; {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
		if err != nil {
			return err
		}
		if !bytes.Contains(status, []byte("TracerPid:\t0\n")) {
			pids = pids[1:]
			continue
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended with %w", err)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it did not attach to %d within %v", pids[0], attachTimeout)
		}
	}
	return nil
}

// straceTotal reads the sum from the table of strace -c, of 5.9 or newer: the line "100.00 SECONDS
// USECS/CALL CALLS [ERRORS] total".
func straceTotal(table io.Reader) (uint64, error) {
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) >= 5 && f[len(f)-1] == "total" {
			return strconv.ParseUint(f[3], 10, 64)
		}
	}
	return 0, errors.New("strace wrote no table with a total")
}
