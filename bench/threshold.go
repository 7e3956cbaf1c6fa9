package bench

import "fmt"

// Thresholds make a report pass or fail.
type Thresholds struct {
	// MaxErrorRatio bounds the errors, dropped requests included, as a part of the requests
	// due; negative means no bound.
	MaxErrorRatio float64
	// MaxP99 bounds the total's p99 latency in milliseconds; 0 means no bound.
	MaxP99 float64
	// MinRate and MinGoodput bound the answers, and the good ones, a second from below; 0 means
	// no bound.
	MinRate, MinGoodput float64
	// Split wants shares that do not deviate from the weights.
	Split bool
}

// Check says what exceeds a threshold; nothing means that the report passes.
func (t Thresholds) Check(r *Report) []string {
	var broken []string
	if t.MaxErrorRatio >= 0 && r.Total.ErrorRatio > t.MaxErrorRatio {
		broken = append(broken, fmt.Sprintf("error rate %.4g%% is above the threshold of %.4g%%",
			100*r.Total.ErrorRatio, 100*t.MaxErrorRatio))
	}
	if t.MaxP99 > 0 {
		switch q := r.Total.Latency; {
		case q == nil:
			broken = append(broken, "p99 is unknown: no request was answered")
		case q.P99 > t.MaxP99:
			broken = append(broken, fmt.Sprintf("p99 %s is above the threshold of %s", FormatMS(q.P99), FormatMS(t.MaxP99)))
		}
	}
	if answered := r.Total.answered(r.Seconds); answered < t.MinRate {
		broken = append(broken, fmt.Sprintf("rate %.1f/s of answers is below the threshold of %.1f/s", answered, t.MinRate))
	}
	if r.Total.Goodput < t.MinGoodput {
		broken = append(broken, fmt.Sprintf("goodput %.1f/s is below the threshold of %.1f/s", r.Total.Goodput, t.MinGoodput))
	}
	if t.Split && r.Split != nil && r.Split.Verdict == SplitDeviates {
		broken = append(broken, "split "+r.Split.String())
	}
	return broken
}

// answered is the rate of answers with a status below 400 and a readable body.
func (l *Line) answered(seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(l.OK) / seconds
}
