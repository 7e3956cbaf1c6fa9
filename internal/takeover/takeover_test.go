//go:build linux

package takeover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// calls are a Giver's, in their order.
type calls chan string

func (c calls) want(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-c:
			if got != w {
				t.Errorf("call %q, want %q", got, w)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no call %q", w)
		}
	}
}

// giver returns one that has these sockets and writes down how it is called.
func giver(sockets ...Socket) (*Giver, calls) {
	c := make(calls, 20)
	return &Giver{
		Version: "1",
		Sockets: func(to Peer) ([]Socket, error) {
			c <- fmt.Sprintf("sockets to %s, mine: %t", to.Version, to.PID == os.Getpid())
			return sockets, nil
		},
		Release: func(kept []Socket) error {
			names := []string{}
			for _, s := range kept {
				names = append(names, s.Name+"="+s.Address)
			}
			c <- "release, kept " + strings.Join(names, " ")
			return nil
		},
		Reclaim: func() error { c <- "reclaim"; return nil },
		Failed:  func(err error) { c <- "failed: " + err.Error() },
		Done:    func() { c <- "done" },
	}, c
}

// serve serves until the test ends, or what it returns is called.
func serve(t *testing.T, g *Giver, path string) (stop func()) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { g.Serve(ctx, l); close(done) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func take(t *testing.T, path string) *Taken {
	t.Helper()
	taken, err := Take(path, "2", 10*time.Second)
	// A weir that has just handed its socket over may still be at the end of that, and refuse.
	for end := time.Now().Add(20 * time.Second); err != nil && strings.HasSuffix(err.Error(), errBusy.Error()) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		taken, err = Take(path, "2", 10*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(taken.Abandon)
	return taken
}

// wantRefused checks that an error is what the running weir said.
func wantRefused(t *testing.T, err error, reason string) {
	t.Helper()
	if want := "cannot take over: the running weir refuses: " + reason; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "s.takeover") }

// listeners opens n and returns them as sockets, too.
func listeners(t *testing.T, n int) (l []*net.TCPListener, s []Socket) {
	t.Helper()
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, ln.(*net.TCPListener))
		s = append(s, Socket{Name: fmt.Sprint("proxy", i), Address: ln.Addr().String(), File: f})
	}
	return l, s
}

// TestSockets passes more than a packet holds, keeps some, and lets the other listeners be.
func TestSockets(t *testing.T) {
	path := socketPath(t)
	const n = 2*perPacket + 3
	ls, sockets := listeners(t, n)
	g, c := giver(slices.Clone(sockets)...)
	serve(t, g, path)
	taken := take(t, path)
	c.want(t, "sockets to 2, mine: true")
	if want := (Peer{"1", os.Getpid()}); taken.From != want || len(taken.Sockets) != n {
		t.Fatalf("%d sockets from %v, want %d from %v", len(taken.Sockets), taken.From, n, want)
	}
	for i, s := range taken.Sockets {
		l, err := net.FileListener(s.File)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != sockets[i].Name || s.Address != sockets[i].Address || l.Addr().String() != s.Address {
			t.Fatalf("socket %d is %s %s at %s, want %s %s", i, s.Name, s.Address, l.Addr(), sockets[i].Name, sockets[i].Address)
		}
		l.Close()
	}
	kept := []Socket{taken.Sockets[n-1], taken.Sockets[0]}
	if err := taken.Ready(kept); err != nil {
		t.Fatal(err)
	}
	c.want(t, fmt.Sprintf("release, kept proxy0=%s proxy%d=%s", sockets[0].Address, n-1, sockets[n-1].Address))
	if err := taken.Sockets[1].File.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a socket that is not kept is still open: %v", err)
	}
	if err := taken.Serving(); err != nil {
		t.Fatal(err)
	}
	c.want(t, "done")
	for _, s := range kept {
		s.File.Close()
	}
	if err := sockets[0].File.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("what the Giver was given is still open: %v", err)
	}
	for _, l := range ls {
		if raw, err := l.SyscallConn(); err != nil {
			t.Fatal(err)
		} else if err := raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Fatalf("a listener became blocking: flags %x, %v", flags, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}

	// The socket of takeovers has passed on: the next one asks the new one.
	g2, c2 := giver()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { g2.Serve(ctx, taken.Listener()); close(done) }()
	next := take(t, path)
	c2.want(t, "sockets to 2, mine: true")
	stop()
	<-done
	c2.want(t, "failed: the takeover by weir 2 (process "+fmt.Sprint(os.Getpid())+") failed: this weir is stopping")
	wantRefused(t, next.Ready(nil), "this weir is stopping")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of the socket is left: %v", err)
	}
	if _, err := Take(path, "2", time.Second); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody runs: %v", err)
	}
}

func TestStopWhileTakenOver(t *testing.T) {
	path := socketPath(t)
	g, c := giver()
	stop := serve(t, g, path)
	taken := take(t, path)
	if err := taken.Ready(nil); err != nil {
		t.Fatal(err)
	}
	stop()
	failed := fmt.Sprintf("failed: the takeover by weir 2 (process %d) failed: this weir is stopping", os.Getpid())
	c.want(t, "sockets to 2, mine: true", "release, kept ", "reclaim", failed)
	wantRefused(t, taken.Serving(), "this weir is stopping")
}

func TestRefusals(t *testing.T) {
	prefix := fmt.Sprintf("failed: the takeover by weir 2 (process %d) failed: ", os.Getpid())
	path := socketPath(t)
	g, c := giver()
	sockets := g.Sockets
	g.Sockets = func(p Peer) ([]Socket, error) { _, _ = sockets(p); return nil, errors.New("no sockets today") }
	stop := serve(t, g, path)
	_, err := Take(path, "2", time.Minute)
	wantRefused(t, err, "no sockets today")
	c.want(t, "sockets to 2, mine: true", prefix+"no sockets today")
	stop()

	g, c = giver()
	g.Release, g.Reclaim = func([]Socket) error { return errors.New("cannot release") }, func() error { return errors.New("nor reclaim") }
	serve(t, g, path)
	taken := take(t, path)
	_, err = Take(path, "2", time.Minute)
	wantRefused(t, err, "another takeover is under way")
	taken.Abandon()
	c.want(t, "sockets to 2, mine: true", prefix+"the other weir has gone")
	wantRefused(t, take(t, path).Ready(nil), "cannot release")
	c.want(t, "sockets to 2, mine: true", prefix+"cannot release\ntaking back: nor reclaim")

	for _, m := range []struct {
		message
		reason string
	}{
		{message{Kind: kindHello, Protocol: 2}, "it is weir 1 and speaks version 1 of the takeover, not 2: stop it and start the new one"},
		{message{Kind: kindServing}, `the other weir says "serving", want "hello"`},
		{message{Kind: "x"}, `the other weir says "x", want "hello"`},
	} {
		c, err := connect(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l := link{c}
		if err := l.send(m.message); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.receive(t.Context(), time.Minute); err == nil || err.Error() != "the running weir refuses: "+m.reason {
			t.Errorf("%v: %v", m.message, err)
		}
	}
	if len(c) > 0 {
		t.Errorf("a call %q", <-c)
	}
}

// TestOneServes lets "serving" and the end of patience meet: both sides have to agree on who serves.
func TestOneServes(t *testing.T) {
	rounds := 200
	if os.Getenv("WEIR_PROVE") != "" {
		rounds = 20000
	}
	path := socketPath(t)
	g, c := giver()
	g.ServingWithin = 2 * time.Millisecond
	gave, committed := 0, 0
	for range rounds {
		stop := serve(t, g, path)
		taken := take(t, path)
		c.want(t, "sockets to 2, mine: true")
		if err := taken.Ready(nil); err != nil {
			t.Fatal(err)
		}
		c.want(t, "release, kept ")
		time.Sleep(g.ServingWithin - time.Millisecond + rand.N(2*time.Millisecond))
		err := taken.Serving()
		if err == nil {
			committed++
		}
		switch got := <-c; got {
		case "done":
			gave++
		case "reclaim":
			<-c
		default:
			t.Fatalf("call %q", got)
		}
		if gave != committed {
			t.Fatalf("given: %d times, taken: %d times; %v", gave, committed, err)
		}
		taken.Close()
		stop()
		taken.Listener().leave()
		_ = os.Remove(path)
	}
	t.Logf("%d of %d in time", gave, rounds)
}

func TestListen(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "s.takeover")
	fail := func(want string) {
		t.Helper()
		if l, err := Listen(path); err == nil || !strings.HasPrefix(err.Error(), "cannot listen for takeovers: "+want) {
			t.Errorf("Listen: %v, %v, want %s", l, err, want)
		}
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	fail(path + ": another weir listens there; ")
	l.leave() // as by SIGKILL
	if l, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	fail(path + " is in the way: remove it")
	if data, err := os.ReadFile(path); string(data) != "precious" {
		t.Errorf("the file that was there holds %q, %v", data, err)
	}
	path = filepath.Join(directory, "missing", "s.takeover")
	fail("listen unixpacket " + path + ": bind: no such file or directory")
}

func TestLongPath(t *testing.T) {
	directory := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("absolute", func(t *testing.T) { takeAt(t, filepath.Join(directory, "weir.state.json.takeover")) })
	t.Run("relative", func(t *testing.T) {
		t.Chdir(directory)
		takeAt(t, strings.Repeat("./", 60)+"s")
		if _, err := os.Lstat("s"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file of the socket is left: %v", err)
		}
	})
	name := strings.Repeat("n", 120)
	_, err := Listen(filepath.Join(directory, name))
	if err == nil || !strings.Contains(err.Error(), "the name "+name+" is too long for a socket by ") {
		t.Errorf("Listen at a name that is too long: %v", err)
	}
}

func takeAt(t *testing.T, path string) {
	t.Helper()
	if _, err := Take(path, "2", time.Second); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody runs: %v", err)
	}
	g, c := giver()
	stop := serve(t, g, path)
	take(t, path).Close()
	c.want(t, "sockets to 2, mine: true")
	stop()
}

// asStranger has the test binary run as another user.
const asStranger = "WEIR_TEST_TAKEOVER_STRANGER"

// TestStranger: even where the mode of the file lets another user in, nothing is passed, nor taken.
func TestStranger(t *testing.T) {
	if path := os.Getenv(asStranger); path != "" {
		_, err := Take(path, "2", 5*time.Second)
		fmt.Println(err)
		return
	}
	if os.Getuid() != 0 {
		t.Log("only the superuser can become another user")
		return
	}
	path := socketPath(t)
	for d := filepath.Dir(path); len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The stranger's own copy, where it may read.
	program := filepath.Join(filepath.Dir(path), "stranger")
	if data, err := os.ReadFile(os.Args[0]); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	g, c := giver()
	serve(t, g, path)
	stranger := func() string {
		cmd := exec.Command(program, "-test.run=^TestStranger$")
		cmd.Dir = filepath.Dir(path)
		cmd.Env = append(os.Environ(), asStranger+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return strings.Split(string(out), "\n")[0]
	}
	if got := stranger(); !strings.HasSuffix(got, "permission denied") {
		t.Errorf("a stranger at the closed file: %s", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := stranger(); got != "cannot take over: the running weir refuses: the other process runs as user 65534, this one as 0: it must be the same, or root" {
		t.Errorf("a stranger at the open file: %s", got)
	}
	if len(c) > 0 {
		t.Errorf("a call %q", <-c)
	}
}
