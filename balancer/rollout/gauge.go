package rollout

// Gauge is a figure from elsewhere that has to stay within a bound. It is no test: that it is beyond the bound fails,
// whatever chance has to do with it, so that it takes no share of an analysis' alpha. It is data, and survives a restart.
type Gauge struct {
	// InARow is how many looks in a row have to find it beyond the bound before that fails, at least 1.
	InARow int `json:"in_a_row"`
	// Beyond is how many have, lately.
	Beyond int   `json:"beyond,omitempty"`
	Check  Check `json:"check"` // what it has come to
}

// NewGauge has not been looked at.
func NewGauge(name string, inARow int) Gauge {
	return Gauge{InARow: inARow, Check: Check{Name: name, Verdict: Inconclusive, Why: "not looked at yet"}}
}

// Reading is what one look at a figure found.
type Reading struct {
	Value  *float64 // nil: there is none, or it is no number
	Known  bool     // false: there is no data, and Why says why
	Beyond bool     // the bound
	Why    string   // a sentence for people
}

// Look takes a reading in. One without data says nothing: it neither counts as beyond nor ends a row, and what
// passed before does not pass any more.
func (g Gauge) Look(r Reading) Gauge {
	c := Check{Name: g.Check.Name, Verdict: Inconclusive, Value: r.Value, Why: r.Why}
	switch {
	case !r.Known:
	case !r.Beyond:
		g.Beyond, c.Verdict = 0, Pass
	default:
		if g.Beyond++; g.Beyond >= g.InARow {
			c.Verdict = Fail
		}
	}
	g.Check = c
	return g
}

// Anew is the gauge without what it has seen.
func (g Gauge) Anew() Gauge { return NewGauge(g.Check.Name, g.InARow) }

// With is the analysis with gauges beside its own checks: one that fails fails it, and it passes where all do.
func (a Analysis) With(gauges []Gauge) Analysis {
	if len(gauges) == 0 {
		return a
	}
	checks := append([]Check(nil), a.Checks...)
	for _, g := range gauges {
		checks = append(checks, g.Check)
		switch v := g.Check.Verdict; {
		case v == Fail && a.Verdict != Fail, v == Inconclusive && a.Verdict == Pass:
			a.Verdict, a.Why = v, g.Check.Name+": "+g.Check.Why
		}
	}
	a.Checks = checks
	return a
}
