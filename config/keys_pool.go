package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

func memoryShape() shape[Memory] {
	return sparse[Memory]{absent: DefaultMemory, shape: object[Memory]{fields: []field[Memory]{
		key("limit", unlessZero(sizeShape()), func(m *Memory) *Size { return &m.Limit },
			"The resident size of the process from which on new requests are refused with 503. Absent: no limit."),
		key("keep_alive_percent", percentShape(), func(m *Memory) *float64 { return &m.KeepAlivePercent },
			"The percentage of limit from which on connections end after their request, so that clients come back elsewhere."),
	}}}
}

func probeShape() shape[*Probe] {
	path := probePathShape().(scalar[string])
	path.optional = true // a model is asked for in its place
	return orOff[*Probe]{isOff: func(p *Probe) bool { return p == nil }, inner: optional[Probe]{
		fresh: DefaultProbe, inner: object[Probe]{exclusive: []string{"path", "model", "grpc"}, fields: []field[Probe]{
			key("path", shape[string](path), func(p *Probe) *string { return &p.Path },
				"What is asked for, with GET."),
			key("model", probeModelShape(), func(p *Probe) *Probe { return p },
				"A model, or a version of it (fashion/3), whose readiness is asked for by the Open Inference Protocol V2, instead of path. Absent: path."),
			key("grpc", optional[HealthService]{fresh: func() (h HealthService) { return h }, inner: object[HealthService]{fields: []field[HealthService]{
				key("service", optionalTextShape("a service such as inference.GRPCInferenceService"), func(h *HealthService) *string { return &h.Name },
					"The service whose health is asked for. Absent: that of the server as a whole."),
			}}}, func(p *Probe) **HealthService { return &p.GRPC },
				"Asks by gRPC's health checking (grpc.health.v1.Health/Check) instead of path; SERVING is a success. It needs protocol: http2. Absent: path."),
			key("interval", durationShape(), func(p *Probe) *time.Duration { return &p.Interval },
				"From one probe to the next, 10 % more or less at random."),
			key("timeout", durationShape(), func(p *Probe) *time.Duration { return &p.Timeout },
				"For the whole probe. At most the interval, and the interval itself where that is shorter than the default."),
			key("rise", countShape(1), func(p *Probe) *int { return &p.Rise },
				"Successes in a row that make an endpoint healthy. The very first probe decides alone."),
			key("fall", countShape(1), func(p *Probe) *int { return &p.Fall },
				"Failures in a row that make it unhealthy."),
			key("status", statusShape(), func(p *Probe) *StatusRange { return &p.Status },
				"The expected status: a code, or a range such as 200-299."),
			key("json", assertionsShape(), func(p *Probe) *[]Assertion { return &p.JSON },
				"Fields of the answer, which then must be JSON, and the value that each must have: a text, a number, true, false or null. Names are paths, as in checks.gpu.healthy or outputs.0.name."),
			key("startup", startupShape(), func(p *Probe) **Startup { return &p.Startup },
				"The time that an endpoint has to load its model: until its first success it is probed as this says, gets no requests, and its failures are expected. Absent: it is probed as later."),
			key("inference", inferenceShape(), func(p *Probe) **Inference { return &p.Inference },
				"A request with a known answer that every endpoint is asked beside its probe; where it gives another answer as often as fall says, it is unhealthy. Absent: none."),
		}},
	}}
}

func probeModelShape() shape[Probe] {
	type model struct{ name, version string }
	return through[Probe, model]{
		get: func(p *Probe) model { return model{p.Model, p.ModelVersion} },
		set: func(p *Probe, m model) { p.Model, p.ModelVersion = m.name, m.version },
		inner: scalar[model]{
			want: "the name of a model such as fashion, or fashion/3", free: true, optional: true,
			parse: func(s string) (model, error) {
				name, version, versioned := strings.Cut(s, "/")
				for _, part := range []string{name, version} {
					if !only(part, keyLetters+".~") || part == "." || part == ".." {
						return model{}, fmt.Errorf("%q is no name of a model; write letters, digits, . _ ~ and -, and a version behind a slash, as in fashion or fashion/3", clip(s))
					}
				}
				if name == "" || versioned && version == "" {
					return model{}, fmt.Errorf("%q lacks a name or a version; write fashion or fashion/3", clip(s))
				}
				return model{name, version}, nil
			},
			format: func(m model) string {
				if m.version == "" {
					return m.name
				}
				return m.name + "/" + m.version
			},
			body: func() schema {
				return orVariable(schema{"type": "string", "pattern": `^[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)?$`})
			},
		},
	}
}

func assertionsShape() shape[[]Assertion] {
	return named[Assertion]{
		noun: "field", fresh: func() Assertion { return Assertion{} }, name: func(a *Assertion) *string { return &a.Path },
		check: checkFieldPath, elem: part[Assertion](literalShape{}, func(a *Assertion) *string { return &a.Value }),
	}
}

// checkFieldPath accepts the path of a JSON field: names and indices with dots between them.
func checkFieldPath(s string) error {
	if s == "" || len(s) > 256 || strings.ContainsFunc(s, control) {
		return fmt.Errorf("%q is no path of a JSON field; write names with dots between them, as in checks.gpu.healthy", clip(s))
	}
	for name := range strings.SplitSeq(s, ".") {
		if name == "" {
			return fmt.Errorf("%q has an empty name between its dots; write a path such as checks.gpu.healthy", clip(s))
		}
	}
	return nil
}

func fieldPathShape() shape[string] {
	return scalar[string]{
		want: "the path of a JSON field such as outputs.0.data", free: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) { return s, checkFieldPath(s) },
	}
}

func startupShape() shape[*Startup] {
	return optional[Startup]{fresh: func() (s Startup) { return s }, inner: object[Startup]{fields: []field[Startup]{
		key("budget", durationShape(), func(s *Startup) *time.Duration { return &s.Budget },
			"How long it takes at most; beyond it the endpoint is unhealthy.").must(),
		key("interval", derivedDurationShape(), func(s *Startup) *time.Duration { return &s.Interval },
			"From one probe to the next. Default: that of the probe, at most 1s."),
		key("timeout", derivedDurationShape(), func(s *Startup) *time.Duration { return &s.Timeout },
			"For each probe. Default: that of the probe, at most interval."),
	}}}
}

func inferenceShape() shape[*Inference] {
	return optional[Inference]{fresh: DefaultInference, inner: object[Inference]{fields: []field[Inference]{
		key("path", probePathShape(), func(i *Inference) *string { return &i.Path },
			"What is asked for, with POST.").must(),
		key("body", bodyShape(checkJSON), func(i *Inference) *string { return &i.Body },
			"The body of the request, JSON.").must(),
		key("json", assertionsShape(), func(i *Inference) *[]Assertion { return &i.JSON },
			"Fields of the answer and the value that each must have, as in the json of a probe. Absent: a status from 200 to 299 is enough."),
		key("tolerance", fractionShape(), func(i *Inference) *float64 { return &i.Tolerance },
			"How far a number may be from the one expected, as a percentage of it."),
		key("max_latency", pauseShape(0), func(i *Inference) *time.Duration { return &i.MaxLatency },
			"How long the answer may take; longer is a failure. 0s: as long as the timeout of the probe."),
		key("interval", durationShape(), func(i *Inference) *time.Duration { return &i.Interval },
			"From one such request to the next."),
	}}}
}

func checkJSON(s string) error {
	if !json.Valid([]byte(s)) {
		return fmt.Errorf("%q is no JSON; write the body of a request, as in '{\"features\":[1.5]}'", clip(s))
	}
	return nil
}

func poolConcurrencyShape() shape[*Concurrency] {
	return optional[Concurrency]{fresh: DefaultConcurrency, inner: object[Concurrency]{either: []string{"max", "adaptive"}, fields: []field[Concurrency]{
		key("max", derivedCountShape(), func(c *Concurrency) *int { return &c.Max },
			"Requests under way at the pool at one time; further ones wait in the queue, or are refused with 503. Either max or adaptive."),
		key("adaptive", adaptiveShape(), func(c *Concurrency) **Adaptive { return &c.Adaptive },
			"Finds how many requests the pool bears: fewer while its latency is beyond its least, more while it is not. It begins low and steps down at times, so that without a queue most of a burst is refused. Absent: max."),
		key("queue", queueShape(), func(c *Concurrency) *Queue { return &c.Queue },
			"Where requests wait for their turn. Absent: they do not wait."),
	}}}
}

func adaptiveShape() shape[*Adaptive] {
	return optional[Adaptive]{fresh: DefaultAdaptive, inner: object[Adaptive]{fields: []field[Adaptive]{
		key("min", countShape(1), func(a *Adaptive) *int { return &a.Min },
			"The fewest requests that are let through."),
		key("max", countShape(1), func(a *Adaptive) *int { return &a.Max },
			"The most."),
		key("percentile", percentileShape(), func(a *Adaptive) *float64 { return &a.Percentile },
			"The percentile of latency, to the head of the answer, that is compared."),
		key("tolerance", wideShare(10_000), func(a *Adaptive) *float64 { return &a.Tolerance },
			"The percentage by which latency may be beyond its least before fewer are let through; 100 is twice the least."),
		key("interval", durationShape(), func(a *Adaptive) *time.Duration { return &a.Interval },
			"From one change to the next."),
		key("remeasure", durationShape(), func(a *Adaptive) *time.Duration { return &a.Remeasure },
			"From one measurement of the least latency to the next, during which few requests are let through."),
	}}}
}

// percentileShape is a percentile that some are beyond and some are not.
func percentileShape() shape[float64] {
	return scalar[float64]{
		want: "a percentile such as 90", numeric: []string{"!!int", "!!float"}, format: formatNumber,
		parse: func(s string) (float64, error) {
			p, err := ParsePercent(s)
			if err != nil {
				return 0, err
			}
			return p, checkPercentile(p)
		},
		body: func() schema {
			return orVariable(schema{"type": "number", "minimum": 1, "maximum": 99.99}, schema{"type": "string", "pattern": "%$"})
		},
	}
}

func checkPercentile(p float64) error {
	if p < 1 || p > 99.99 {
		return fmt.Errorf("the percentile %s is out of range; write one from 1 to 99.99", formatNumber(p))
	}
	return nil
}

func queueShape() shape[Queue] {
	return sparse[Queue]{absent: DefaultQueue, shape: object[Queue]{fields: []field[Queue]{
		key("size", countShape(1), func(q *Queue) *int { return &q.Size },
			"How many requests wait at most; further ones are refused.").must(),
		key("order", choiceShape("order", []string{QueueFIFO, QueueLIFO, QueueAdaptive}), func(q *Queue) *string { return &q.Order },
			"Whose turn is next, within a class of priority: fifo, the one that waits longest; lifo, the one that came last; adaptive, fifo, and lifo while the queue is more than half full."),
		key("timeout", durationShape(), func(q *Queue) *time.Duration { return &q.Timeout },
			"How long a request waits at most; then it is refused."),
	}}}
}

// boundShape is a count that is left out while it is 0, which is no bound.
func boundShape() shape[int] { return unlessZero[int](countScalar(0, maxCount)) }

func circuitBreakerShape() shape[*CircuitBreaker] {
	return optional[CircuitBreaker]{fresh: func() (b CircuitBreaker) { return b }, inner: object[CircuitBreaker]{fields: []field[CircuitBreaker]{
		key("max_requests", boundShape(), func(b *CircuitBreaker) *int { return &b.MaxRequests },
			"Attempts under way. Absent or 0: no bound."),
		key("max_pending", boundShape(), func(b *CircuitBreaker) *int { return &b.MaxPending },
			"Attempts that wait for a connection. Absent or 0: no bound."),
		key("max_retries", boundShape(), func(b *CircuitBreaker) *int { return &b.MaxRetries },
			"Attempts under way that are not the first of their request. Absent or 0: no bound."),
	}}}
}
