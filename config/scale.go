package config

import "time"

// Scale says how many replicas a pool should have for what it bears. weir counts and says so (GET /api/v1/scale/{pool}, and
// the metric weir_pool_desired_replicas); whoever starts replicas reads it.
type Scale struct {
	Min, Max int
	Targets  ScaleTargets
	// Tolerance is the percentage by which a signal may be off its target before another number is desired.
	Tolerance float64
	// DownAfter is how long fewer replicas must have been enough before fewer are desired.
	DownAfter time.Duration
}

// ScaleTargets are what each replica should bear; one that is 0 does not matter.
type ScaleTargets struct {
	Inflight    int           // requests under way
	Queue       int           // requests that wait, in weir and as the endpoints report
	Utilization float64       // percent, as the endpoints report it
	Requests    Rate          // requests a second
	P95         time.Duration // latency
}

// DefaultScale has neither bounds nor targets, which have no default. Its figures are those of Kubernetes'
// HorizontalPodAutoscaler.
func DefaultScale() Scale { return Scale{Min: 1, Tolerance: 10, DownAfter: 5 * time.Minute} }

func scaleShape() shape[*Scale] {
	return optional[Scale]{fresh: DefaultScale, inner: object[Scale]{fields: []field[Scale]{
		key("min", countShape(1), func(s *Scale) *int { return &s.Min },
			"The fewest replicas."),
		key("max", countShape(1), func(s *Scale) *int { return &s.Max },
			"The most replicas.").must(),
		key("targets", scaleTargetsShape(), func(s *Scale) *ScaleTargets { return &s.Targets },
			"What each replica should bear, of one signal or several: the one that asks for the most replicas counts.").must(),
		key("tolerance", percentShape(), func(s *Scale) *float64 { return &s.Tolerance },
			"The percentage by which a signal may be off its target before another number is desired."),
		key("down_after", pauseShape(0), func(s *Scale) *time.Duration { return &s.DownAfter },
			"How long fewer replicas must have been enough before fewer are desired."),
	}}}
}

func scaleTargetsShape() shape[ScaleTargets] {
	return object[ScaleTargets]{some: []string{"inflight", "queue", "utilization", "requests", "p95"}, fields: []field[ScaleTargets]{
		key("inflight", unlessZero(countShape(1)), func(s *ScaleTargets) *int { return &s.Inflight },
			"Requests under way at a replica. Absent: they do not matter; so with the others."),
		key("queue", unlessZero(countShape(1)), func(s *ScaleTargets) *int { return &s.Queue },
			"Requests that wait for a replica, in weir (concurrency.queue) and as endpoints report."),
		key("utilization", unlessZero(percentShape()), func(s *ScaleTargets) *float64 { return &s.Utilization },
			"The utilization that endpoints report (load), as a percentage, on average."),
		key("requests", rateShape(), func(s *ScaleTargets) *Rate { return &s.Requests },
			"Requests at a replica, as in 20/s."),
		key("p95", unlessZero(durationShape()), func(s *ScaleTargets) *time.Duration { return &s.P95 },
			"The 95th percentile of latency. It says that there are too few, not how many too few: at most twice as many are desired for it."),
	}}
}

func validateScale(r *report, p *Pool, pool string) {
	at := child(pool, "scale")
	if s := p.Scale; s != nil && r.sound(at) && s.Min > s.Max {
		r.fault(child(at, "min"), "%d is more than max %d; write at most max", s.Min, s.Max)
	}
}
