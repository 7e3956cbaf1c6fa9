package rollout

import (
	"fmt"
	"testing"
	"time"
)

// autoPlan goes from 0 to 30 in tens; those of tests differ in what comes of a version that fails at the floor.
func autoPlan(hold, keep bool) Plan {
	return Plan{
		Steps:        []Step{{0, time.Minute}, {10, time.Minute}, {20, time.Minute}, {30, time.Minute}},
		Inconclusive: InconclusiveHold, MaxWait: 10 * time.Minute, Judged: true, Auto: &Auto{Floor: 1, Hold: hold, Keep: keep},
	}
}

// TestNextAuto is the table of every state against everything that can be known, of the strategy auto.
func TestNextAuto(t *testing.T) {
	minute := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Minute) }
	states := map[string]State{
		"preparing":        Begin(begun),
		"zero":             {Phase: Progressing, Step: 0, Since: begun},
		"floor":            {Phase: Progressing, Step: 1, Since: begun},
		"middle":           {Phase: Progressing, Step: 2, Since: begun},
		"last":             {Phase: Progressing, Step: 3, Since: begun},
		"paused zero":      {Phase: Paused, Step: 0, Since: begun, PausedAt: begun},
		"paused floor":     {Phase: Paused, Step: 1, Since: begun, PausedAt: begun},
		"paused last":      {Phase: Paused, Step: 3, Since: begun, PausedAt: begun},
		"paused preparing": {Phase: Paused, Step: Unstarted, Since: begun, PausedAt: begun},
		"succeeded":        {Phase: Succeeded, Step: 3, Since: begun},
		"aborted":          {Phase: Aborted, Step: 1, Since: begun},
	}
	type end struct {
		phase Phase
		step  int
		move  Move
	}
	aborts := map[string]end{}
	for name, s := range states {
		switch {
		case s.Phase.Ended():
		case s.Step == Unstarted:
			aborts[name] = end{Aborted, Unstarted, Stay}
		default:
			aborts[name] = end{Aborted, s.Step, Retreat}
		}
	}
	disasters := map[string]end{}
	for name, e := range aborts {
		if e.step != Unstarted {
			disasters[name] = e
		}
	}
	// What is the same for all four plans.
	down := map[string]end{"middle": {Progressing, 1, Back}, "last": {Progressing, 2, Back}, "paused last": {Paused, 2, Back}}
	gone := map[string]end{"zero": {Aborted, 0, Retreat}, "floor": {Aborted, 1, Retreat}, "paused zero": {Aborted, 0, Retreat}, "paused floor": {Aborted, 1, Retreat}}
	held := map[string]end{"zero": {Paused, 0, Back}, "floor": {Paused, 0, Back}, "paused zero": {Paused, 0, Renew}, "paused floor": {Paused, 0, Back}}
	up := map[string]end{"zero": {Progressing, 1, Advance}, "floor": {Progressing, 2, Advance}, "middle": {Progressing, 3, Advance}}
	for _, hold := range []bool{false, true} {
		for _, keep := range []bool{false, true} {
			p := autoPlan(hold, keep)
			floor := gone
			if hold {
				floor = held
			}
			last, promoted := end{Succeeded, 3, Finish}, end{Succeeded, 3, Finish}
			if keep {
				last = end{Progressing, 3, Renew}
			}
			with := func(all ...map[string]end) map[string]end {
				m := map[string]end{}
				for _, one := range all {
					for name, e := range one {
						m[name] = e
					}
				}
				return m
			}
			for _, c := range []struct {
				name string
				in   Input
				want map[string]end // the rest stays
			}{
				{"nothing", Input{Now: minute(0)}, nil},
				{"ready", Input{Now: minute(1), Ready: true}, map[string]end{"preparing": {Progressing, 1, Advance}, "zero": {Progressing, 1, Advance}}},
				{"refused", Input{Now: minute(0), Refused: "x"}, map[string]end{"preparing": {Aborted, Unstarted, Stay}}},
				{"pass too early", Input{Now: begun.Add(30 * time.Second), Verdict: Pass}, nil},
				{"pass", Input{Now: minute(1), Verdict: Pass}, with(up, map[string]end{"last": last})},
				{"hold is over", Input{Now: minute(1), Verdict: Inconclusive}, map[string]end{"zero": {Progressing, 1, Advance}}},
				{"inconclusive for long", Input{Now: minute(11), Verdict: Inconclusive}, map[string]end{"zero": {Progressing, 1, Advance}, "floor": {Paused, 1, Stay}, "middle": {Paused, 2, Stay}, "last": {Paused, 3, Stay}}},
				{"fail", Input{Now: minute(0), Verdict: Fail}, with(down, floor)},
				{"fail after the hold", Input{Now: minute(5), Verdict: Fail}, with(down, floor)},
				{"disaster", Input{Now: minute(0), Tripped: "x", Verdict: Fail}, disasters},
				{"pause", Input{Now: minute(0), Command: Pause}, map[string]end{"preparing": {Paused, Unstarted, Stay}, "zero": {Paused, 0, Stay}, "floor": {Paused, 1, Stay}, "middle": {Paused, 2, Stay}, "last": {Paused, 3, Stay}}},
				{"resume", Input{Now: minute(0), Command: Resume}, map[string]end{"paused zero": {Progressing, 0, Renew}, "paused floor": {Progressing, 1, Stay}, "paused last": {Progressing, 3, Stay}, "paused preparing": {Preparing, Unstarted, Stay}}},
				{"promote", Input{Now: minute(0), Command: Promote}, with(up, map[string]end{"last": promoted, "preparing": {Progressing, 1, Advance}, "paused preparing": {Progressing, 1, Advance}, "paused zero": {Progressing, 1, Advance}, "paused floor": {Progressing, 2, Advance}, "paused last": promoted})},
				{"abort", Input{Now: minute(0), Command: Abort, Verdict: Fail}, aborts},
			} {
				for name, s := range states {
					want, ok := c.want[name]
					if !ok {
						want = end{s.Phase, s.Step, Stay}
					}
					got, move := p.Next(s, c.in)
					what := fmt.Sprintf("hold %v, keep %v, %s, %s", hold, keep, name, c.name)
					if (end{got.Phase, got.Step, move}) != want {
						t.Errorf("%s: %s at step %d and %q, want %+v", what, got.Phase, got.Step, move, want)
					}
					if move == Back && got.Phase == Paused && got.PausedAt != c.in.Now {
						t.Errorf("%s: it is paused since %v", what, got.PausedAt)
					}
					if (move == Back || move == Advance || move == Renew && s.Phase == Progressing) && got.Since != c.in.Now {
						t.Errorf("%s: it begins at %v", what, got.Since)
					}
				}
			}
		}
	}
}

// TestAutoWithoutZero: with a least weight, that is the first step, and what is held stays there.
func TestAutoWithoutZero(t *testing.T) {
	p := Plan{Steps: []Step{{20, time.Minute}, {60, time.Minute}}, Judged: true, Auto: &Auto{Hold: true}}
	s, move := p.Next(Begin(begun), Input{Now: begun, Ready: true})
	if s.Step != 0 || move != Advance {
		t.Errorf("it begins at %+v, %s", s, move)
	}
	s, move = p.Next(s, Input{Now: begun, Verdict: Fail})
	if s.Step != 0 || s.Phase != Paused || move != Back {
		t.Errorf("it fails at the least weight: %+v, %s", s, move)
	}
	s, _ = p.Next(s, Input{Now: begun.Add(time.Hour), Command: Resume})
	if got, move := p.Next(s, Input{Now: begun.Add(time.Hour + 59*time.Second), Verdict: Pass}); move != Stay {
		t.Errorf("after it was resumed it has a whole hold: %+v, %s", got, move)
	}
	if got, move := p.Next(s, Input{Now: begun.Add(time.Hour + time.Minute), Verdict: Pass}); got.Step != 1 || move != Advance {
		t.Errorf("it goes on: %+v, %s", got, move)
	}
}
