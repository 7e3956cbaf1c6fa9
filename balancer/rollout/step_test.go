package rollout

import (
	"testing"
	"time"
)

var (
	begun = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	plan  = Plan{Steps: []Step{{10, 5 * time.Minute}, {50, 5 * time.Minute}, {100, 5 * time.Minute}}, Inconclusive: InconclusiveHold, MaxWait: 10 * time.Minute, Judged: true}
)

// TestNext is the table of every phase against everything that can be known, one at a time.
func TestNext(t *testing.T) {
	minute := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Minute) }
	states := map[string]State{
		"preparing":        Begin(begun),
		"first":            {Phase: Progressing, Step: 0, Since: begun},
		"last":             {Phase: Progressing, Step: 2, Since: begun},
		"paused":           {Phase: Paused, Step: 0, Since: begun, PausedAt: minute(1)},
		"paused preparing": {Phase: Paused, Step: Unstarted, Since: begun, PausedAt: minute(1)},
		"succeeded":        {Phase: Succeeded, Step: 2, Since: begun},
		"aborted":          {Phase: Aborted, Step: 1, Since: begun},
	}
	type end struct {
		phase Phase
		step  int
		move  Move
	}
	stays := func(name string) end { return end{states[name].Phase, states[name].Step, Stay} }
	inputs := []struct {
		name string
		in   Input
		want map[string]end // the rest stays
	}{
		{"nothing", Input{Now: minute(1)}, nil},
		{"ready", Input{Now: minute(1), Ready: true}, map[string]end{"preparing": {Progressing, 0, Advance}}},
		{"refused", Input{Now: minute(1), Refused: "x"}, map[string]end{"preparing": {Aborted, -1, Stay}}},
		{"pass too early", Input{Now: begun.Add(30 * time.Second), Verdict: Pass}, nil},
		{"pass", Input{Now: minute(5), Verdict: Pass}, map[string]end{"first": {Progressing, 1, Advance}, "last": {Succeeded, 2, Finish}}},
		{"fail", Input{Now: minute(1), Verdict: Fail}, map[string]end{"first": {Aborted, 0, Retreat}, "last": {Aborted, 2, Retreat}, "paused": {Aborted, 0, Retreat}}},
		{"disaster", Input{Now: minute(0), Tripped: "x", Verdict: Pass}, map[string]end{"first": {Aborted, 0, Retreat}, "last": {Aborted, 2, Retreat}, "paused": {Aborted, 0, Retreat}}},
		{"inconclusive within max_wait", Input{Now: minute(10), Verdict: Inconclusive}, map[string]end{"last": {Succeeded, 2, Finish}}},
		{"inconclusive beyond it", Input{Now: minute(15), Verdict: Inconclusive}, map[string]end{"first": {Paused, 0, Stay}, "last": {Succeeded, 2, Finish}}},
		{"pause", Input{Now: minute(1), Command: Pause}, map[string]end{"preparing": {Paused, Unstarted, Stay}, "first": {Paused, 0, Stay}, "last": {Paused, 2, Stay}}},
		{"resume", Input{Now: minute(3), Command: Resume}, map[string]end{"paused": {Progressing, 0, Stay}, "paused preparing": {Preparing, Unstarted, Stay}}},
		{"promote", Input{Now: minute(0), Command: Promote}, map[string]end{"preparing": {Progressing, 0, Advance}, "first": {Progressing, 1, Advance}, "last": {Succeeded, 2, Finish}, "paused": {Progressing, 1, Advance}, "paused preparing": {Progressing, 0, Advance}}},
		{"abort", Input{Now: minute(0), Command: Abort}, map[string]end{"preparing": {Aborted, -1, Stay}, "first": {Aborted, 0, Retreat}, "last": {Aborted, 2, Retreat}, "paused": {Aborted, 0, Retreat}, "paused preparing": {Aborted, -1, Stay}}},
		{"promote of a version that fails", Input{Now: minute(1), Command: Promote, Verdict: Fail}, map[string]end{"preparing": {Progressing, 0, Advance}, "first": {Aborted, 0, Retreat}, "last": {Aborted, 2, Retreat}, "paused": {Aborted, 0, Retreat}, "paused preparing": {Progressing, 0, Advance}}},
	}
	for _, c := range inputs {
		for name, s := range states {
			want, ok := c.want[name]
			if !ok {
				want = stays(name)
			}
			got, move := plan.Next(s, c.in)
			if (end{got.Phase, got.Step, move}) != want {
				t.Errorf("%s, %s: %s at step %d and %q, want %+v", name, c.name, got.Phase, got.Step, move, want)
			}
			if move != Stay && got.Since != c.in.Now {
				t.Errorf("%s, %s: it begins at %v", name, c.name, got.Since)
			}
		}
	}
}

// TestPauseStopsTheClock: a step holds as long as it should, without its pauses.
func TestPauseStopsTheClock(t *testing.T) {
	s := State{Phase: Progressing, Since: begun}
	s, _ = plan.Next(s, Input{Now: begun.Add(4 * time.Minute), Command: Pause, By: "ann", Reason: "lunch"})
	if s.Why != "paused by ann: lunch" {
		t.Errorf("why: %q", s.Why)
	}
	s, _ = plan.Next(s, Input{Now: begun.Add(time.Hour), Verdict: Pass})
	s, _ = plan.Next(s, Input{Now: begun.Add(time.Hour), Command: Resume})
	if got, move := plan.Next(s, Input{Now: begun.Add(time.Hour + 59*time.Second), Verdict: Pass}); move != Stay {
		t.Errorf("it went to %+v a second too early", got)
	}
	if got, move := plan.Next(s, Input{Now: begun.Add(time.Hour + time.Minute), Verdict: Pass}); move != Advance {
		t.Errorf("it stayed at %+v", got)
	}
}

func TestWhatInconclusiveComesTo(t *testing.T) {
	for how, want := range map[string]struct {
		phase Phase
		move  Move
	}{
		InconclusiveHold: {Paused, Stay}, InconclusiveAbort: {Aborted, Retreat}, InconclusivePromote: {Progressing, Advance},
	} {
		p := plan
		p.Inconclusive = how
		got, move := p.Next(State{Phase: Progressing, Since: begun}, Input{Now: begun.Add(15 * time.Minute), Because: "few requests"})
		if got.Phase != want.phase || move != want.move {
			t.Errorf("%s: %s and %q", how, got.Phase, move)
		}
		p.MaxWait = 0
		if _, move := p.Next(State{Phase: Progressing, Since: begun}, Input{Now: begun.Add(1000 * time.Hour)}); move != Stay {
			t.Errorf("%s: it does not wait without a limit: %q", how, move)
		}
	}
}

func TestWithoutAnalysisTheHoldDecides(t *testing.T) {
	p := plan
	p.Judged = false
	if _, move := p.Next(State{Phase: Progressing, Since: begun}, Input{Now: begun.Add(5 * time.Minute)}); move != Advance {
		t.Errorf("it stays: %q", move)
	}
}

func TestTrip(t *testing.T) {
	w := Tripwire{Errors: 0.2, Requests: 20, Window: 10 * time.Second}
	at := func(s int) time.Time { return begun.Add(time.Duration(s) * time.Second) }
	var trip Trip
	for _, c := range []struct {
		second           int
		requests, errors uint64
		trips            bool
	}{
		{0, 0, 0, false},
		{1, 19, 19, false}, // too few
		{2, 500, 99, false},
		{12, 1000, 99, false}, // the first errors are beyond the window
		{13, 1020, 110, false},
		{22, 1040, 113, true}, // 14 of 40
		{23, 5, 5, false},     // begun anew
		{24, 25, 5, true},     // 5 of 25
	} {
		if why := trip.Look(at(c.second), Counts{Requests: c.requests, Errors: c.errors}, w); (why != "") != c.trips {
			t.Errorf("second %d: %q", c.second, why)
		}
	}
}
