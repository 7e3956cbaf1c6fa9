package stats

import "math"

// Boundary returns how far a sum of differences, each of which is as likely too large as too small, ever gets from what is
// expected of it, with the probability 1 - alpha at all looks together. variance is that of the sum until now, and grows
// with it; the boundary is tightest, in standard deviations, about where it is tightest, a constant. Both are in the
// square of the sum's unit. It is infinite where either is not positive.
//
// It is the normal mixture boundary of Howard, Ramdas, McAuliffe and Sekhon (Time-uniform, nonparametric, nonasymptotic
// confidence sequences, Annals of Statistics 49(2), 2021, arXiv:1810.08240), for sums whose variance is estimated: right
// for many observations, as Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas show (Time-uniform central limit theory and
// asymptotic confidence sequences, arXiv:2103.06476).
func Boundary(variance, tightest, alpha float64) float64 {
	if !(variance > 0) || !(tightest > 0) || math.IsInf(variance, 1) {
		return math.Inf(1)
	}
	twice := 2 * math.Log(1/alpha)
	rho := tightest / (twice + math.Log1p(twice))
	return math.Sqrt((variance + rho) * (math.Log1p(variance/rho) + twice))
}
