package rollout

import (
	"strings"
	"testing"
)

func TestGauge(t *testing.T) {
	in, beyond, nothing := Reading{Known: true, Why: "0.1"}, Reading{Known: true, Beyond: true, Why: "0.9"}, Reading{Why: "no data"}
	for _, c := range []struct {
		name string
		row  int
		say  []Reading
		want Verdict
	}{
		{"not looked at", 2, nil, Inconclusive},
		{"within", 2, []Reading{in}, Pass},
		{"once beyond", 2, []Reading{in, beyond}, Inconclusive},
		{"beyond and back", 2, []Reading{beyond, in}, Pass},
		{"twice, not in a row", 2, []Reading{beyond, in, beyond}, Inconclusive},
		{"twice", 2, []Reading{in, beyond, beyond}, Fail},
		{"at once", 1, []Reading{beyond}, Fail},
		{"data is gone", 2, []Reading{in, nothing}, Inconclusive},
		{"a gap does not end the row", 2, []Reading{beyond, nothing, beyond}, Fail},
		{"never any data", 1, []Reading{nothing, nothing, nothing}, Inconclusive},
	} {
		g := NewGauge("x", c.row)
		for _, r := range c.say {
			g = g.Look(r)
		}
		if g.Check.Verdict != c.want || g.Check.Name != "x" || g.Check.Why == "" {
			t.Errorf("%s: %+v, want %s", c.name, g, c.want)
		}
		if again := g.Anew(); again.Beyond != 0 || again.Check.Verdict != Inconclusive {
			t.Errorf("%s, anew: %+v", c.name, again)
		}
	}
}

// TestAnalysisWithGauges is the table of both verdicts.
func TestAnalysisWithGauges(t *testing.T) {
	for _, own := range []Verdict{Pass, Inconclusive, Fail} {
		for _, gauge := range []Verdict{Pass, Inconclusive, Fail} {
			want, why := own, "own"
			if gauge == Fail && own != Fail || gauge == Inconclusive && own == Pass {
				want, why = gauge, "g: gauge"
			}
			a := Analysis{Verdict: own, Why: "own", Checks: []Check{{Name: "latency"}}}
			got := a.With([]Gauge{{Check: Check{Name: "f", Verdict: Pass}}, {Check: Check{Name: "g", Verdict: gauge, Why: "gauge"}}})
			if got.Verdict != want || got.Why != why || len(got.Checks) != 3 || len(a.Checks) != 1 {
				t.Errorf("%s and %s: %+v", own, gauge, got)
			}
		}
	}
	a := Analysis{Verdict: Pass}.With([]Gauge{{Check: Check{Name: "f", Verdict: Fail, Why: "first"}}, {Check: Check{Name: "g", Verdict: Fail, Why: "second"}}})
	if !strings.Contains(a.Why, "first") {
		t.Errorf("why: %s", a.Why)
	}
}
