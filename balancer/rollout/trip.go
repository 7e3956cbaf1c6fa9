package rollout

import (
	"fmt"
	"time"
)

// Tripwire is a disaster that needs no statistics: so large a share of the new version's latest requests failed.
type Tripwire struct {
	Errors   float64       // share of the requests, 0 to 1
	Requests uint64        // at least so many
	Window   time.Duration // in which they ended
}

// Trip watches a Tripwire. Its zero value has seen nothing. It is for one goroutine.
type Trip struct {
	looks []look // oldest first; the first is the last one before the window
}

type look struct {
	at  time.Time
	has Counts
}

// Look takes in the new version's counts since the rollout began (or since a restart: counts that fall begin anew), and
// returns what has happened, "" where nothing has.
func (t *Trip) Look(now time.Time, has Counts, w Tripwire) (disaster string) {
	if n := len(t.looks); n > 0 && (has.Requests < t.looks[n-1].has.Requests || has.Errors < t.looks[n-1].has.Errors) {
		t.looks = t.looks[:0]
	}
	if len(t.looks) == 0 {
		t.looks = append(t.looks, look{now, Counts{}})
	}
	t.looks = append(t.looks, look{now, has})
	first := 0
	for first+1 < len(t.looks) && now.Sub(t.looks[first+1].at) >= w.Window {
		first++
	}
	t.looks = append(t.looks[:0], t.looks[first:]...)
	before := t.looks[0].has
	requests, errors := has.Requests-before.Requests, has.Errors-before.Errors
	if w.Requests == 0 || requests < w.Requests || float64(errors) < w.Errors*float64(requests) {
		return ""
	}
	return fmt.Sprintf("%d of the new version's last %d requests failed within %v", errors, requests, w.Window)
}
