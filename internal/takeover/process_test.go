//go:build linux

package takeover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// asChild makes the test binary a small weir; its value is the childOptions.
const asChild = "WEIR_TEST_TAKEOVER_CHILD"

// childOptions say what a child is and where it waits: at a step it prints its name, and at the one
// called Stop it goes on only when it reads a line.
type childOptions struct {
	Directory, Stop string
	Takeover        bool
	Within          time.Duration // for ready, and for serving
}

// The steps of the new weir, then those of the running one.
const (
	stepTaken    = "taken"      // has the sockets
	stepReady    = "ready-sent" // does not wait for "yours"
	stepYours    = "yours"
	stepState    = "state" // has the lock
	stepAccepts  = "accepts"
	stepReleases = "releases"
	stepReleased = "released"
	stepReclaims = "reclaims"
	stepFailed   = "failed"
	stepDone     = "done"
)

func TestMain(m *testing.M) {
	value := os.Getenv(asChild)
	if value == "" {
		os.Exit(m.Run())
	}
	var c miniature
	err := json.Unmarshal([]byte(value), &c.o)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// miniature is what a weir is to a takeover: doors that accept connections, and a lock. Each
// connection gets the process's number as its answer.
type miniature struct {
	o       childOptions
	in      *bufio.Reader
	doors   []*door
	lock    *os.File
	running sync.WaitGroup // connections
}

func (c *miniature) run() error {
	c.in = bufio.NewReader(os.Stdin)
	l, err := c.open()
	if err != nil {
		return err
	}
	for _, d := range c.doors {
		go d.accept()
	}
	c.step(stepAccepts)
	done := false
	(&Giver{
		Version: "test",
		Sockets: func(Peer) ([]Socket, error) { return c.sockets() },
		Release: func([]Socket) error {
			c.step(stepReleases)
			c.pause()
			defer c.step(stepReleased)
			return c.lock.Close()
		},
		Reclaim:       func() error { c.step(stepReclaims); c.resume(); return c.openState() },
		Failed:        func(err error) { fmt.Println("#", err); c.step(stepFailed) },
		Done:          func() { done = true; c.step(stepDone) },
		ReadyWithin:   c.o.Within,
		ServingWithin: c.o.Within,
	}).Serve(neverEnds{}, l)
	if !done {
		return errors.New("Serve returned before the end")
	}
	for _, d := range c.doors {
		_ = d.l.Close()
	}
	c.running.Wait()
	return nil
}

func (c *miniature) path() string { return filepath.Join(c.o.Directory, "state.takeover") }

// open comes to the point where connections can be accepted.
func (c *miniature) open() (*Listener, error) {
	if !c.o.Takeover {
		for range 3 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			c.doors = append(c.doors, newDoor(c, l.(*net.TCPListener), l.Addr().String()))
			fmt.Println("listens", l.Addr())
		}
		if err := c.openState(); err != nil {
			return nil, err
		}
		return Listen(c.path())
	}
	t, err := Take(c.path(), "test", 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	c.step(stepTaken)
	for _, s := range t.Sockets {
		l, err := net.FileListener(s.File)
		if err != nil {
			return nil, err
		}
		c.doors = append(c.doors, newDoor(c, l.(*net.TCPListener), s.Address))
	}
	if c.o.Stop == stepReady {
		if err := t.link.send(message{Kind: kindReady, Kept: []int{0, 1, 2}}); err != nil {
			return nil, err
		}
		c.step(stepReady)
		_, err = t.link.expect(neverEnds{}, kindYours, t.timeout)
	} else {
		err = t.Ready(t.Sockets)
	}
	if err != nil {
		return nil, err
	}
	c.step(stepYours)
	if err := c.openState(); err != nil {
		return nil, err
	}
	c.step(stepState)
	return t.Listener(), t.Serving()
}

func (c *miniature) step(name string) {
	fmt.Println(name)
	if name == c.o.Stop {
		_, _ = c.in.ReadString('\n')
	}
}

func (c *miniature) openState() (err error) {
	if c.lock, err = os.Create(filepath.Join(c.o.Directory, "state.lock")); err != nil {
		return err
	}
	for range 200 {
		if err = syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the state is locked: %w", err)
}

func (c *miniature) sockets() (s []Socket, err error) {
	for _, d := range c.doors {
		f, err := d.l.File()
		if err != nil {
			return nil, err
		}
		s = append(s, Socket{Name: "proxy", Address: d.address, File: f})
	}
	return s, nil
}

func (c *miniature) pause() {
	for _, d := range c.doors {
		_ = d.l.SetDeadline(time.Now())
		<-d.paused
	}
}

func (c *miniature) resume() {
	for _, d := range c.doors {
		_ = d.l.SetDeadline(time.Time{})
		d.resumed <- struct{}{}
	}
}

// door is a listener that can pause.
type door struct {
	c               *miniature
	l               *net.TCPListener
	address         string
	paused, resumed chan struct{}
}

func newDoor(c *miniature, l *net.TCPListener, address string) *door {
	return &door{c, l, address, make(chan struct{}), make(chan struct{})}
}

func (d *door) accept() {
	for {
		conn, err := d.l.Accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.paused <- struct{}{}
			<-d.resumed
		case err != nil:
			return
		default:
			d.c.running.Go(func() {
				defer conn.Close()
				if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
					time.Sleep(time.Millisecond)
					fmt.Fprintln(conn, os.Getpid())
				}
			})
		}
	}
}

// neverEnds is a context for a process that is its own limit.
type neverEnds struct{}

func (neverEnds) Deadline() (time.Time, bool) { return time.Time{}, false }
func (neverEnds) Done() <-chan struct{}       { return nil }
func (neverEnds) Err() error                  { return nil }
func (neverEnds) Value(any) any               { return nil }

// process is a child as its parent sees it.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	ended bool
}

func start(t *testing.T, o childOptions) *process {
	t.Helper()
	value, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.more = sync.NewCond(&p.mu)
	p.cmd.Env = append(os.Environ(), asChild+"="+string(value))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.add(s.Text(), false)
		}
		p.add("", true)
	}()
	t.Cleanup(func() {
		p.kill()
		<-read
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("process %d, %+v, said\n%s", p.cmd.Process.Pid, o, strings.Join(p.lines, "\n"))
		}
	})
	return p
}

func (p *process) add(line string, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended = ended; !ended {
		p.lines = append(p.lines, line)
	}
	p.more.Broadcast()
}

// wait waits until the child has said line.
func (p *process) wait(line string) {
	p.t.Helper()
	patience := time.AfterFunc(time.Minute, p.kill)
	defer patience.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !slices.Contains(p.lines, line) {
		if p.ended {
			p.t.Fatalf("process %d ended before %q", p.cmd.Process.Pid, line)
		}
		p.more.Wait()
	}
}

func (p *process) said(prefix string) (rest []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if r, ok := strings.CutPrefix(l, prefix); ok {
			rest = append(rest, r)
		}
	}
	return rest
}

func (p *process) goOn() { fmt.Fprintln(p.in) }
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// exit waits for the end and returns the status.
func (p *process) exit() int {
	patience := time.AfterFunc(time.Minute, p.kill)
	defer patience.Stop()
	p.mu.Lock()
	for !p.ended {
		p.more.Wait()
	}
	p.mu.Unlock()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// load asks all addresses all the time, a connection each time.
type load struct {
	stop    atomic.Bool
	running sync.WaitGroup

	mu      sync.Mutex
	answers map[string]int // by process
	errs    []error
}

// begin starts a weir and load on it.
func begin(t *testing.T, o childOptions) (*process, *load) {
	t.Helper()
	p := start(t, o)
	p.wait(stepAccepts)
	l := &load{answers: map[string]int{}}
	for _, a := range p.said("listens ") {
		for range 2 {
			l.running.Go(func() {
				for !l.stop.Load() {
					l.count(ask(a))
				}
			})
		}
	}
	t.Cleanup(func() { l.end() })
	l.answeredBy(p)
	return p, l
}

func ask(address string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintln(c)
	return bufio.NewReader(c).ReadString('\n')
}

func (l *load) count(answer string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.errs = append(l.errs, err)
	} else {
		l.answers[strings.TrimSpace(answer)]++
	}
}

// answeredBy waits until p has answered again, on connections that are opened from now on.
func (l *load) answeredBy(p *process) {
	p.t.Helper()
	pid := fmt.Sprint(p.cmd.Process.Pid)
	before := -1
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		n := l.answers[pid]
		l.mu.Unlock()
		if before < 0 {
			before = n
		}
		if n >= before+50 {
			return
		}
	}
	p.t.Fatalf("process %s does not answer", pid)
}

func (l *load) end() []error {
	l.stop.Store(true)
	l.running.Wait()
	return l.errs
}

// wantNone is the promise: no client noticed anything.
func (l *load) wantNone(t *testing.T) {
	t.Helper()
	if errs := l.end(); len(errs) > 0 {
		t.Errorf("%d clients failed, the first: %v", len(errs), errs[0])
	}
	t.Logf("answers by process: %v", l.answers)
}
