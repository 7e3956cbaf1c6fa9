package experiment

import (
	"fmt"
	"math"
	"strings"
	"time"

	"weir/internal/stats"
)

// mismatchAlpha is the probability with which units that go where they should are ever reported not to.
const mismatchAlpha = 0.001

// Result is what an experiment has come to.
type Result struct {
	Route    string      `json:"route"`
	Sentence string      `json:"sentence"` // for people: what the primary outcome says, and whether to believe it
	Began    time.Time   `json:"began"`
	Control  string      `json:"control"`
	Alpha    float64     `json:"alpha"`
	Arms     []ArmResult `json:"arms"`
	// Mismatch: more or fewer units met an arm than its weight says, beyond chance (sample ratio mismatch).
	Mismatch bool    `json:"sample_ratio_mismatch"`
	Evidence float64 `json:"sample_ratio_evidence"` // an e-value: from 1000 on it is a mismatch
	Epochs   int     `json:"epochs"`                // times of other weights in which units were met first
	// Excluded are requests that are in no comparison, by their reason.
	Excluded  map[string]uint64 `json:"excluded"`
	Switched  uint64            `json:"switched"`  // units that met another arm later: in each epoch they count for the one that they have there
	Forgotten uint64            `json:"forgotten"` // units beyond those that are remembered: once they come again, they count on, but what is told of them later does not
}

// ArmResult is what an arm has come to.
type ArmResult struct {
	Name     string          `json:"name"`
	Weight   float64         `json:"weight"` // percent
	Units    uint64          `json:"units"`
	Requests uint64          `json:"requests"`
	Outcomes []OutcomeResult `json:"outcomes"`
}

// OutcomeResult is an outcome of an arm: the mean over its units, and how much more that is than at the control. Epochs
// are compared one by one, so that weights which change, while the rate of everything does, too, pretend no effect.
type OutcomeResult struct {
	Name  string   `json:"name"`
	Units uint64   `json:"units"` // that have a value
	Mean  *float64 `json:"mean"`  // nil without any
	// Effect, and the interval in which the true one is at every look with the probability 1 - alpha, that of all
	// intervals together; nil at the control, and while it is not known.
	Effect   *float64 `json:"effect"`
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`
	Relative *float64 `json:"relative"` // effect, as a part of the control's mean
	// Better and Worse: the interval says so.
	Better bool `json:"better"`
	Worse  bool `json:"worse"`
	// Decrease: less is better.
	Decrease bool `json:"decrease"`
}

// Result works out what the experiment has come to.
func (l *Ledger) Result() Result {
	all := l.snapshot()
	epochs := all.epochs
	p := l.plan
	r := Result{
		Began: l.began, Control: p.Arms[p.Control], Alpha: p.Alpha,
		Switched: l.switched.Load(), Forgotten: all.forgotten, Excluded: map[string]uint64{},
	}
	for _, why := range Reasons() {
		if n := l.Excluded(why); n > 0 {
			r.Excluded[why.String()] = n
		}
	}
	e := stats.LogEvidenceMismatch(assigned(epochs))
	r.Evidence = math.Exp(min(e, 700))
	r.Mismatch = e >= math.Log(1/mismatchAlpha)
	now := epochs[len(epochs)-1].Weights
	sum := 0.0
	for _, w := range now {
		sum += w
	}
	for _, e := range epochs {
		for a := range e.Arms {
			if e.Arms[a].Units > 0 {
				r.Epochs++
				break
			}
		}
	}
	for a, name := range p.Arms {
		arm := ArmResult{Name: name}
		if sum > 0 {
			arm.Weight = 100 * now[a] / sum
		}
		for i := range epochs {
			arm.Units += epochs[i].Arms[a].Units
			arm.Requests += epochs[i].Arms[a].Requests
		}
		for o := range p.Outcomes {
			arm.Outcomes = append(arm.Outcomes, l.outcome(all, a, o))
		}
		r.Arms = append(r.Arms, arm)
	}
	r.Sentence = p.sentence(&r)
	return r
}

// assigned are the units that met an arm first in each epoch, of the arms that had a weight there.
func assigned(epochs []epoch) []stats.Assigned {
	var all []stats.Assigned
	for _, e := range epochs {
		var s stats.Assigned
		for a, w := range e.Weights {
			if w > 0 {
				s.Weights, s.Subjects = append(s.Weights, w), append(s.Subjects, e.Arms[a].Units)
			}
		}
		if len(s.Weights) > 1 {
			all = append(all, s)
		}
	}
	return all
}

func (l *Ledger) outcome(s *snapshot, arm, outcome int) OutcomeResult {
	p := l.plan
	r := OutcomeResult{Name: p.Outcomes[outcome].Name, Decrease: p.Outcomes[outcome].Decrease}
	var n, sum float64
	for i := range s.epochs {
		v := &s.epochs[i].Arms[arm].Outcomes[outcome]
		r.Units += v.First
		n += float64(v.N)
		sum += v.S
	}
	if n > 0 {
		mean := sum / n
		r.Mean = &mean
	}
	if arm == p.Control {
		return r
	}
	intervals := float64((len(p.Arms) - 1) * len(p.Outcomes))
	d, low, high, ok := l.interval(s, arm, outcome, p.Alpha/intervals)
	if !ok {
		return r
	}
	r.Effect, r.Low, r.High = &d.effect, &low, &high
	if d.base != 0 {
		relative := d.effect / math.Abs(d.base)
		r.Relative = &relative
	}
	more, less := low > 0, high < 0
	if p.Outcomes[outcome].Decrease {
		more, less = less, more
	}
	r.Better, r.Worse = more, less
	return r
}

// sentence says what the primary outcome has come to, and where an arm is worse by another one.
func (p *Plan) sentence(r *Result) string {
	var said []string
	decided, others := 0, 0
	for a := range r.Arms {
		if a == p.Control {
			continue
		}
		others++
		arm, o := &r.Arms[a], &r.Arms[a].Outcomes[0]
		primary := &p.Outcomes[0]
		switch {
		case o.Effect == nil:
			said = append(said, fmt.Sprintf("it is too early to compare %s with %s: that takes %d units of each, and they have %d and %d",
				arm.Name, r.Control, enough, o.Units, r.Arms[p.Control].Outcomes[0].Units))
		case o.Better || o.Worse:
			decided++
			word := "worse"
			if o.Better {
				word = "better"
			}
			said = append(said, fmt.Sprintf("%s is %s than %s: %s", arm.Name, word, r.Control, primary.difference(o)))
		default:
			said = append(said, fmt.Sprintf("no difference between %s and %s is shown yet: that of %s is between %s and %s",
				arm.Name, r.Control, o.Name, signed(*o.Low, primary.number), signed(*o.High, primary.amount)))
		}
		for i := 1; i < len(arm.Outcomes); i++ {
			if arm.Outcomes[i].Worse {
				said = append(said, fmt.Sprintf("but %s is worse by another outcome: %s", arm.Name, p.Outcomes[i].difference(&arm.Outcomes[i])))
			}
		}
	}
	text := strings.Join(said, "; ")
	switch {
	case r.Mismatch:
		return "do not trust these figures, units do not go to the arms by their weights; beside that " + text
	case decided > 0 && decided == others:
		text += "; it is safe to stop now"
	}
	return text
}

// difference says how much higher or lower an outcome is for certain.
func (o *Outcome) difference(r *OutcomeResult) string {
	direction := "higher"
	if *r.Effect < 0 {
		direction = "lower"
	}
	low, high := math.Abs(*r.Low), math.Abs(*r.High)
	return fmt.Sprintf("%s is %s %s (%s to %s)", r.Name, o.amount(math.Abs(*r.Effect)), direction, o.number(min(low, high)), o.amount(max(low, high)))
}

// number is a value as people say it, without its unit: percentage points, milliseconds, or the plain number.
func (o *Outcome) number(v float64) string {
	switch o.Source {
	case FromStatus:
		return short(100 * v)
	case FromLatency:
		return short(1000 * v)
	}
	return short(v)
}

// amount is number with its unit.
func (o *Outcome) amount(v float64) string {
	switch o.Source {
	case FromStatus:
		return o.number(v) + " points"
	case FromLatency:
		return o.number(v) + " ms"
	}
	return o.number(v)
}

func short(v float64) string { return fmt.Sprintf("%.3g", v) }

func signed(v float64, text func(float64) string) string {
	switch {
	case v < 0:
		return "−" + text(-v)
	case v > 0:
		return "+" + text(v)
	}
	return text(0)
}
