package rollout

import "time"

// Auto has a rollout go back a step where a version fails, instead of giving up, and up again where it passes.
type Auto struct {
	// Floor is the first step at which the new version gets requests: 0, or 1 where the first has weight 0.
	Floor int `json:"floor"`
	// Hold: a version that fails there is paused at the first step, for somebody to decide; else the rollout is aborted.
	Hold bool `json:"hold,omitempty"`
	// Keep: at the last step it goes on being judged, and never succeeds by itself.
	Keep bool `json:"keep,omitempty"`
}

// first is the step that a rollout begins with.
func (p *Plan) first() int {
	if p.Auto == nil {
		return 0
	}
	return p.Auto.Floor
}

// fail is what becomes of a version whose analysis fails at a step.
//
// A step back begins the evidence anew. The test that failed has rejected that the version is no worse, and that stays so
// however it fares later: with the same evidence it would fail at each step down, and never pass again.
func (p *Plan) fail(s State, in Input) (State, Move) {
	switch {
	case p.Auto == nil:
		return s.end(Aborted, in.Now, in.Because), Retreat
	case s.Step > p.Auto.Floor:
		return s.down(s.Step-1, in.Now, "a step back: "+in.Because), Back
	case !p.Auto.Hold:
		return s.end(Aborted, in.Now, in.Because), Retreat
	case s.Phase == Paused && s.Step == 0:
		return s, Renew // it is where it should be already
	}
	s = s.down(0, in.Now, "held at the least weight: "+in.Because)
	s.Phase, s.PausedAt = Paused, in.Now
	return s, Back
}

// down goes to a step below. What is paused stays so.
func (s State) down(step int, now time.Time, why string) State {
	s.Step, s.Since, s.Why = step, now, why
	if s.Phase == Paused {
		s.PausedAt = now
	}
	return s
}

// chance is what comes with the resumption of s. What was held at its first step gets another chance, whatever was seen
// since it failed.
func (p *Plan) chance(s State) Move {
	if p.Auto != nil && s.Step == 0 {
		return Renew
	}
	return Stay
}

// kept is what becomes of the last step when it is over, where the version goes on being judged: it begins again, with
// evidence anew, since what was good for long would hide for long that it has become bad.
func (s State) kept(now time.Time) (State, Move) {
	return State{Phase: Progressing, Step: s.Step, Since: now, Why: "it passed, and is judged anew"}, Renew
}
