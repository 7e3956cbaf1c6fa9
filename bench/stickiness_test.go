package bench

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStickiness(t *testing.T) {
	at := func(user int, variant string, sent, done time.Duration) Sighting {
		return Sighting{User: user, Variant: variant, Sent: sent, Done: done}
	}
	s := NewStickiness(4)
	s.Add([]Sighting{at(0, "blue", 1, 2), at(1, "green", 1, 2), at(0, "blue", 3, 4), at(2, "blue", 5, 9)})
	s.Confirm(5)
	check := func(step string, wantSeen map[string]uint64, wantMoved uint64) {
		t.Helper()
		seen, moved := s.Users()
		if diff := cmp.Diff(wantSeen, seen); diff != "" || moved != wantMoved {
			t.Errorf("%s: %d moved, want %d; users by variant (-want +got):\n%s", step, moved, wantMoved, diff)
		}
	}
	check("the answer at 9 waits to be confirmed", map[string]uint64{"blue": 1, "green": 1}, 0)

	s.Confirm(10)
	check("now it is", map[string]uint64{"blue": 2, "green": 1}, 0)

	s.Add([]Sighting{at(1, "blue", 11, 12), at(1, "green", 13, 14), at(1, "blue", 15, 16)})
	s.Confirm(20)
	check("a user that goes back and forth moved once", map[string]uint64{"blue": 2, "green": 1}, 1)

	// The weights change between 20 and 30: answers of that time are of either split.
	s.Add([]Sighting{at(0, "green", 21, 22), at(2, "green", 29, 35), at(0, "blue", 31, 32), at(3, "green", 32, 33)})
	s.Restart(30)
	s.Confirm(40)
	check("a change of weights starts anew", map[string]uint64{"blue": 1, "green": 1}, 0)
}
