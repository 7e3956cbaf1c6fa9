package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a program that shows to a person, who sees all it ever wrote.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File

	mu   sync.Mutex
	seen strings.Builder
}

// onTerminal runs weir on a terminal of this size.
func onTerminal(t *testing.T, width, height uint16, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	term := &terminal{t: t, master: master, cmd: exec.Command(program, args...)}
	term.resize(width, height)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.cmd.Process.Kill() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // the program has ended
			}
		}
	}()
	return term
}

func (term *terminal) resize(width, height uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		term.t.Fatal(err)
	}
}

// key presses a key together with Control.
func (term *terminal) key(letter byte) {
	term.t.Helper()
	if _, err := term.master.Write([]byte{letter - '@'}); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.String()
}

// picture is the last whole picture.
func (term *terminal) picture() string {
	pictures := strings.Split(term.text(), home)
	for i := len(pictures) - 1; i > 0; i-- {
		if picture, _, whole := strings.Cut(pictures[i], clearBelow); whole {
			return strings.NewReplacer(clearLine, "", "\r", "").Replace(picture)
		}
	}
	return ""
}

func (term *terminal) wait(what string, ok func(picture string) bool) string {
	term.t.Helper()
	eventually(term.t, what, func() bool { return ok(term.picture()) })
	return term.picture()
}

// TestStatusOnATerminal watches a weir that is stopped and started again, in a window that gets smaller.
func TestStatusOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	dir := t.TempDir()
	text := strings.Replace(blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 1"),
		`admin: {address: "127.0.0.1:0"}`, fmt.Sprintf("admin: {address: %q}", freeAddress(t)), 1)
	file := filepath.Join(dir, "weir.yaml")
	writeFile(t, file, text)
	w := serveFile(t, file)
	w.variants(20)
	term := onTerminal(t, 80, 24, "status", "-w", "--interval", "100ms", "--admin", w.admin)
	picture := term.wait("the first picture", func(p string) bool { return strings.Contains(p, "generation 1  ") })
	for i, line := range strings.Split(picture, "\n") {
		if cells(line) > 80 {
			t.Errorf("line %d has %d columns: %q", i+1, cells(line), line)
		}
	}
	wantMatch(t, picture, `\x1b\[32mhealthy\x1b\[0m`)
	wantMatch(t, picture, `(?m)^  blue  \x1b\[36m[█·┃]+\x1b\[0m +\d+.\d%  50.0% +\S+/s +0.0% +\S+ms +\S+ms +\S+m?s$`)

	term.resize(60, 5)
	picture = term.wait("a smaller picture", func(p string) bool { return strings.Count(p, "\n") == 4 })
	wantMatch(t, picture, `\n… \d+ lines more; a larger window shows all$`)
	term.resize(80, 24)

	w.signal(syscall.SIGTERM)
	if w.exit() != 0 {
		t.Error("weir did not stop cleanly")
	}
	picture = term.wait("that weir cannot be reached", func(p string) bool { return strings.Contains(p, "cannot reach the admin API") })
	wantMatch(t, picture, `^\x1b\[31mcannot be reached for \d+s, trying again; this is of \d\d:\d\d:\d\d\x1b\[0m\n`)
	wantMatch(t, picture, `(?m)^  blue  `) // the last picture stays
	serveFile(t, file)
	term.wait("that it is back", func(p string) bool { return strings.HasPrefix(p, "weir v0.0.0-test  ") })

	term.key('Z')
	eventually(t, "the shell has its terminal", func() bool { return strings.HasSuffix(term.text(), leaveScreen) })
	eventually(t, "it goes on", func() bool {
		_ = term.cmd.Process.Signal(syscall.SIGCONT) // it may not have stopped yet
		return strings.Count(term.text(), enterScreen) == 2
	})
	term.wait("a picture", func(p string) bool { return strings.HasPrefix(p, "weir v0.0.0-test  ") })

	term.key('C')
	if err := term.cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	eventually(t, "the terminal is as it was", func() bool { return strings.HasSuffix(term.text(), leaveScreen) })
	if all := term.text(); !strings.HasPrefix(all, enterScreen) || strings.Count(all, enterScreen) != 2 {
		t.Errorf("the beginning: %.100q", all)
	}
}

// TestColours holds plain output to NO_COLOR and to TERM, whoever reads it.
func TestColours(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 1"))
	for name, tt := range map[string]struct {
		env     string
		colours bool
	}{
		"a terminal": {"NO_COLOR=", true}, "NO_COLOR": {"NO_COLOR=1", false}, "a dumb terminal": {"TERM=dumb", false},
	} {
		t.Run(name, func(t *testing.T) {
			name, value, _ := strings.Cut(tt.env, "=")
			t.Setenv("NO_COLOR", "")
			t.Setenv("TERM", "xterm")
			t.Setenv(name, value)
			term := onTerminal(t, 80, 24, "status", "--admin", w.admin)
			if err := term.cmd.Wait(); err != nil {
				t.Error(err)
			}
			eventually(t, "the output", func() bool { return strings.Contains(term.text(), "last change") })
			if got := strings.Contains(term.text(), "\x1b[32mhealthy"); got != tt.colours {
				t.Errorf("colours: %v, want %v: %q", got, tt.colours, term.text())
			}
		})
	}
}
