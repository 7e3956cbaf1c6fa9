// Package process runs the programs that a measurement or the demonstration needs beside it:
// it starts them with their output in a file, waits until they answer, stops them in order, and
// sees to it that none outlives the program that started them, however that ends.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Spec describes a program to start.
type Spec struct {
	Name string // short and unique in its group: it names the log file
	Path string
	Args []string
	Env  []string // added to the environment of the parent
	// CPUs are the processors it may run on; none means all. Linux only.
	CPUs []int
	// EndsGently asks for SIGTERM instead of SIGKILL when the parent dies: for programs that
	// have children of their own to end.
	EndsGently bool
	// DiesOfTerm says that the program leaves SIGTERM to the kernel, so that dying of it is no
	// failure.
	DiesOfTerm bool
}

// Group is a set of running programs. Its methods may be called from any goroutine.
type Group struct {
	dir    string
	starts chan func()

	mu      sync.Mutex
	running []*Process
}

// NewGroup returns an empty group that writes NAME.log files into dir. [Group.Stop] ends it.
func NewGroup(dir string) *Group {
	g := &Group{dir: dir, starts: make(chan func())}
	// The kernel ties a child's death signal to the thread that started it, not to the process.
	// So one thread starts all of them and lives as long as the group.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for start := range g.starts {
			start()
		}
	}()
	return g
}

// Start starts a program in a process group of its own: a Ctrl-C in the terminal reaches only
// the parent, which then stops its children in order.
func (g *Group) Start(s Spec) (*Process, error) {
	logName := filepath.Join(g.dir, s.Name+".log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(s)
	started := make(chan error)
	g.starts <- func() { started <- startOn(s.CPUs, cmd.Start) }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{Name: s.Name, LogName: logName, cmd: cmd, diesOfTerm: s.DiesOfTerm, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = append(g.running, p)
	return p, nil
}

// Exited returns a program of the group that has ended by itself, or nil.
func (g *Group) Exited() *Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.running {
		select {
		case <-p.done:
			return p
		default:
		}
	}
	return nil
}

// Stop stops every program, the last started first, each with up to grace to end after SIGTERM,
// and ends the group: nothing can be started in it any more. It reports programs that did not end by
// themselves, and those whose exit status was not 0.
func (g *Group) Stop(grace time.Duration) error {
	g.mu.Lock()
	running := g.running
	g.running = nil
	g.mu.Unlock()
	var errs []error
	for i := len(running) - 1; i >= 0; i-- {
		errs = append(errs, running[i].Stop(grace))
	}
	close(g.starts)
	return errors.Join(errs...)
}
