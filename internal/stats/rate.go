package stats

import "math"

// rateDistances are how far, as natural logarithms, the rates lie below the bound that LogEvidenceRateBelow bets
// on, besides 0.
var rateDistances = [...]float64{0.2, 0.4, 0.6, 0.8, 1, 1.4, 1.8, 2.4, 3}

// LogEvidenceRateBelow returns the natural logarithm of the evidence that events happen at a rate (of requests, 0 to 1)
// of less than bound, after so many of them in so many requests. As with LogEvidenceAbove, it may be looked at
// after every request: that it ever reaches ln(1/alpha) has at most the probability alpha while every request has
// an event with a probability of bound or more. Without any event it grows by about bound with each request, so that about
// ln(11/alpha)/bound requests are enough.
func LogEvidenceRateBelow(events, requests uint64, bound float64) float64 {
	if bound <= 0 || requests == 0 {
		return 0
	}
	if bound >= 1 {
		return math.Inf(1)
	}
	k, n := float64(events), float64(requests)
	logs := make([]float64, 0, len(rateDistances)+1)
	for _, d := range rateDistances {
		rate := bound * math.Exp(-d)
		logs = append(logs, -k*d+(n-k)*(math.Log1p(-rate)-math.Log1p(-bound)))
	}
	none := math.Inf(-1)
	if events == 0 {
		none = -n * math.Log1p(-bound)
	}
	return logMean(append(logs, none))
}

// UpperRate returns the rate below which the events lie, with the probability 1 - alpha at every look; 1 where
// they are too few to say.
func UpperRate(events, requests uint64, alpha float64) float64 {
	need := math.Log(1 / alpha)
	low, high := math.Log(1e-9), 0.0
	for high-low > 1e-4 {
		middle := (low + high) / 2
		if LogEvidenceRateBelow(events, requests, math.Exp(middle)) < need {
			low = middle
		} else {
			high = middle
		}
	}
	if high > -1e-3 {
		return 1
	}
	return math.Exp(high)
}
