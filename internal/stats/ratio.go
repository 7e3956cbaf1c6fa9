package stats

import "math"

// Events are what happened to two sides, of which A took each request with the probability Share, while that
// probability was the same: how many events of one kind (errors, slow answers) were A's, and how many B's.
//
// All tests of ratios take the events as they fall on the two sides and nothing else. Under "the rate of A is that
// of B" each event is A's with the probability Share, however the common rate goes up and down meanwhile, so that
// load which drifts and weights which change leave them valid. They need the requests to be independent: where
// one subject makes many, only its first event may count.
type Events struct {
	Share float64 // greater than 0, less than 1, set before the requests
	A, B  uint64
}

// odds returns how much likelier an event is A's than B's, if their rates are in that ratio.
func (e Events) odds(ratio float64) float64 { return e.Share / (1 - e.Share) * ratio }

// The alternatives of the tests are ratios that lie this far from the bound, as natural logarithms: from a fifth
// more up to eleven times as much. A mixture of them finds what lies between as fast as what lies on them.
const (
	alternatives    = 12
	alternativeStep = 0.2
)

// LogEvidenceAbove returns the natural logarithm of the evidence that the rate of A is more than bound times that of B:
// an e-value, a bet on larger ratios whose fair price is 1 while the ratio is at most bound. It may be computed after
// every event; that it ever reaches ln(1/alpha) has at most the probability alpha where the ratio is not larger.
//
// It is the mixture of likelihood ratios of the conditional multinomial test of Lindon and Malek (Anytime-valid
// inference for multinomial count data, NeurIPS 2022), over rate ratios instead of shares, so that Share may change.
func LogEvidenceAbove(events []Events, bound float64) float64 {
	return logEvidence(events, bound, alternativeStep)
}

// LogEvidenceBelow is LogEvidenceAbove for "the rate of A is less than bound times that of B".
func LogEvidenceBelow(events []Events, bound float64) float64 {
	return logEvidence(events, bound, -alternativeStep)
}

func logEvidence(events []Events, bound, step float64) float64 {
	var logs [alternatives]float64
	for k := range logs {
		distance := step * float64(k+1)
		for _, e := range events {
			null := e.odds(bound)
			other := null * math.Exp(distance)
			logs[k] += float64(e.A)*distance - float64(e.A+e.B)*(math.Log1p(other)-math.Log1p(null))
		}
	}
	return logMean(logs[:])
}

// logMean returns the logarithm of the mean of what has these logarithms.
func logMean(logs []float64) float64 {
	most := math.Inf(-1)
	for _, x := range logs {
		most = max(most, x)
	}
	if math.IsInf(most, -1) {
		return most
	}
	var sum float64
	for _, x := range logs {
		sum += math.Exp(x - most)
	}
	return most + math.Log(sum/float64(len(logs)))
}

// EstimateRatio returns the likeliest ratio of the rate of A to that of B: 0 without an event of A, infinite without
// one of B. It reports false without any event.
func EstimateRatio(events []Events) (ratio float64, ok bool) {
	var a, b uint64
	for _, e := range events {
		a, b = a+e.A, b+e.B
	}
	switch {
	case a+b == 0:
		return 0, false
	case a == 0:
		return 0, true
	case b == 0:
		return math.Inf(1), true
	}
	// What A has beyond what it should have falls as the ratio grows; its root is the estimate.
	return bisect(func(ratio float64) bool {
		excess := float64(a)
		for _, e := range events {
			o := e.odds(ratio)
			excess -= float64(e.A+e.B) * o / (1 + o)
		}
		return excess > 0
	}), true
}

// RatioInterval returns the ratios of the rate of A to that of B which the events leave possible: with the probability
// 1 - alpha the true one stays within at every look, however many there are. high is infinite where nothing
// bounds it.
func RatioInterval(events []Events, alpha float64) (low, high float64) {
	need := math.Log(2 / alpha)
	low = bisect(func(ratio float64) bool { return LogEvidenceAbove(events, ratio) >= need })
	high = bisect(func(ratio float64) bool { return LogEvidenceBelow(events, ratio) < need })
	if low < 2*leastRatio { // the end of what was looked through
		low = 0
	}
	if high > mostRatio/2 {
		high = math.Inf(1)
	}
	return low, high
}

// The ratios between which estimates are looked for.
const (
	leastRatio = 1e-6
	mostRatio  = 1e6
)

// bisect returns the ratio, within a hundredth of a percent, below which it is true that the ratio is too small.
func bisect(tooSmall func(ratio float64) bool) float64 {
	low, high := math.Log(leastRatio), math.Log(mostRatio)
	for high-low > 1e-4 {
		middle := (low + high) / 2
		if tooSmall(math.Exp(middle)) {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Exp((low + high) / 2)
}
