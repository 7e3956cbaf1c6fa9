package admin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestATokenFileIsNotWaitedFor: nobody writes to the pipe that weir is given; a client is given one that
// somebody writes to.
func TestATokenFileIsNotWaitedFor(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, "/dev/zero"} {
		got := make(chan error, 1)
		go func() {
			_, err := ReadTokens(path)
			got <- err
		}()
		select {
		case err := <-got:
			if want := path + ": admin.token_file: is a pipe, a socket or a device"; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want %s…", err, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("it waits for %s", path)
		}
	}
	go func() { _ = os.WriteFile(pipe, []byte(fullToken), 0) }()
	if got, err := FirstToken(pipe); got != fullToken || err != nil {
		t.Errorf("a client reads %q, %v", got, err)
	}
}
