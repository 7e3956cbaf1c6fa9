//go:build !race

package proxy

import (
	"maps"
	"slices"
	"testing"
)

func TestHotStepsDoNotAllocate(t *testing.T) {
	steps := hotSteps(t)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		if n := testing.AllocsPerRun(200, steps[name]); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}
