package proxy

import "testing"

func TestPressure(t *testing.T) {
	for _, c := range []struct {
		size      int64
		was, want int32
	}{
		{0, pressureNone, pressureNone}, {79, pressureNone, pressureNone}, {80, pressureNone, pressureClose},
		{99, pressureNone, pressureClose}, {100, pressureNone, pressureRefuse}, {500, pressureClose, pressureRefuse},
		{96, pressureRefuse, pressureRefuse}, {94, pressureRefuse, pressureClose}, {77, pressureClose, pressureClose},
		{75, pressureClose, pressureNone}, {75, pressureRefuse, pressureNone}, {77, pressureRefuse, pressureClose},
	} {
		if got := pressureAt(c.size, 80, 100, c.was); got != c.want {
			t.Errorf("size %d after %d: %d, want %d", c.size, c.was, got, c.want)
		}
	}
}
