package config

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

func rolloutShape() shape[*Rollout] {
	return optional[Rollout]{fresh: DefaultRollout, inner: object[Rollout]{fields: []field[Rollout]{
		key("strategy", choiceShape("strategy", []string{StrategyCanary, StrategyBlueGreen, StrategyAuto}), func(o *Rollout) *string { return &o.Strategy },
			"How it proceeds: canary gives the new version a part of the route's requests in steps; blue_green all of them at once, and takes them back where that goes wrong; auto more while it passes its analysis and less when it fails."),
		key("steps", list[RolloutStep]{noun: "step", least: 1, most: 100, optional: true, fresh: DefaultRolloutStep, elem: object[RolloutStep]{fields: []field[RolloutStep]{
			key("weight", percentShape(), func(s *RolloutStep) *float64 { return &s.Weight },
				"The percentage of the route's requests that the new version gets.").must(),
			key("hold", pauseShape(maxHold), func(s *RolloutStep) *time.Duration { return &s.Hold },
				"How long at least. It takes longer where the analysis has not come to a verdict."),
		}}}, func(o *Rollout) *[]RolloutStep { return &o.Steps },
			"The steps, with weights that grow up to 100. Default: 10, 30 for 5m each, 50, 70 for 10m each and 100 for 5m; of blue_green 100 for 5m; of auto what follows from auto."),
		key("auto", autoShape(), func(o *Rollout) *Auto { return &o.Auto },
			"The weights of the strategy auto."),
		key("checks", checksShape(), func(o *Rollout) *RolloutChecks { return &o.Checks },
			"What the new version has to get through before it gets traffic. All its endpoints have to be healthy, whatever this says."),
		key("analysis", analysisShape(), func(o *Rollout) **Analysis { return &o.Analysis },
			"What judges the new version, by first attempts that both versions had at the same time. Absent: of errors, with tolerate 1, and of latency, as their defaults say. The word off: a step is over with its hold."),
		key("tripwire", orOff[*Tripwire]{isOff: func(t *Tripwire) bool { return t == nil }, inner: optional[Tripwire]{fresh: DefaultTripwire, inner: object[Tripwire]{fields: []field[Tripwire]{
			key("errors", fractionShape(), func(t *Tripwire) *float64 { return &t.Errors },
				"The percentage of the new version's requests that is a disaster where so many fail."),
			key("requests", countShape(1), func(t *Tripwire) *int { return &t.Requests },
				"Of at least so many requests."),
			key("window", durationShape(), func(t *Tripwire) *time.Duration { return &t.Window },
				"That ended within this time."),
		}}}}, func(o *Rollout) **Tripwire { return &o.Tripwire },
			"What aborts within a second, without statistics; so does a new version without a usable endpoint. The word off turns both off."),
		key("notify", urlShape("https://hooks.example.com/weir"), func(o *Rollout) *string { return &o.Notify },
			"A URL that is told of every change of the rollout, with POST and JSON whose text is what Slack shows. Absent: none."),
	}}}
}

// maxHold bounds a step.
const maxHold = 30 * 24 * time.Hour

func autoShape() shape[Auto] {
	return object[Auto]{fields: []field[Auto]{
		key("min", percentShape(), func(a *Auto) *float64 { return &a.Min },
			"The percentage of the requests below which a version that fails does not go."),
		key("max", percentShape(), func(a *Auto) *float64 { return &a.Max },
			"The percentage at which the rollout has succeeded."),
		key("step", percentShape(), func(a *Auto) *float64 { return &a.Step },
			"How much more it gets when it has passed, and less when it has failed."),
		key("hold", pauseShape(maxHold), func(a *Auto) *time.Duration { return &a.Hold },
			"How long each weight holds at least before there is more."),
		key("at_min", choiceShape("word", []string{AtMinAbort, AtMinHold}), func(a *Auto) *string { return &a.AtMin },
			"What comes of a version that fails where less would be below min: abort, or hold, which pauses the rollout at min."),
		key("keep", boolShape(), func(a *Auto) *bool { return &a.Keep },
			"Whether it goes on being judged at max, each hold by evidence of its own, instead of having succeeded."),
	}}
}

func checksShape() shape[RolloutChecks] {
	return object[RolloutChecks]{fields: []field[RolloutChecks]{
		key("timeout", durationShape(), func(c *RolloutChecks) *time.Duration { return &c.Timeout },
			"How long all of it may take; then the rollout is aborted."),
		key("warm_up", countShape(0), func(c *RolloutChecks) *int { return &c.WarmUp },
			"How often the first of the requests is made at each endpoint before answers count."),
		key("requests", list[RolloutRequest]{noun: "request", most: 50, optional: true, fresh: DefaultRolloutRequest, elem: object[RolloutRequest]{fields: []field[RolloutRequest]{
			key("path", probePathShape(), func(q *RolloutRequest) *string { return &q.Path },
				"What is asked for at every endpoint of the new version.").must(),
			key("body", bodyShape(checkJSON), func(q *RolloutRequest) *string { return &q.Body },
				"The body, JSON, which makes it a POST. Absent: a GET."),
			key("status", statusShape(), func(q *RolloutRequest) *StatusRange { return &q.Status },
				"The status that is expected, or a range."),
			key("json", assertionsShape(), func(q *RolloutRequest) *[]Assertion { return &q.JSON },
				"Fields of the answer and the value that each must have, as in the json of a probe. Absent: the status is enough."),
			key("shape", formsShape(), func(q *RolloutRequest) *[]Form { return &q.Shape },
				"Fields of the answer and the shape that each must have: number, string, boolean, object or array, or the dimensions of an array as in [1, 10], where -1 is any length. Absent: any."),
			key("tolerance", fractionShape(), func(q *RolloutRequest) *float64 { return &q.Tolerance },
				"How far a number may be from the one expected, as a percentage of it."),
			key("max_latency", pauseShape(0), func(q *RolloutRequest) *time.Duration { return &q.MaxLatency },
				"How long the answer may take. 0s: as long as timeout."),
		}}}, func(c *RolloutChecks) *[]RolloutRequest { return &c.Requests },
			"Requests whose answers have to be as expected. Absent: none."),
		key("gates", gatesShape(), func(c *RolloutChecks) *[]Gate { return &c.Gates },
			"What has to agree once all that has gone well, in this order. They are asked again where weir restarts before the first step. Absent: none."),
	}}
}

func analysisShape() shape[*Analysis] {
	return afresh[*Analysis]{orOff[*Analysis]{isOff: func(a *Analysis) bool { return a == nil }, inner: optional[Analysis]{fresh: DefaultAnalysis, inner: object[Analysis]{fields: []field[Analysis]{
		key("interval", durationShape(), func(a *Analysis) *time.Duration { return &a.Interval },
			"From one look at what was counted to the next. However many there are, the error that alpha bounds stays the same."),
		key("error_rate", optional[RateAnalysis]{fresh: DefaultRateAnalysis, inner: object[RateAnalysis]{fields: rateFields(func(a *RateAnalysis) *RateAnalysis { return a })}}, func(a *Analysis) **RateAnalysis { return &a.ErrorRate },
			"Judges the rate of failures: statuses from 500, broken and missing answers. Absent: it is not judged."),
		key("slo", optional[SLOAnalysis]{fresh: DefaultSLOAnalysis, inner: object[SLOAnalysis]{fields: append([]field[SLOAnalysis]{
			key("latency", durationShape(), func(a *SLOAnalysis) *time.Duration { return &a.Latency },
				"The time to an attempt's end that should not be exceeded.").must(),
		}, rateFields(func(a *SLOAnalysis) *RateAnalysis { return &a.RateAnalysis })...)}}, func(a *Analysis) **SLOAnalysis { return &a.SLO },
			"Judges the rate of requests that take longer than an objective. Absent: there is none."),
		key("latency", optional[LatencyAnalysis]{fresh: DefaultLatencyAnalysis, inner: object[LatencyAnalysis]{fields: []field[LatencyAnalysis]{
			key("quantile", quantileShape(), func(a *LatencyAnalysis) *float64 { return &a.Quantile },
				"Which one, as in 0.95."),
			key("max_ratio", ratioShape(), func(a *LatencyAnalysis) *float64 { return &a.MaxRatio },
				"How much larger it may be than that of the old version."),
			key("min_difference", pauseShape(0), func(a *LatencyAnalysis) *time.Duration { return &a.MinDifference },
				"By how much the new version's quantile has to be longer besides: of answers that take a fraction of a millisecond, one and a half times as long is no regression. 0s: the ratio alone counts."),
		}}}, func(a *Analysis) **LatencyAnalysis { return &a.Latency },
			"Compares a quantile of the latencies of both versions. Absent: it is not judged."),
		key("prometheus", prometheusShape(), func(a *Analysis) *[]PrometheusAnalysis { return &a.Prometheus },
			"Holds results of PromQL to bounds. Absent: none are asked for."),
		key("agreement", agreementShape(), func(a *Analysis) **AgreementAnalysis { return &a.Agreement },
			"Holds to a bound how many answers of the new version agree with those of the old, by the route's mirror, which has to go to the new version's pool and to compare. Absent: it is not judged."),
		key("drift", driftShape(), func(a *Analysis) **DriftAnalysis { return &a.Drift },
			"Holds to a bound how far the scores of both versions are apart, as every weir-backend tells those of its window. Absent: it is not judged."),
		key("gpu", gpuShape(), func(a *Analysis) **GPUAnalysis { return &a.GPU },
			"Holds to bounds what the new version's endpoints report of their load, as load of its pool reads it. Absent: it is not judged."),
		key("experiment", experimentAnalysisShape(), func(a *Analysis) **ExperimentAnalysis { return &a.Experiment },
			"Asks that the route's experiment finds the new version no worse than the old one by its first outcome, but for margin, and by no other outcome beyond doubt. The old version has to be its control. Absent: it is not judged."),
		key("alpha", alphaShape(), func(a *Analysis) *float64 { return &a.Alpha },
			"The probability with which a rollout of a version that is no worse may be failed, over all checks and however often they look."),
		key("min_requests", countShape(0), func(a *Analysis) *int { return &a.MinRequests },
			"How many requests each version needs before a check passes."),
		key("inconclusive", choiceShape("word", []string{InconclusiveHold, InconclusiveAbort, InconclusivePromote}), func(a *Analysis) *string { return &a.Inconclusive },
			"What comes after max_wait without a verdict: hold pauses the rollout, abort and promote are what they say."),
		key("max_wait", pauseShape(maxHold), func(a *Analysis) *time.Duration { return &a.MaxWait },
			"How long after its hold a step waits for a verdict. 0s: until there is one."),
	}}}}}
}

// rateFields are the keys of the RateAnalysis that T is or has.
func rateFields[T any](of func(*T) *RateAnalysis) []field[T] {
	return []field[T]{
		key("max_ratio", ratioShape(), func(t *T) *float64 { return &of(t).MaxRatio },
			"How many times as often it may happen as at the old version."),
		key("tolerate", fractionShape(), func(t *T) *float64 { return &of(t).Tolerate },
			"A percentage below which the new version passes whatever the ratio, so that a service without failures can pass. 0: only the ratio decides."),
	}
}

// numberShape is a number between two bounds.
func numberShape(want string, good func(float64) bool, body schema) shape[float64] {
	return scalar[float64]{
		want: want, numeric: []string{"!!int", "!!float"}, format: formatNumber,
		parse: func(s string) (float64, error) {
			f, err := strconv.ParseFloat(s, 64)
			if err != nil || !plainNumber(s) || !good(f) {
				return 0, fmt.Errorf("%q is out of place; write %s", clip(s), want)
			}
			return f, nil
		},
		body: func() schema { return orVariable(body) },
	}
}

func ratioShape() shape[float64] {
	return numberShape("a number above 1, up to 100, such as 1.5", func(f float64) bool { return f > 1 && f <= 100 },
		schema{"type": "number", "exclusiveMinimum": 1, "maximum": 100})
}

func quantileShape() shape[float64] {
	return numberShape("a number from 0.5 to 0.999, such as 0.95", func(f float64) bool { return f >= 0.5 && f <= 0.999 },
		schema{"type": "number", "minimum": 0.5, "maximum": 0.999})
}

func alphaShape() shape[float64] {
	return numberShape("a probability from 0.000001 to 0.5, such as 0.01", func(f float64) bool { return f >= 1e-6 && f <= 0.5 },
		schema{"type": "number", "minimum": 1e-6, "maximum": 0.5})
}

// urlShape is an http or https URL, which may be absent.
func urlShape(example string) shape[string] {
	return scalar[string]{
		want: "a URL such as " + example, free: true, optional: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) {
			u, err := url.Parse(s)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" {
				return "", fmt.Errorf("%q is no URL; write one such as %s", clip(s), example)
			}
			return s, nil
		},
	}
}
