package proxy_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// peer runs a program that is not weir's until the end of the test, and waits until it takes connections at addr. What it
// said is shown where the test fails.
func peer(t *testing.T, addr, path string, args ...string) *os.Process {
	t.Helper()
	var said lockedBuffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	eventually(t, filepath.Base(path)+" takes connections", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return cmd.Process
}
