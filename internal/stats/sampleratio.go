package stats

import "math"

// Assigned are the subjects that each arm got while the weights were these.
type Assigned struct {
	Weights  []float64 // each greater than 0; only their ratios count
	Subjects []uint64  // of each arm, at the same place
}

// concentrations are how closely, as so many subjects would, the shares are bet to lie around the weights: far away, where few
// subjects show it, and close by, where only many do.
var concentrations = [...]float64{100, 10_000}

// LogEvidenceMismatch returns the natural logarithm of the evidence that subjects do not go to the arms by the weights
// (sample ratio mismatch). That it ever reaches ln(1/alpha) has at most the probability alpha while they do; it may
// be looked at after every subject. Epochs of different weights are bet on one after the other, never pooled.
//
// It is the Dirichlet-multinomial e-value of Lindon and Malek (Anytime-valid inference for multinomial count data,
// NeurIPS 2022), the mean of two concentrations.
func LogEvidenceMismatch(epochs []Assigned) float64 {
	logs := make([]float64, len(concentrations))
	for _, e := range epochs {
		var weight float64
		for _, w := range e.Weights {
			weight += w
		}
		for i, c := range concentrations {
			var n uint64
			for arm, w := range e.Weights {
				share, k := w/weight, e.Subjects[arm]
				logs[i] += lgamma(c*share+float64(k)) - lgamma(c*share) - float64(k)*math.Log(share)
				n += k
			}
			logs[i] += lgamma(c) - lgamma(c+float64(n))
		}
	}
	return logMean(logs)
}

func lgamma(x float64) float64 {
	y, _ := math.Lgamma(x)
	return y
}
