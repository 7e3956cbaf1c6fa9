// Package rollout moves a route from one version to another in steps, and judges each by what requests met at both.
//
// Everything here decides and nothing acts: Plan.Next is a pure function of where a rollout is, what was found, and the
// time; Judge one of what was counted. Who counts, sets weights and remembers is proxy/control.
package rollout

import (
	"fmt"
	"time"
)

// Phase is where a rollout is.
type Phase string

const (
	// Preparing: the new version gets no traffic yet; it is warmed up and checked.
	Preparing Phase = "preparing"
	// Progressing: a step holds, or waits for its analysis.
	Progressing Phase = "progressing"
	// Paused: somebody, or an analysis that stayed inconclusive, holds it where it is. It is still judged.
	Paused Phase = "paused"
	// Succeeded and Aborted are ends.
	Succeeded Phase = "succeeded"
	Aborted   Phase = "aborted"
)

// Ended reports whether nothing more happens.
func (p Phase) Ended() bool { return p == Succeeded || p == Aborted }

// Verdict is what an analysis finds.
type Verdict string

const (
	Inconclusive Verdict = "inconclusive"
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
)

// What an analysis that stays inconclusive for longer than MaxWait beyond a step's hold comes to.
const (
	InconclusiveHold    = "hold" // paused, for somebody to decide
	InconclusiveAbort   = "abort"
	InconclusivePromote = "promote"
)

// Step is a part of the route's traffic for the new version, and how long it gets that at least.
type Step struct {
	Weight float64       `json:"weight"` // percent of the route
	Hold   time.Duration `json:"hold_ns"`
}

// Plan is how a rollout proceeds.
type Plan struct {
	Steps []Step `json:"steps"` // at least one; the last is of weight 100, but with Auto
	// Inconclusive is one of the three above. It comes after MaxWait; 0: never.
	Inconclusive string        `json:"inconclusive"`
	MaxWait      time.Duration `json:"max_wait_ns,omitempty"`
	// Auto is nil where a version that fails is given up.
	Auto *Auto `json:"auto,omitempty"`
	// Judged is false where nothing is analysed: a step is over with its hold.
	Judged bool `json:"judged"`
}

// State is where a rollout is. It is data, and survives a restart.
type State struct {
	Phase Phase `json:"phase"`
	// Step is an index into Plan.Steps, Unstarted before the first.
	Step int `json:"step"`
	// Since is when the phase or the step began, later by the time for which it was paused.
	Since time.Time `json:"since"`
	// PausedAt is when the pause began; zero without one.
	PausedAt time.Time `json:"paused_at,omitzero"`
	// Why says what brought it there, as a sentence for people.
	Why string `json:"why,omitempty"`
}

// Command is what somebody asks of a rollout.
type Command string

const (
	None    Command = ""
	Pause   Command = "pause"
	Resume  Command = "resume"
	Promote Command = "promote" // to the next step
	Abort   Command = "abort"
)

// Input is what is known when the next state is asked for.
type Input struct {
	Now time.Time
	// Ready: the checks before traffic have passed. Refused says why they never will; "": they may.
	Ready   bool
	Refused string
	Verdict Verdict // "" is Inconclusive
	Because string  // of the verdict, for people
	// Tripped says which disaster happened, if any. It acts whatever the verdict.
	Tripped string
	Command Command
	By      string // who gave the command
	Reason  string // in their words
}

// Move is what a change of state asks for.
type Move string

const (
	Stay    Move = ""        // nothing
	Advance Move = "advance" // the weights of the (new) step
	Finish  Move = "finish"  // all to the new version
	Retreat Move = "retreat" // nothing to the new version
	Back    Move = "back"    // the weights of a step before, with evidence anew
	Renew   Move = "renew"   // evidence anew, at the same weights
)

// Next returns the state after in, and what it asks for. An ended rollout stays as it is.
//
// A rollout that ends before its first step leaves the weights alone. In the order of their urgency: a disaster, an order
// to abort, a failed analysis, other orders, the time. A pause stops the clock of its step, not the judgement: a version
// that fails is taken back all the same.
func (p *Plan) Next(s State, in Input) (State, Move) {
	switch {
	case s.Phase.Ended():
		return s, Stay
	case in.Tripped != "" && s.Step != Unstarted:
		return s.end(Aborted, in.Now, in.Tripped), Retreat
	case in.Command == Abort:
		return s.end(Aborted, in.Now, said("aborted", in)), s.retreat()
	case in.Verdict == Fail && s.Step != Unstarted:
		return p.fail(s, in)
	case in.Command == Promote:
		return p.advance(s, in.Now, said("promoted", in))
	case in.Command == Pause && s.Phase != Paused:
		return s.pause(in.Now, said("paused", in)), Stay
	case in.Command == Resume && s.Phase == Paused:
		return s.resume(in.Now, said("resumed", in)), p.chance(s)
	}
	switch s.Phase {
	case Preparing:
		if in.Refused != "" {
			return s.end(Aborted, in.Now, in.Refused), Stay
		}
		if in.Ready {
			return p.enter(s, p.first(), in.Now, "the new version is ready")
		}
	case Progressing:
		return p.progress(s, in)
	}
	return s, Stay
}

// progress is what becomes of a step as time goes by.
//
// A step that has nothing to compare, of weight 100 or 0, passes on what was found before it and its hold.
func (p *Plan) progress(s State, in Input) (State, Move) {
	over, weight := in.Now.Sub(s.Since)-p.Steps[s.Step].Hold, p.Steps[s.Step].Weight
	passed, why := in.Verdict == Pass, in.Because
	if !passed && (!p.Judged || weight >= 100 || weight <= 0) {
		passed, why = true, "its hold is over"
	}
	switch {
	case over < 0:
		return s, Stay
	case passed && p.Auto != nil && p.Auto.Keep && s.Step == len(p.Steps)-1:
		return s.kept(in.Now)
	case passed:
		return p.advance(s, in.Now, why)
	case p.MaxWait == 0 || over < p.MaxWait:
		return s, Stay
	}
	waited := fmt.Sprintf("the analysis was inconclusive for %v beyond the hold: %s", p.MaxWait, in.Because)
	switch p.Inconclusive {
	case InconclusiveAbort:
		return s.end(Aborted, in.Now, waited), Retreat
	case InconclusivePromote:
		return p.advance(s, in.Now, waited)
	}
	return s.pause(in.Now, waited), Stay
}

// advance goes to the step after s's, or to the end.
func (p *Plan) advance(s State, now time.Time, why string) (State, Move) {
	if s.Step == Unstarted {
		return p.enter(s, p.first(), now, why)
	}
	return p.enter(s, s.Step+1, now, why)
}

func (p *Plan) enter(s State, step int, now time.Time, why string) (State, Move) {
	if step >= len(p.Steps) {
		return s.end(Succeeded, now, why), Finish
	}
	return State{Phase: Progressing, Step: step, Since: now, Why: why}, Advance
}

func (s State) end(phase Phase, now time.Time, why string) State {
	return State{Phase: phase, Step: s.Step, Since: now, Why: why}
}

// retreat is what has to be given back.
func (s State) retreat() Move {
	if s.Step == Unstarted {
		return Stay
	}
	return Retreat
}

func (s State) pause(now time.Time, why string) State {
	s.Phase, s.PausedAt, s.Why = Paused, now, why
	return s
}

// Unstarted is the Step of a rollout before its first.
const Unstarted = -1

// Begin is the state of a rollout that begins.
func Begin(now time.Time) State { return State{Phase: Preparing, Step: Unstarted, Since: now} }

// resume goes on where s was paused. The checks before traffic, too, are then made again.
func (s State) resume(now time.Time, why string) State {
	s.Since, s.PausedAt, s.Why = s.Since.Add(now.Sub(s.PausedAt)), time.Time{}, why
	s.Phase = Progressing
	if s.Step == Unstarted {
		s.Phase, s.Since = Preparing, now
	}
	return s
}

// said is what somebody did, with their reason.
func said(what string, in Input) string {
	if in.By != "" {
		what += " by " + in.By
	}
	if in.Reason != "" {
		what += ": " + in.Reason
	}
	return what
}
