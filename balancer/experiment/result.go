package experiment

import (
	"fmt"
	"math"
	"strings"
	"time"

	"weir/internal/stats"
)

const (
	// enough is how many units of each arm an interval needs: it rests on the means being nearly normal.
	enough = 100
	// mismatchAlpha is the probability with which units that go where they should are ever reported not to.
	mismatchAlpha = 0.001
)

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
	Switched  uint64            `json:"switched"`  // units that met another arm later: they count no more from there on
	Forgotten uint64            `json:"forgotten"` // units beyond those that are remembered: they would count once more
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
	epochs, forgotten := l.all()
	p := l.plan
	r := Result{Began: l.began, Control: p.Arms[p.Control], Alpha: p.Alpha, Switched: l.switched.Load(), Forgotten: forgotten, Excluded: map[string]uint64{}}
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
			arm.Outcomes = append(arm.Outcomes, p.outcome(epochs, a, o))
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

// spread is the variance of a unit's values within epochs.
func (p *Plan) spread(epochs []epoch, arms []int, outcome int) float64 {
	var within, n float64
	yesOrNo := true
	for i := range epochs {
		for _, a := range arms {
			v := &epochs[i].Arms[a].Outcomes[outcome]
			if v.N > 0 {
				within += max(0, v.S2-v.S*v.S/float64(v.N))
				n += float64(v.N) - 1
				yesOrNo = yesOrNo && v.S2 >= 0 && v.S2 <= v.S && v.S <= float64(v.N)
			}
		}
	}
	if yesOrNo {
		// One 0 and one 1, so that an arm without a failure does not count as one that cannot fail.
		within += 0.5
		n += 2
	}
	if n <= 0 {
		return 0
	}
	return within / n
}

// difference is an arm's outcome less the control's: an estimate with its variance. base is the control's mean where they
// are compared.
type difference struct{ effect, variance, tightest, base float64 }

// compare compares an arm with the control, epoch by epoch, each with the weight of the units that it compares. ok is
// false while too little is known.
func (p *Plan) compare(epochs []epoch, arm, outcome int) (d difference, ok bool) {
	everywhere := make([]int, len(p.Arms))
	for a := range everywhere {
		everywhere[a] = a
	}
	all := p.spread(epochs, everywhere, outcome)
	spread := func(a int, n float64) float64 { // never nothing because no unit of a small arm differed yet
		return (p.spread(epochs, []int{a}, outcome)*n + all) / (n + 1)
	}
	var total, units, others float64
	for i := range epochs {
		x, c := &epochs[i].Arms[arm].Outcomes[outcome], &epochs[i].Arms[p.Control].Outcomes[outcome]
		units, others = units+float64(x.N), others+float64(c.N)
	}
	mine, theirs := spread(arm, units), spread(p.Control, others)
	for i := range epochs {
		x, c := &epochs[i].Arms[arm].Outcomes[outcome], &epochs[i].Arms[p.Control].Outcomes[outcome]
		if x.N == 0 || c.N == 0 {
			continue
		}
		n, m := float64(x.N), float64(c.N)
		w := n * m / (n + m)
		total += w
		d.effect += w * (x.S/n - c.S/m)
		d.base += w * c.S / m
		d.variance += w * w * (mine/n + theirs/m)
	}
	if units < enough || others < enough || total == 0 {
		return d, false
	}
	d.effect /= total
	d.base /= total
	d.variance /= total * total
	d.tightest = (mine + theirs) / float64(max(p.Expect, enough))
	return d, true
}

func (p *Plan) outcome(epochs []epoch, arm, outcome int) OutcomeResult {
	r := OutcomeResult{Name: p.Outcomes[outcome].Name, Decrease: p.Outcomes[outcome].Decrease}
	s := 0.0
	for i := range epochs {
		v := &epochs[i].Arms[arm].Outcomes[outcome]
		r.Units += v.N
		s += v.S
	}
	if r.Units > 0 {
		mean := s / float64(r.Units)
		r.Mean = &mean
	}
	if arm == p.Control {
		return r
	}
	d, ok := p.compare(epochs, arm, outcome)
	if !ok {
		return r
	}
	intervals := float64((len(p.Arms) - 1) * len(p.Outcomes))
	radius := 0.0 // of values that are all the same
	if d.variance > 0 {
		radius = stats.Radius(d.variance, d.tightest, p.Alpha/intervals)
	}
	low, high := d.effect-radius, d.effect+radius
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

// sentence says what the primary outcome has come to.
func (p *Plan) sentence(r *Result) string {
	var said []string
	decided := 0
	for a := range r.Arms {
		if a == p.Control {
			continue
		}
		arm, o := &r.Arms[a], &r.Arms[a].Outcomes[0]
		primary := &p.Outcomes[0]
		switch {
		case o.Effect == nil:
			said = append(said, fmt.Sprintf("it is too early to compare %s with %s: that takes %d units of each, and they have %d and %d",
				arm.Name, r.Control, enough, arm.Units, r.Arms[p.Control].Units))
		case o.Better || o.Worse:
			decided++
			word := "worse"
			if o.Better {
				word = "better"
			}
			direction := "higher"
			if *o.Effect < 0 {
				direction = "lower"
			}
			low, high := math.Abs(*o.Low), math.Abs(*o.High)
			said = append(said, fmt.Sprintf("%s is %s than %s: %s is %s %s (%s to %s)", arm.Name, word, r.Control, o.Name,
				primary.amount(math.Abs(*o.Effect)), direction, primary.number(min(low, high)), primary.amount(max(low, high))))
		default:
			said = append(said, fmt.Sprintf("no difference between %s and %s is shown yet: that of %s is between %s and %s",
				arm.Name, r.Control, o.Name, signed(*o.Low, primary.number), signed(*o.High, primary.amount)))
		}
	}
	text := strings.Join(said, "; ")
	if decided > 0 && decided == len(said) {
		text += "; it is safe to stop now"
	}
	if r.Mismatch {
		return "do not trust these figures, units do not go to the arms by their weights; beside that " + text
	}
	return text
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
