package stats

import (
	"fmt"
	"math"
	"slices"
)

// DriftRule is when two distributions count as different.
type DriftRule struct {
	// Alpha bounds the share of comparisons that find a drift where there is none; each of the two
	// tests gets half of it.
	Alpha float64
	// PSI and KS are the least differences that matter, however sure they are: with many values
	// the tests find any.
	PSI, KS float64
	// Least is how many values each side must have.
	Least uint64
}

// Among is the rule for each of several comparisons that are made together, such that all of them together keep Alpha: in
// at most that share of the times any of them finds a drift where there is none. That each gets an equal part of it
// (Bonferroni) holds however the values depend on each other, as a model's features do; and whether one drifts does
// not hang on the others, as it would with Holm or Benjamini-Hochberg, so that each has a threshold that can be told. It
// costs little: with a tenth of Alpha the threshold of PSI is a quarter greater.
func (r DriftRule) Among(comparisons int) DriftRule {
	r.Alpha /= float64(max(comparisons, 1))
	return r
}

// Drift is the outcome of a comparison of two samples.
type Drift struct {
	// Reference and Current are how many values the two sides had. Enough says that this is as many as
	// the rule wants; the tests decide nothing without.
	Reference uint64 `json:"reference"`
	Current   uint64 `json:"current"`
	Enough    bool   `json:"enough"`
	// PSI is the population stability index, and drift is found above PSIThreshold.
	PSI          float64 `json:"psi"`
	PSIThreshold float64 `json:"psi_threshold"`
	// KS is the greatest distance of the cumulative distributions (Kolmogorov-Smirnov), a lower
	// bound because values are binned, and KSP the probability of one as great without a drift,
	// which is then an upper bound.
	KS  float64 `json:"ks"`
	KSP float64 `json:"ks_p"`
	// Drifted says that a difference is both sure and large enough.
	Drifted bool `json:"drifted"`
}

// CompareDistributions tests whether the values of both sides come from one distribution. It fails
// for distributions of different scales.
//
// PSI = Σ (a-e) ln(a/e) over groups of bins. The convention that calls 0.1 or 0.25 drift knows
// nothing of the sample sizes n and m: without drift, PSI is distributed as (1/n + 1/m) χ² with one
// degree of freedom less than there are groups, so that with 10 groups and 100 values 0.1 is
// exceeded nearly always, and with 10000 never. The threshold is that distribution's quantile.
// Bins are put together to at most 10 groups of about as many values of both sides, each with at
// least 5 expected on the smaller side.
//
// KS is compared by its asymptotic distribution (Stephens' form of it for two samples).
func CompareDistributions(reference, current Distribution, rule DriftRule) (Drift, error) {
	if reference.Scale != current.Scale {
		return Drift{}, fmt.Errorf("a distribution on the scale %q cannot be compared with one on %q", current.Scale, reference.Scale)
	}
	n, m := reference.Count(), current.Count()
	d := Drift{Reference: n, Current: m, KSP: 1}
	if n == 0 || m == 0 {
		return d, nil
	}
	groups := group(reference, current)
	for _, g := range groups {
		d.KS = max(d.KS, g.apart)
		// Half a value more in each keeps the logarithm finite.
		e := (float64(g.reference) + 0.5) / (float64(n) + 0.5*float64(len(groups)))
		a := (float64(g.current) + 0.5) / (float64(m) + 0.5*float64(len(groups)))
		d.PSI += (a - e) * math.Log(a/e)
	}
	perTest := rule.Alpha / 2
	d.PSIThreshold = rule.PSI
	if len(groups) > 1 {
		d.PSIThreshold = max(rule.PSI, (1/float64(n)+1/float64(m))*chiSquareQuantile(1-perTest, len(groups)-1))
	}
	d.KSP = ksTail(d.KS, float64(n)*float64(m)/(float64(n)+float64(m)))
	d.Enough = n >= rule.Least && m >= rule.Least
	d.Drifted = d.Enough && (d.PSI > d.PSIThreshold || d.KS > rule.KS && d.KSP < perTest)
	return d, nil
}

const (
	mostGroups = 10
	// leastExpected is the rule of thumb for χ² to hold.
	leastExpected = 5
)

// binGroup is neighbouring bins, counted together.
type binGroup struct {
	reference, current uint64
	apart              float64 // the greatest distance of the cumulative distributions at the end of one of its bins
}

// group puts neighbouring bins together.
func group(reference, current Distribution) []binGroup {
	n, m := float64(reference.Count()), float64(current.Count())
	least := max((n+m)/mostGroups, leastExpected*(n+m)/min(n, m))
	bins := make([]int, 0, len(reference.Counts)+len(current.Counts))
	for bin := range reference.Counts {
		bins = append(bins, bin)
	}
	for bin := range current.Counts {
		bins = append(bins, bin)
	}
	slices.Sort(bins)
	var groups []binGroup
	var g binGroup
	var below, belowCurrent uint64
	for _, bin := range slices.Compact(bins) {
		r, c := reference.Counts[bin], current.Counts[bin]
		below, belowCurrent = below+r, belowCurrent+c
		g.reference, g.current = g.reference+r, g.current+c
		g.apart = max(g.apart, math.Abs(float64(below)/n-float64(belowCurrent)/m))
		if float64(g.reference+g.current) >= least {
			groups = append(groups, g)
			g = binGroup{}
		}
	}
	switch {
	case g.reference+g.current == 0:
	case len(groups) == 0:
		groups = append(groups, g)
	default: // too few for a group of their own
		last := &groups[len(groups)-1]
		last.reference, last.current = last.reference+g.reference, last.current+g.current
		last.apart = max(last.apart, g.apart)
	}
	return groups
}

// ksTail is the probability of a distance of at least d without a drift, for the effective sample
// size n (Numerical Recipes, 14.3.3).
func ksTail(d, n float64) float64 {
	lambda := (math.Sqrt(n) + 0.12 + 0.11/math.Sqrt(n)) * d
	if lambda < 0.2 { // the series converges slowly, to 1
		return 1
	}
	p, sign := 0.0, 2.0
	for k := 1.0; k <= 100; k++ {
		term := sign * math.Exp(-2*k*k*lambda*lambda)
		p += term
		if math.Abs(term) < 1e-12 {
			break
		}
		sign = -sign
	}
	return min(max(p, 0), 1)
}

// chiSquareQuantile is the value that a χ² variable with k degrees of freedom does not exceed with
// probability p, 0 < p < 1, by bisection of its distribution function.
func chiSquareQuantile(p float64, k int) float64 {
	low, high := 0.0, float64(k)
	for gammaTail(float64(k)/2, high/2) > 1-p {
		high *= 2
	}
	for range 60 {
		middle := (low + high) / 2
		if gammaTail(float64(k)/2, middle/2) > 1-p {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// gammaTail is Q(a, x), the regularised upper incomplete gamma function, for half-integer a > 0:
// from Q(1/2, x) = erfc(√x) or Q(1, x) = e^-x by Q(a+1, x) = Q(a, x) + x^a e^-x / Γ(a+1).
func gammaTail(a, x float64) float64 {
	at, q := 1.0, math.Exp(-x)
	if a != math.Floor(a) {
		at, q = 0.5, math.Erfc(math.Sqrt(x))
	}
	for ; at < a; at++ {
		lg, _ := math.Lgamma(at + 1)
		if x > 0 {
			q += math.Exp(at*math.Log(x) - x - lg)
		}
	}
	return q
}
