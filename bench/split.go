package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// MinSplitP is the probability below which a split deviates from its weights: one run in a
// thousand of a perfect split does.
const MinSplitP = 0.001

// Verdicts of a [Split].
const (
	SplitPasses   = "pass"
	SplitDeviates = "deviates"
	SplitUnknown  = "unknown" // too little was observed, or the weights changed
)

// Split compares what variants got with what they should get, by Pearson's chi-square test.
type Split struct {
	// Of is what was counted: "users", who stay with a variant, so their requests are not
	// independent of each other, or "requests".
	Of       string             `json:"of"`
	Weights  map[string]float64 `json:"weights"`
	Observed map[string]uint64  `json:"observed"`
	// P is the probability of counts at least as far off by chance; null when not tested.
	P       *float64 `json:"p"`
	Verdict string   `json:"verdict"`       // pass, deviates or unknown
	Why     string   `json:"why,omitempty"` // of a verdict that P does not explain
}

// CheckSplit compares counts of independent things with weights.
func CheckSplit(of string, observed map[string]uint64, weights map[string]float64) *Split {
	s := &Split{Of: of, Weights: weights, Observed: observed, Verdict: SplitUnknown}
	var seen uint64
	for name, n := range observed {
		if seen += n; n > 0 && weights[name] == 0 {
			s.Verdict, s.Why = SplitDeviates, fmt.Sprintf("%s has weight 0 and got %d", name, n)
			return s
		}
	}
	// The test's distribution holds for counts of about five and more.
	if fewest := s.fewest(seen); fewest < 5 {
		s.Why = fmt.Sprintf("too few %s: by the weights one variant should get %.1f of %d, at least 5 are needed", of, fewest, seen)
		return s
	}
	names := slices.Sorted(maps.Keys(weights))
	counts, expected := make([]uint64, len(names)), make([]float64, len(names))
	for i, name := range names {
		counts[i], expected[i] = observed[name], weights[name]
	}
	p, err := ChiSquare(counts, expected)
	if err != nil {
		s.Why = err.Error()
		return s
	}
	s.P, s.Verdict = &p, SplitPasses
	if p < MinSplitP {
		s.Verdict = SplitDeviates
	}
	return s
}

// fewest is what the variant of the least weight above 0 should get.
func (s *Split) fewest(seen uint64) float64 {
	sum, least := 0.0, 0.0
	for _, w := range s.Weights {
		sum += w
		if w > 0 && (least == 0 || w < least) {
			least = w
		}
	}
	if sum == 0 {
		return 0
	}
	return float64(seen) * least / sum
}

// Shares returns a variant's observed share and its weight's, both of 1.
func (s *Split) Shares(variant string) (observed, expected float64) {
	var seen uint64
	for _, n := range s.Observed {
		seen += n
	}
	sum := 0.0
	for _, w := range s.Weights {
		sum += w
	}
	if sum > 0 {
		expected = s.Weights[variant] / sum
	}
	return ratio(s.Observed[variant], seen), expected
}

// Variants are the names of those that were observed or have a weight, in order.
func (s *Split) Variants() []string {
	all := map[string]bool{}
	for name := range s.Weights {
		all[name] = true
	}
	for name := range s.Observed {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// String says the verdict in a sentence.
func (s *Split) String() string {
	var parts []string
	for _, name := range s.Variants() {
		observed, expected := s.Shares(name)
		parts = append(parts, fmt.Sprintf("%s %.2f%% (weight %.2f%%)", name, 100*observed, 100*expected))
	}
	shares := fmt.Sprintf("%s of %s", strings.Join(parts, ", "), s.Of)
	switch {
	case s.Verdict == SplitPasses:
		return fmt.Sprintf("pass, p = %.2g: %s", *s.P, shares)
	case s.Verdict == SplitDeviates && s.P != nil:
		return fmt.Sprintf("DEVIATES from the weights, p = %.2g: %s", *s.P, shares)
	case s.Verdict == SplitDeviates:
		return "DEVIATES from the weights: " + s.Why
	}
	return "not judged: " + s.Why
}

// ParseWeights parses weights as flags give them: "blue=90,green=10".
func ParseWeights(text string) (map[string]float64, error) {
	weights, sum := map[string]float64{}, 0.0
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		w, err := strconv.ParseFloat(value, 64)
		if _, twice := weights[name]; !found || err != nil || name == "" || twice || !(w >= 0 && w < 1e15) {
			return nil, fmt.Errorf("weights %q: must be VARIANT=WEIGHT,…, such as blue=90,green=10", text)
		}
		weights[name] = w
		sum += w
	}
	if sum == 0 {
		return nil, fmt.Errorf("weights %q: at least one must be above 0", text)
	}
	return weights, nil
}
