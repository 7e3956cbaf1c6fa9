package bench

import "fmt"

// Thresholds make a report pass or fail.
type Thresholds struct {
	// MaxErrorRatio bounds the errors, dropped requests included, as a part of the requests
	// due; negative means no bound.
	MaxErrorRatio float64
	// MaxP99 bounds the total's p99 latency in milliseconds; 0 means no bound.
	MaxP99 float64
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
	return broken
}
