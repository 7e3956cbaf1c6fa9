package bench

import (
	"errors"
	"math"
)

// ChiSquare tests whether observed counts come from the given relative weights (Pearson's test)
// and returns the probability of counts at least as far off by chance. Counts must be of
// independent things: of distinct users, where users are sticky. Things of weight 0 must not
// have been seen at all; a single positive weight has nothing to test and gives 1.
func ChiSquare(observed []uint64, weights []float64) (p float64, err error) {
	if len(observed) != len(weights) {
		return 0, errors.New("as many counts as weights are needed")
	}
	var seen uint64
	var sum float64
	for i, w := range weights {
		if !(w >= 0) || math.IsInf(w, 1) {
			return 0, errors.New("weights must be finite and not negative")
		}
		seen += observed[i]
		sum += w
	}
	if sum == 0 {
		return 0, errors.New("the weights sum to 0")
	}
	statistic, freedom := 0.0, -1
	for i, w := range weights {
		expected := float64(seen) * w / sum
		switch {
		case w > 0:
			freedom++
			if expected > 0 {
				d := float64(observed[i]) - expected
				statistic += d * d / expected
			}
		case observed[i] > 0:
			return 0, nil
		}
	}
	if freedom == 0 {
		return 1, nil
	}
	return upperGamma(float64(freedom)/2, statistic/2), nil
}

// upperGamma is the regularized upper incomplete gamma function Q(a, x), a > 0, x ≥ 0: by the
// series of P where that converges fast, else by Lentz's continued fraction (Numerical Recipes, 6.2).
func upperGamma(a, x float64) float64 {
	const epsilon, steps = 1e-14, 10_000
	if x == 0 {
		return 1
	}
	logGamma, _ := math.Lgamma(a)
	scale := math.Exp(a*math.Log(x) - x - logGamma)
	if x < a+1 {
		term := 1 / a
		sum := term
		for n := 1.0; n < steps && term > sum*epsilon; n++ {
			term *= x / (a + n)
			sum += term
		}
		return max(0, 1-sum*scale)
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for i := 1.0; i < steps; i++ {
		an := -i * (i - a)
		b += 2
		d = an*d + b
		if math.Abs(d) < tiny {
			d = tiny
		}
		c = b + an/c
		if math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		h *= d * c
		if math.Abs(d*c-1) < epsilon {
			break
		}
	}
	return scale * h
}
