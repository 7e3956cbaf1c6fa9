//go:build !race

package telemetry

import (
	"io"
	"testing"
)

// The race detector makes sync.Pool forget on purpose, so that this holds only without it.
func TestAccessLogWriteDoesNotAllocate(t *testing.T) {
	l := NewAccessLog(io.Discard, 1<<22)
	defer func() { _ = l.Close() }()
	e := exampleEntry()
	if n := testing.AllocsPerRun(1000, func() { l.Write(e) }); n != 0 {
		t.Errorf("%v allocations per line, want 0", n)
	}
}
