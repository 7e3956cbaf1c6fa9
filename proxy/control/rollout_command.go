package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// askCommand runs a program and returns what it printed last, where its exit status is 0.
//
// It runs in a process group of its own, which is killed when ctx ends, and where somebody in it holds on to the output
// when the program has ended.
func askCommand(ctx context.Context, argv []string, p proposal) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(),
		"WEIR_ROUTE="+p.Route, "WEIR_FROM="+p.From, "WEIR_TO="+p.To, "WEIR_FROM_VERSION="+p.FromVersion, "WEIR_VERSION="+p.ToVersion,
		"WEIR_STRATEGY="+p.Strategy, "WEIR_BY="+p.By, "WEIR_REASON="+p.Reason)
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != syscall.ESRCH {
			return err
		}
		return os.ErrProcessDone
	}
	cmd.WaitDelay = commandGrace
	if err := cmd.Start(); err != nil {
		return "", err
	}
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = cmd.Cancel() // whoever holds on
		if ctx.Err() == nil {
			err = nil // the program itself has ended with 0
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w%s", err, after(": ", said.String()))
	}
	return "exit status 0" + after(": ", said.String()), nil
}

// commandGrace is how long after its end a command's output may stay open.
const commandGrace = time.Second

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// tailKept is how much, in bytes.
const tailKept = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p[max(0, len(p)-tailKept):]...)
	t.kept = append(t.kept[:0], t.kept[max(0, len(t.kept)-tailKept):]...)
	return len(p), nil
}

// String is the part that people are shown.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return excerpt(string(t.kept))
}
