package stats

import "math"

// Radius returns how far from the truth an estimate is at most, at every look with the probability 1 - alpha: half the
// width of a confidence sequence. variance is that of the estimate, the square of its standard error, and gets less with
// every observation; the radius is tightest about where it is tightest. It is infinite while nothing is known.
//
// It is the normal mixture boundary of Howard, Ramdas, McAuliffe and Sekhon (Time-uniform, nonparametric, nonasymptotic
// confidence sequences, Annals of Statistics 49(2), 2021, arXiv:1810.08240), for sums whose variance is estimated: exact
// for many observations, as Waudby-Smith et al. show (Time-uniform central limit theory, arXiv:2103.06476).
func Radius(variance, tightest, alpha float64) float64 {
	if !(variance > 0) || math.IsInf(variance, 1) || !(tightest > 0) {
		return math.Inf(1)
	}
	twice := 2 * math.Log(1/alpha)
	information, best := 1/variance, 1/tightest
	rho := best / (twice + math.Log1p(twice))
	return math.Sqrt((information+rho)*(math.Log1p(information/rho)+twice)) / information
}
