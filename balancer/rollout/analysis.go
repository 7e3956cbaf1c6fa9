package rollout

import (
	"fmt"
	"math"
	"time"

	"weir/internal/stats"
)

// Criteria are what an analysis asks for.
type Criteria struct {
	Errors  *RateCriteria    `json:"errors,omitempty"`  // nil: errors are not judged
	Slow    *SlowCriteria    `json:"slow,omitempty"`    // nil: there is no SLO
	Latency *LatencyCriteria `json:"latency,omitempty"` // nil: latency is not compared
	// Alpha is the probability with which a rollout of a version that is no worse may be failed at all, however often
	// it is looked at: all checks share it.
	Alpha       float64 `json:"alpha"`
	MinRequests uint64  `json:"min_requests"` // of each side, before anything passes
}

// RateCriteria bound the rate of bad requests.
type RateCriteria struct {
	MaxRatio float64 `json:"max_ratio"` // of the rates of the new version and the old, more than 1
	// Tolerate is a rate, 0 to 1, below which the new version passes whatever the ratio; 0: none is.
	Tolerate float64 `json:"tolerate,omitempty"`
}

// SlowCriteria bound the rate of requests that take longer than an SLO.
type SlowCriteria struct {
	SLO time.Duration `json:"slo_ns"`
	RateCriteria
}

// LatencyCriteria bound a quantile.
type LatencyCriteria struct {
	Quantile float64 `json:"quantile"`  // between 0 and 1, such as 0.95
	MaxRatio float64 `json:"max_ratio"` // of the quantiles of the new version and the old, more than 1
	// Least is by how much the new version's has to be longer besides; 0: the ratio alone counts.
	Least time.Duration `json:"least_ns,omitempty"`
}

// allowed is the longest quantile that the new version may have where the old one's is q.
func (l *LatencyCriteria) allowed(q time.Duration) time.Duration {
	return max(time.Duration(float64(q)*l.MaxRatio), q+l.Least)
}

// Check is what one criterion has come to.
type Check struct {
	Name    string  `json:"name"` // error_rate, slo, latency, or that of a Gauge
	Verdict Verdict `json:"verdict"`
	// Ratio is the estimate, of rates or of quantiles; nil while it is unknown or infinite. Between Low and High the true
	// ratio of rates of bad requests lies, at every look, with the probability 1 - Alpha.
	Ratio *float64 `json:"ratio"`
	Low   *float64 `json:"low"`
	High  *float64 `json:"high"`
	// Value is the figure of a Gauge; nil for others, and without data.
	Value *float64 `json:"value,omitempty"`
	Why   string   `json:"why"` // a sentence for people
}

// Analysis is what all criteria have come to.
type Analysis struct {
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
	Checks  []Check `json:"checks"`
	// Requests and errors of both sides that were judged, since the rollout began.
	Canary Counts `json:"canary"`
	Stable Counts `json:"stable"`
}

// Judge returns what the evidence says about the criteria. It may be asked as often as one likes.
func (c *Criteria) Judge(e *Evidence) Analysis {
	canary, stable := e.Totals()
	a := Analysis{Verdict: Pass, Canary: canary, Stable: stable}
	alpha := c.Alpha / float64(max(c.checks(), 1))
	if c.Errors != nil {
		a.Checks = append(a.Checks, judgeRate("error_rate", "errors", c.Errors, e.events(failed), canary.Errors, canary.Requests, alpha))
	}
	if c.Slow != nil {
		what := fmt.Sprintf("requests beyond %v", c.Slow.SLO)
		a.Checks = append(a.Checks, judgeRate("slo", what, &c.Slow.RateCriteria, e.events(slow), canary.Slow, canary.Requests, alpha))
	}
	if c.Latency != nil {
		a.Checks = append(a.Checks, judgeLatency(c.Latency, e, alpha))
	}
	if short := c.short(canary, stable); short != "" {
		a.Verdict, a.Why = Inconclusive, short
	}
	for _, check := range a.Checks {
		switch {
		case check.Verdict == Fail && a.Verdict != Fail:
			a.Verdict, a.Why = Fail, check.Why
		case check.Verdict == Inconclusive && a.Verdict == Pass:
			a.Verdict, a.Why = Inconclusive, check.Why
		}
	}
	if a.Verdict == Pass {
		a.Why = "every check passed"
	}
	return a
}

// checks is how many share alpha.
func (c *Criteria) checks() (n int) {
	for _, judged := range []bool{c.Errors != nil, c.Slow != nil, c.Latency != nil} {
		if judged {
			n++
		}
	}
	return n
}

// short says which side has too few requests, "" where neither has.
func (c *Criteria) short(canary, stable Counts) string {
	for _, side := range []struct {
		name string
		n    uint64
	}{{"new", canary.Requests}, {"old", stable.Requests}} {
		if side.n < c.MinRequests {
			return fmt.Sprintf("the %s version has %d of the %d requests that a judgement needs", side.name, side.n, c.MinRequests)
		}
	}
	return ""
}

// judgeRate fails where "no more bad requests" is rejected and the estimate is beyond the allowed ratio; it passes where
// "at least the allowed ratio" is rejected, or where the rate is shown to be below what is tolerated. The two ways
// to pass share alpha.
func judgeRate(name, what string, c *RateCriteria, events []stats.Events, bad, requests uint64, alpha float64) Check {
	check := Check{Name: name, Verdict: Inconclusive}
	check.interval(events, alpha)
	ratio, known := stats.EstimateRatio(events)
	if known {
		check.Ratio = finite(ratio)
	}
	pass := alpha
	if c.Tolerate > 0 {
		pass /= 2
	}
	switch {
	case known && ratio > c.MaxRatio && stats.LogEvidenceAbove(events, 1) >= math.Log(1/alpha):
		check.Verdict = Fail
		check.Why = fmt.Sprintf("%d of the new version's %d requests are %s, %s", bad, requests, what, compared(ratio, c.MaxRatio))
	case stats.LogEvidenceBelow(events, c.MaxRatio) >= math.Log(1/pass):
		check.Verdict = Pass
		check.Why = fmt.Sprintf("the new version has less than %v times the %s of the old", c.MaxRatio, what)
	case c.Tolerate > 0 && stats.LogEvidenceRateBelow(bad, requests, c.Tolerate) >= math.Log(1/pass):
		check.Verdict = Pass
		check.Why = fmt.Sprintf("fewer than %s of the new version's requests are %s, as is tolerated", percent(c.Tolerate), what)
	case !known && c.Tolerate == 0:
		check.Why = fmt.Sprintf("neither version has %s yet: without %s.tolerate there is nothing to compare", what, name)
	default:
		check.Why = fmt.Sprintf("whether the new version has more %s is not clear yet (%d of its %d requests)", what, bad, requests)
	}
	return check
}

// judgeLatency is judgeRate for requests that are slower than the old version's quantile. What could pass by a ratio of
// quantiles is judged by the requests beyond that ratio: a version that is allowed to be 1.2 times as slow passes where
// it has fewer requests beyond 1.2 times the old quantile than the old has beyond the quantile.
func judgeLatency(l *LatencyCriteria, e *Evidence, alpha float64) Check {
	check := Check{Name: "latency", Verdict: Inconclusive}
	check.interval(e.Slow, alpha)
	if e.Ratio > 0 {
		check.Ratio = finite(e.Ratio)
	}
	what := "p" + short3(100*l.Quantile)
	switch {
	case e.Ratio > l.MaxRatio && e.Longer > l.Least && stats.LogEvidenceAbove(e.Slow, 1) >= math.Log(1/alpha):
		check.Verdict = Fail
		check.Why = fmt.Sprintf("the %s of the new version is %s times that of the old, allowed are %v", what, short3(e.Ratio), l.MaxRatio)
	case stats.LogEvidenceBelow(e.Beyond, 1) >= math.Log(1/alpha):
		check.Verdict = Pass
		check.Why = fmt.Sprintf("the %s of the new version is less than %v times that of the old", what, l.MaxRatio)
		if e.Ratio > l.MaxRatio {
			check.Why = fmt.Sprintf("the %s of the new version is less than %v longer than that of the old", what, l.Least)
		}
	default:
		check.Why = fmt.Sprintf("whether the %s of the new version is worse is not clear yet", what)
	}
	return check
}

// compared says how much that is beside the old version.
func compared(ratio, allowed float64) string {
	if math.IsInf(ratio, 1) {
		return "and none of the old version's"
	}
	return fmt.Sprintf("%s times the rate of the old version, where %v times is allowed", short3(ratio), allowed)
}

// interval notes between which bounds the ratio of the rates lies.
func (c *Check) interval(events []stats.Events, alpha float64) {
	low, high := stats.RatioInterval(events, alpha)
	c.Low, c.High = finite(low), finite(high)
}

// finite is a number that JSON can say, or nil.
func finite(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}

// short3 writes a number with three digits that count.
func short3(x float64) string { return fmt.Sprintf("%.3g", x) }

func percent(x float64) string { return short3(100*x) + " %" }
