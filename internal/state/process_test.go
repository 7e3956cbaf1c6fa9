//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package state

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// asChild makes the test binary another user of a state file; its value says which.
const asChild = "WEIR_TEST_STATE_CHILD"

func TestMain(m *testing.M) {
	var child func(path string) error
	switch kind := os.Getenv(asChild); kind {
	case "":
		os.Exit(m.Run())
	case "hold":
		child = hold
	case "saver":
		child = saver
	case "read-only":
		child = saveReadOnly
	case "full":
		child = saveWithoutSpace
	default:
		child = func(string) error { return fmt.Errorf("no child of kind %q", kind) }
	}
	if err := child(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, kind, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), asChild+"="+kind)
	cmd.Stderr = os.Stderr
	return cmd
}

// hold has the file open from the line it prints until its input ends.
func hold(path string) error {
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		return err
	}
	if err := f.Save(sample(41, 1, 1)); err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestLockBetweenProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.state.json")
	cmd := child(t, "hold", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}

	const wait = 50 * time.Millisecond
	for _, w := range []time.Duration{0, wait} {
		began := time.Now()
		_, err = OpenFile(path, FileOptions{Wait: w})
		if err == nil || !strings.HasPrefix(err.Error(), "state.file "+path+": another weir uses it (") || !strings.HasSuffix(err.Error(), "give this one a state.file of its own") {
			t.Errorf("while the other process has it: %v", err)
		}
		if took := time.Since(began); took < w {
			t.Errorf("gave up after %v of %v", took, w)
		}
	}

	type result struct {
		f   *File
		err error
	}
	opened := make(chan result)
	go func() {
		f, err := OpenFile(path, FileOptions{Wait: time.Minute})
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		t.Fatalf("did not wait: %v", r.err)
	case <-time.After(wait):
	}
	in.Close()
	r := <-opened
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.f.Close()
	wantLoad(t, r.f, sample(41, 1, 1))
}

// saver saves one generation after the other and prints each when it is saved.
func saver(path string) error {
	f, err := OpenFile(path, FileOptions{Wait: 10 * time.Second, Warn: func(s string) { fmt.Println(s); os.Exit(1) }})
	if err != nil {
		return err
	}
	d, err := f.Load()
	if err != nil {
		return err
	}
	generation := uint64(0)
	if d != nil {
		generation = d.Generation
	}
	for {
		generation++
		if err := f.Save(killed(generation)); err != nil {
			return err
		}
		fmt.Println(generation)
	}
}

// killed are Documents of very different sizes, so that a short one over a long one shows, too.
func killed(generation uint64) *Document {
	return sample(generation, int(generation*7%40), int(generation*13%30))
}

// TestKill ends a process in the middle of its saves, by SIGKILL. It tells whether a Save is whole and
// in the right order, not whether it would survive the power: the system keeps what the process wrote.
func TestKill(t *testing.T) {
	kills := 20
	if os.Getenv("WEIR_PROVE") != "" {
		kills = 200
	}
	path := filepath.Join(t.TempDir(), "weir.state.json")
	last, halves := uint64(0), 0
	for i := range kills {
		cmd := child(t, "saver", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, first := bufio.NewReader(out), ""
		if i%2 == 0 { // else it may not have come to its first save, or to any line of its own
			if first, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("the process ended by itself: %q, %v", first, err)
			}
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(lines)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
			t.Fatalf("the process: %v\n%s", err, rest)
		}
		for line := range strings.Lines(first + string(rest)) {
			generation, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
			if err != nil || generation != last+1 {
				t.Fatalf("after %d the process printed %q", last, line)
			}
			last = generation
		}

		if _, err := os.Stat(path + ".tmp"); err == nil {
			halves++
		}
		f, warnings := openFile(t, path)
		d := load(t, f)
		if d.Generation != last && d.Generation != last+1 {
			t.Fatalf("generation %d after %d was saved; %q", d.Generation, last, *warnings)
		}
		last = d.Generation
		if diff := cmp.Diff(killed(last), d); diff != "" {
			t.Fatalf("generation %d is a mixture (-want +got):\n%s", last, diff)
		}
		f.Close()
		if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"weir.state.json", "weir.state.json.lock"}) {
			t.Fatalf("in the directory: %q", got)
		}
	}
	t.Logf("%d kills in %d saves, %d of them before the rename", kills, last, halves)
}

// saveReadOnly saves where it may not write. The superuser may everywhere, so it becomes another first.
func saveReadOnly(path string) error {
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		return err
	}
	if err := f.Save(sample(1, 1, 1)); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			return err
		}
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	if err := f.Save(sample(2, 1, 1)); err == nil {
		return fmt.Errorf("Save was possible")
	} else {
		fmt.Println(err)
	}
	d, err := f.Load()
	if err != nil {
		return err
	}
	fmt.Println("generation", d.Generation)
	if err := os.Chmod(path, 0); err != nil {
		return err
	}
	d, err = f.Load()
	fmt.Println(d, err)
	return nil
}

func TestReadOnlyDirectory(t *testing.T) {
	directory := t.TempDir()
	cmd := child(t, "read-only", "s") // no longer path: what the child becomes may not pass the directories above
	cmd.Dir = directory
	t.Cleanup(func() { _ = os.Chmod(directory, 0o700) })
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "state.file s: saving: open s.tmp: permission denied\ngeneration 1\n<nil> state.file s: loading: open s: permission denied\n"
	if string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if got := names(t, directory); !slices.Equal(got, []string{"s", "s.lock"}) {
		t.Errorf("in the directory: %q", got)
	}
}

// saveWithoutSpace saves where a file cannot become as long as it should: what a full disk does to it.
func saveWithoutSpace(path string) error {
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		return err
	}
	// The system sends a signal, too, which Go leaves without effect.
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		return err
	}
	if err := f.Save(sample(2, 100, 1)); err == nil {
		return fmt.Errorf("Save was possible")
	} else {
		fmt.Println(err)
	}
	d, err := f.Load()
	if err != nil {
		return err
	}
	fmt.Println("generation", d.Generation)
	return f.Save(sample(3, 1, 1))
}

// TestFullDisk finds for certain what TestKill seldom hits: that half a write ends in the file itself.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, _ := openFile(t, path)
	save(t, f, sample(1, 1, 1))
	f.Close()
	out, err := child(t, "full", path).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := fmt.Sprintf("state.file %s: saving: write %s.tmp: file too large\ngeneration 1\n", path, path); string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	f, _ = openFile(t, path)
	wantLoad(t, f, sample(3, 1, 1))
}
