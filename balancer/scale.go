package balancer

import (
	"fmt"
	"math"
	"time"

	"weir/config"
)

// Demand is what a pool bears at one moment.
type Demand struct {
	Replicas    int     // endpoints, without those that drain
	Usable      int     // of them
	Inflight    float64 // requests under way at all of them
	Queue       float64 // requests that wait for any of them
	Rate        float64 // requests a second
	Utilization float64 // of those that report it, on average, 1 is full; NaN: nobody does
	P95         float64 // of latency, in seconds; NaN: there were no requests
}

// DesiredReplicas returns how many replicas a pool should have for what it bears, and why. It is what Kubernetes'
// HorizontalPodAutoscaler computes (https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/): the greatest
// over all targets of ceil(replicas x signal / target), none where that is within the tolerance. Replicas that are not usable
// bear nothing yet where more would be desired, and their full share where fewer would. A signal that is not known asks for
// what there is.
func DesiredReplicas(c *config.Scale, d Demand) (n int, why string) {
	n, why = 0, ""
	consider := func(signal string, value, target float64, replicas int) {
		if replicas > n {
			n, why = replicas, fmt.Sprintf("%s %.3g, %.3g desired", signal, value, target)
		}
	}
	each := float64(max(d.Usable, 1))
	total := func(signal string, value, target float64) {
		if target > 0 {
			consider(signal, value/each, target, d.replicas(value/each/target, c.Tolerance/100))
		}
	}
	total("requests in flight each", d.Inflight, float64(c.Targets.Inflight))
	total("requests waiting each", d.Queue, float64(c.Targets.Queue))
	total("requests/s each", d.Rate, float64(c.Targets.Requests))
	if t := c.Targets.Utilization / 100; t > 0 && !math.IsNaN(d.Utilization) {
		consider("utilization", d.Utilization, t, d.replicas(d.Utilization/t, c.Tolerance/100))
	}
	if t := c.Targets.P95.Seconds(); t > 0 && !math.IsNaN(d.P95) {
		consider("p95 in seconds", d.P95, t, d.replicas(min(d.P95/t, 2), c.Tolerance/100))
	}
	switch {
	case n == 0 && why == "":
		n, why = d.Replicas, "no signal is known"
	}
	switch {
	case n < c.Min:
		return c.Min, fmt.Sprintf("min; %s", why)
	case n > c.Max:
		return c.Max, fmt.Sprintf("max; %s", why)
	}
	return n, why
}

// replicas are as many as bring a signal that is ratio times its target to the target.
func (d *Demand) replicas(ratio, tolerance float64) int {
	const rounding = 1e-9 // 0.6/0.2 is more than 3
	need := int(math.Ceil(float64(max(d.Usable, 1))*ratio - rounding))
	switch {
	case math.Abs(ratio-1) <= tolerance:
		return max(d.Replicas, 1)
	case ratio > 1:
		return max(need, d.Replicas)
	}
	return max(need+d.Replicas-max(d.Usable, min(d.Replicas, 1)), 1)
}

// Recommendations keeps a number of replicas from going down before fewer have been enough for a while. Its zero value is
// ready.
type Recommendations struct{ kept []recommendation } // numbers fall, times rise

type recommendation struct {
	n  int
	at time.Time
}

// Add takes a recommendation in and returns the greatest of those of the last while.
func (r *Recommendations) Add(n int, now time.Time, while time.Duration) int {
	for len(r.kept) > 0 && r.kept[len(r.kept)-1].n <= n {
		r.kept = r.kept[:len(r.kept)-1]
	}
	r.kept = append(r.kept, recommendation{n, now})
	for now.Sub(r.kept[0].at) > while {
		r.kept = r.kept[1:]
	}
	return r.kept[0].n
}
