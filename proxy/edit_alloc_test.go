//go:build !race

package proxy

import "testing"

func TestEditsDoNotAllocate(t *testing.T) {
	for name, step := range editSteps(t) {
		step()
		if n := testing.AllocsPerRun(200, step); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
