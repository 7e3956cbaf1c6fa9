package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a started program.
type Process struct {
	Name    string
	LogName string // file with its output

	cmd        *exec.Cmd
	diesOfTerm bool

	done chan struct{} // closed when it has ended; err is set before
	err  error
}

// Pid is its process id, which is also the id of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop sends SIGTERM and waits for the end; after grace it kills the program and all of its
// process group. It returns nil for an exit status of 0, also when the program had ended before.
func (p *Process) Stop(grace time.Duration) error {
	// Signal refuses to signal a process that has been waited for, so this cannot hit another.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		killGroup(p.Pid())
		<-p.done
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, grace)
	}
	if p.err != nil && !(p.diesOfTerm && endedBy(p.cmd.ProcessState, syscall.SIGTERM)) {
		return fmt.Errorf("%s ended with %w", p.Name, p.err)
	}
	return nil
}

// endedBy reports whether a process ended by a signal.
func endedBy(state *os.ProcessState, signal syscall.Signal) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}

// Failure describes a program that ended or did not get ready, with the end of its output.
func (p *Process) Failure(what string) error {
	tail := p.tail()
	if tail == "" {
		return fmt.Errorf("%s %s; it wrote nothing", p.Name, what)
	}
	return fmt.Errorf("%s %s; the end of its output:\n%s", p.Name, what, tail)
}

const (
	tailBytes = 4096
	tailLines = 15
)

// tail returns the last lines of the program's output, indented.
func (p *Process) tail() string {
	f, err := os.Open(p.LogName)
	if err != nil {
		return "  " + err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(0, info.Size()-tailBytes), io.SeekStart)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "  " + strings.Join(lines, "\n  ")
}

// pollEvery is how long Ready waits between two tries.
const pollEvery = 25 * time.Millisecond

// Ready waits until ready returns nil. It fails when the program ends first, when ctx is done,
// or after timeout, with the last error and the end of the program's output.
func (p *Process) Ready(ctx context.Context, timeout time.Duration, ready func(context.Context) error) error {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		try, cancel := context.WithDeadline(ctx, deadline)
		err := ready(try)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return p.Failure(fmt.Sprintf("was not ready within %v (%v)", timeout, err))
		}
		select {
		case <-p.done:
			return p.Failure(fmt.Sprintf("ended before it was ready (%v)", p.cmd.ProcessState))
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Answers returns a check for [Process.Ready]: GET url answers 200.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}

// Accepts returns a check for [Process.Ready]: the address, HOST:PORT, takes connections.
func Accepts(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
