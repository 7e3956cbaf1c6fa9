package main

import (
	"fmt"
	"testing"
)

func TestLongListsOfChangesAreShortened(t *testing.T) {
	var changes []string
	for i := range shownChanges {
		changes = append(changes, fmt.Sprint("pool ", i, " changed"))
	}
	if got := shortened(changes); len(got) != shownChanges {
		t.Errorf("%d changes of %d shown", len(got), shownChanges)
	}
	changes = append(changes, "one", "two")
	got := shortened(changes)
	if len(got) != shownChanges+1 || got[shownChanges] != "and 2 more" || changes[shownChanges] != "one" {
		t.Errorf("shown: %d, the last %q", len(got), got[len(got)-1])
	}
}
