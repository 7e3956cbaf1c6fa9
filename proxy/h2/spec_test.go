package h2

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// TestSpec runs all cases of h2spec, which is pinned in tools/go.mod, against a server over a Conn.
func TestSpec(t *testing.T) {
	l := listen(t)
	go serveEcho(l, Settings{})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// The first run builds it.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "tool", "-modfile=../../tools/go.mod", "h2spec", "-h", "127.0.0.1", "-p", port, "-o", "10").CombinedOutput()
	if err != nil || !regexp.MustCompile(`\n145 tests, 145 passed, 0 skipped, 0 failed\n`).Match(out) {
		t.Errorf("h2spec: %v\n%s", err, out)
	}
}
