package config

import "time"

// Strategies of a rollout.
const (
	StrategyCanary    = "canary"     // a part of the traffic in steps
	StrategyBlueGreen = "blue_green" // all of it at once, after checks
	StrategyAuto      = "auto"       // more of it while the version passes, less when it fails
)

// What becomes of a rollout by the strategy auto whose version fails at its least weight.
const (
	AtMinAbort = "abort"
	AtMinHold  = "hold"
)

// What becomes of a step whose analysis stays inconclusive for longer than MaxWait.
const (
	InconclusiveHold    = "hold"
	InconclusiveAbort   = "abort"
	InconclusivePromote = "promote"
)

// Rollout is how a route goes from one version to another.
type Rollout struct {
	Strategy string
	// Steps in order; the last has weight 100. Empty in the file: those of the strategy.
	Steps []RolloutStep
	// Auto are the bounds of the strategy auto, which has no Steps of its own.
	Auto Auto
	// Checks come before the first step.
	Checks RolloutChecks
	// Analysis is nil where nothing is judged: a step is over with its hold.
	Analysis *Analysis
	// Tripwire is nil where none is.
	Tripwire *Tripwire
	// Notify is the URL that is told, "": none.
	Notify string
}

// RolloutStep is a percentage of the route's requests, and how long it holds at least.
type RolloutStep struct {
	Weight float64
	Hold   time.Duration
}

// Auto bounds the weights that the new version has, and says how they move.
type Auto struct {
	Min, Max, Step float64 // in percent
	Hold           time.Duration
	AtMin          string // one of the words above
	Keep           bool   // at Max it goes on being judged
}

// steps are Min (0 included, at which it gets no requests), those between, and Max.
func (a Auto) steps() []RolloutStep {
	var steps []RolloutStep
	for w := a.Min; w < a.Max; w += a.Step {
		steps = append(steps, RolloutStep{w, a.Hold})
	}
	return append(steps, RolloutStep{a.Max, a.Hold})
}

// DefaultAuto goes from nothing to all in tenths.
func DefaultAuto() Auto { return Auto{Max: 100, Step: 10, Hold: time.Minute, AtMin: AtMinAbort} }

// RolloutChecks are what the new version has to get through before it gets traffic.
type RolloutChecks struct {
	Timeout time.Duration // for all of it
	WarmUp  int           // requests to each endpoint before they are judged: the first of Requests that has a body
	// Requests are made to every endpoint that the new version has.
	Requests []RolloutRequest
	// Gates come last, in their order.
	Gates []Gate
}

// RolloutRequest is one request with what is expected of its answer.
type RolloutRequest struct {
	Path       string
	Body       string // JSON; "": GET
	Status     StatusRange
	JSON       []Assertion
	Shape      []Form
	Tolerance  float64
	MaxLatency time.Duration // 0: none
}

// Analysis judges a step. Ratios are of the new version to the old.
type Analysis struct {
	Interval  time.Duration
	ErrorRate *RateAnalysis    // nil: errors are not judged
	SLO       *SLOAnalysis     // nil: there is none
	Latency   *LatencyAnalysis // nil: latency is not compared
	// Those below hold figures from elsewhere to bounds; they are no tests, and take no share of Alpha.
	Prometheus  []PrometheusAnalysis
	Agreement   *AgreementAnalysis // nil: answers are not compared
	Drift       *DriftAnalysis     // nil: scores are not compared
	GPU         *GPUAnalysis       // nil: what endpoints report does not matter
	Experiment  *ExperimentAnalysis
	Alpha       float64
	MinRequests int
	// Inconclusive is one of the words above, after MaxWait; 0: never.
	Inconclusive string
	MaxWait      time.Duration
}

// RateAnalysis judges the rate of failures.
type RateAnalysis struct {
	MaxRatio float64
	Tolerate float64 // 0 to 1; 0: only the ratio decides
}

// SLOAnalysis judges the rate of requests that take longer than Latency.
type SLOAnalysis struct {
	Latency time.Duration
	RateAnalysis
}

// LatencyAnalysis compares a quantile.
type LatencyAnalysis struct {
	Quantile, MaxRatio float64
	// MinDifference is how much more the new version's has to be, beside MaxRatio.
	MinDifference time.Duration
}

// Tripwire aborts at once, without statistics.
type Tripwire struct {
	Errors   float64 // rate, 0 to 1
	Requests int     // at least so many
	Window   time.Duration
}

// CanarySteps are the steps of a canary that names none.
func CanarySteps() []RolloutStep {
	return []RolloutStep{{10, 5 * time.Minute}, {30, 5 * time.Minute}, {50, 10 * time.Minute}, {70, 10 * time.Minute}, {100, 5 * time.Minute}}
}

// BlueGreenSteps are the step of a switch that names none.
func BlueGreenSteps() []RolloutStep { return []RolloutStep{{100, 5 * time.Minute}} }

// steps are those of the strategy, where the file has none.
func (o *Rollout) steps() []RolloutStep {
	switch o.Strategy {
	case StrategyBlueGreen:
		return BlueGreenSteps()
	case StrategyAuto:
		return o.Auto.steps()
	}
	return CanarySteps()
}

// Proceed is how a rollout of the route proceeds, by this strategy; "" is the route's own. The steps of another
// strategy than the route's are that strategy's.
func (r *Route) Proceed(strategy string) Rollout {
	o := DefaultRollout()
	if r.Rollout != nil {
		o = *r.Rollout
	}
	if strategy != "" && strategy != o.Strategy {
		o.Strategy, o.Steps = strategy, nil
	}
	if len(o.Steps) == 0 {
		o.Steps = o.steps()
	}
	return o
}

// DefaultRollout is a rollout of which nothing is said. Its steps follow its strategy.
func DefaultRollout() Rollout {
	analysis, trip := StandardAnalysis(), DefaultTripwire()
	return Rollout{
		Strategy: StrategyCanary, Auto: DefaultAuto(), Checks: RolloutChecks{Timeout: 5 * time.Minute}, Analysis: &analysis, Tripwire: &trip,
	}
}

// DefaultAnalysis judges nothing: what a file wants judged it says.
func DefaultAnalysis() Analysis {
	return Analysis{Interval: 10 * time.Second, Alpha: 0.01, MinRequests: 100, Inconclusive: InconclusiveHold}
}

// StandardAnalysis is that of a rollout whose file says nothing of it: of errors, one percent of which is tolerated, and
// of latency.
func StandardAnalysis() Analysis {
	a, errors, latency := DefaultAnalysis(), DefaultRateAnalysis(), DefaultLatencyAnalysis()
	errors.Tolerate = 0.01
	a.ErrorRate, a.Latency = &errors, &latency
	return a
}

// DefaultRateAnalysis lets only the ratio decide.
func DefaultRateAnalysis() RateAnalysis { return RateAnalysis{MaxRatio: 1.5} }

// DefaultSLOAnalysis is an SLO without a latency, which has no default.
func DefaultSLOAnalysis() SLOAnalysis { return SLOAnalysis{RateAnalysis: DefaultRateAnalysis()} }

// DefaultLatencyAnalysis compares the 95th percentiles.
func DefaultLatencyAnalysis() LatencyAnalysis {
	return LatencyAnalysis{Quantile: 0.95, MaxRatio: 1.2, MinDifference: time.Millisecond}
}

// DefaultTripwire is a fifth of at least 20 requests in 10 s.
func DefaultTripwire() Tripwire {
	return Tripwire{Errors: 0.2, Requests: 20, Window: 10 * time.Second}
}

// DefaultRolloutRequest is a request without a path, which has no default. Any status from 200 to 299 will do.
func DefaultRolloutRequest() RolloutRequest {
	return RolloutRequest{Status: StatusRange{Low: 200, High: 299}}
}

// DefaultRolloutStep is a step without a weight, which has no default.
func DefaultRolloutStep() RolloutStep { return RolloutStep{Hold: 5 * time.Minute} }
