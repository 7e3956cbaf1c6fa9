package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVar makes the test binary play one of the programs that the tests start.
const roleVar = "WEIR_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "":
		os.Exit(m.Run())
	case "server": // serves on os.Args[1] until SIGTERM
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go http.ListenAndServe(os.Args[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		<-stop
		fmt.Println("stopping")
	case "deaf": // takes SIGTERM for an answer and stays
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		select {}
	case "plain": // leaves SIGTERM to the kernel
		fmt.Println("plain")
		select {}
	case "spinner": // uses all the processor it gets
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		for len(stop) == 0 {
		}
	case "broken":
		for i := range 100 {
			fmt.Println("line", i)
		}
		os.Exit(7)
	case "parent": // starts a server and tells its pid
		p, err := NewGroup(os.Args[1]).Start(spec("server", "127.0.0.1:0"))
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
		select {}
	}
}

func spec(role string, args ...string) Spec {
	return Spec{Name: role, Path: os.Args[0], Args: args, Env: []string{roleVar + "=" + role}}
}

func newGroup(t *testing.T) *Group {
	t.Helper()
	return NewGroup(t.TempDir())
}

func start(t *testing.T, g *Group, s Spec) *Process {
	t.Helper()
	p, err := g.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestServerBecomesReadyAndStops(t *testing.T) {
	address, _, err := FreeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t)
	p := start(t, g, spec("server", address))
	if err := p.Ready(context.Background(), 10*time.Second, Answers("http://"+address+"/")); err != nil {
		t.Fatal(err)
	}
	if g.Exited() != nil {
		t.Error("a running server counts as exited")
	}
	if pgid, err := syscall.Getpgid(p.Pid()); err != nil || pgid != p.Pid() {
		t.Errorf("process group %d, %v; want its own, %d", pgid, err, p.Pid())
	}
	if err := g.Stop(10 * time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	log, err := os.ReadFile(p.LogName)
	if err != nil || string(log) != "stopping\n" {
		t.Errorf("log %q, %v; want what the server wrote", log, err)
	}
	if _, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		t.Error("the server still listens after Stop")
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	g := newGroup(t)
	p := start(t, g, spec("deaf"))
	ready := func(context.Context) error {
		if p.tail() != "  deaf" {
			return errors.New("not yet")
		}
		return nil
	}
	if err := p.Ready(context.Background(), 10*time.Second, ready); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("error %v, want one that says it was killed", err)
	}
}

func TestDyingOfTermIsAFailureUnlessExpected(t *testing.T) {
	for _, expected := range []bool{true, false} {
		g := newGroup(t)
		s := spec("plain")
		s.DiesOfTerm = expected
		p := start(t, g, s)
		ready := func(context.Context) error {
			if p.tail() != "  plain" {
				return errors.New("not yet")
			}
			return nil
		}
		if err := p.Ready(context.Background(), 10*time.Second, ready); err != nil {
			t.Fatal(err)
		}
		if err := g.Stop(10 * time.Second); (err == nil) != expected {
			t.Errorf("expected %v: error %v", expected, err)
		}
	}
}

func TestReadyTellsWhyItFailed(t *testing.T) {
	never := func(context.Context) error { return errors.New("no answer") }
	g := newGroup(t)
	broken := start(t, g, spec("broken"))
	err := broken.Ready(context.Background(), 10*time.Second, never)
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "line 99") || strings.Contains(err.Error(), "line 80\n") {
		t.Errorf("error %v; want the status and the last lines only", err)
	}
	if g.Exited() != broken {
		t.Error("the broken program does not count as exited")
	}
	deaf := start(t, g, spec("deaf"))
	if err := deaf.Ready(context.Background(), 30*time.Millisecond, never); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("error %v, want a timeout with the last reason", err)
	}
	if err := g.Stop(time.Millisecond); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("error %v, want the failed program's status", err)
	}
}

func TestStartFailsForAMissingProgram(t *testing.T) {
	g := newGroup(t)
	if p, err := g.Start(Spec{Name: "absent", Path: filepath.Join(t.TempDir(), "absent")}); err == nil {
		t.Errorf("started pid %d", p.Pid())
	}
	if err := g.Stop(time.Second); err != nil {
		t.Error(err)
	}
}

// However the parent ends, its children end with it.
func TestChildrenDieWithTheirParent(t *testing.T) {
	parent := exec.Command(os.Args[0], t.TempDir())
	parent.Env = append(os.Environ(), roleVar+"=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Fatal("the child does not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(30 * time.Second); alive(child); {
		if time.Now().After(deadline) {
			t.Fatalf("child %d outlives its parent", child)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// alive reports whether a process runs; an orphan that nobody waits for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestCPUsAreInherited(t *testing.T) {
	g := newGroup(t)
	defer g.Stop(time.Second)
	s := spec("server", "127.0.0.1:0")
	s.CPUs = []int{0}
	p := start(t, g, s)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
		t.Errorf("want the child bound to processor 0, got\n%s", status)
	}
}

func TestUsageGrowsWithWork(t *testing.T) {
	address, _, err := FreeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t)
	defer g.Stop(time.Second)
	p := start(t, g, spec("server", address))
	answers := Answers("http://" + address)
	if err := p.Ready(context.Background(), 10*time.Second, answers); err != nil {
		t.Fatal(err)
	}
	before, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := answers(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	after, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	used := after.Sub(before)
	if used.CPU < 200*time.Microsecond || used.CPU > 10*time.Second || used.Switches == 0 || used.Resident < 1<<20 {
		t.Errorf("200 requests used %+v; want some CPU, some switches and at least a MiB of memory", used)
	}
}

func TestFreeAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if got, preferred, err := FreeAddress(port); err != nil || preferred || got == ln.Addr().String() {
		t.Errorf("FreeAddress(%d), taken = %s, %v, %v; want another", port, got, preferred, err)
	}
	ln.Close()
	if got, preferred, err := FreeAddress(port); err != nil || !preferred || got != ln.Addr().String() {
		t.Errorf("FreeAddress(%d) = %s, %v, %v; want it", port, got, preferred, err)
	}
}
