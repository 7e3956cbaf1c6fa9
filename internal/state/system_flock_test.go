//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package state

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSymbolicLink(t *testing.T) {
	real, linked := t.TempDir(), t.TempDir()
	relative, err := filepath.Rel(linked, real)
	if err != nil {
		t.Fatal(err)
	}
	// Two links, the first relative, to a file that is not there yet.
	for from, to := range map[string]string{"a": "b", "b": filepath.Join(relative, "s")} {
		if err := os.Symlink(to, filepath.Join(linked, from)); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := openFile(t, filepath.Join(linked, "a"))
	for g := range uint64(2) {
		save(t, f, sample(g+1, 1, 1))
		wantLoad(t, f, sample(g+1, 1, 1))
	}
	if got := names(t, linked); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("beside the links: %q", got)
	}
	if got := names(t, real); !slices.Equal(got, []string{"s", "s.lock"}) {
		t.Errorf("beside the file: %q", got)
	}
	if _, err := OpenFile(filepath.Join(real, "s"), FileOptions{}); err == nil {
		t.Error("opened again under its own name")
	}
	if err := os.Symlink("loop", filepath.Join(linked, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(filepath.Join(linked, "loop"), FileOptions{}); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop of links: %v", err)
	}
}

func TestSaveKeepsModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	f, _ := openFile(t, path)
	wantMode := func(want os.FileMode) os.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Fatalf("mode %v, want %v (%v)", info.Mode(), want, err)
		}
		return info
	}
	save(t, f, sample(1, 1, 1))
	wantMode(0o600)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	save(t, f, sample(2, 1, 1))
	wantMode(0o644)
	if os.Getuid() != 0 {
		return // only the superuser can give files away
	}
	if err := os.Chown(path, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	save(t, f, sample(3, 1, 1))
	if s := wantMode(0o644).Sys().(*syscall.Stat_t); s.Uid != 65534 || s.Gid != 65533 {
		t.Errorf("owner %d, group %d", s.Uid, s.Gid)
	}
}
