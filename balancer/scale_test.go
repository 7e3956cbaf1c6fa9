package balancer

import (
	"math"
	"strings"
	"testing"
	"time"

	"weir/config"
)

func TestDesiredReplicas(t *testing.T) {
	nan := math.NaN()
	inflight := config.ScaleTargets{Inflight: 8}
	busy := config.ScaleTargets{Utilization: 70}
	for name, c := range map[string]struct {
		targets config.ScaleTargets
		d       Demand
		want    int
		why     string
	}{
		"as desired":               {inflight, Demand{Replicas: 3, Usable: 3, Inflight: 24}, 3, "requests in flight each 8"},
		"within the tolerance":     {inflight, Demand{Replicas: 3, Usable: 3, Inflight: 26}, 3, ""},
		"more":                     {inflight, Demand{Replicas: 3, Usable: 3, Inflight: 40}, 5, ""},
		"fewer":                    {inflight, Demand{Replicas: 6, Usable: 6, Inflight: 17}, 3, ""},
		"exactly":                  {config.ScaleTargets{Requests: 0.2}, Demand{Replicas: 2, Usable: 2, Rate: 0.6}, 3, ""},
		"idle":                     {inflight, Demand{Replicas: 4, Usable: 4}, 2, "min; "},
		"far too much":             {inflight, Demand{Replicas: 4, Usable: 4, Inflight: 1000}, 10, "max; "},
		"none is there":            {inflight, Demand{}, 2, "min; "},
		"the next ones are coming": {inflight, Demand{Replicas: 5, Usable: 3, Inflight: 40}, 5, ""},
		"they will not be enough":  {inflight, Demand{Replicas: 4, Usable: 3, Inflight: 40}, 5, ""},
		"not fewer for their sake": {inflight, Demand{Replicas: 6, Usable: 4, Inflight: 16}, 4, ""},
		"utilization":              {busy, Demand{Replicas: 4, Usable: 4, Utilization: 0.9}, 6, "utilization 0.9, 0.7 desired"},
		"utilization unknown":      {busy, Demand{Replicas: 4, Usable: 4, Utilization: nan}, 4, "no signal is known"},
		"latency asks for twice":   {config.ScaleTargets{P95: time.Second}, Demand{Replicas: 3, Usable: 3, P95: 30}, 6, "p95"},
		"no latency":               {config.ScaleTargets{P95: time.Second}, Demand{Replicas: 3, Usable: 3, P95: nan}, 3, ""},
		"waiting":                  {config.ScaleTargets{Queue: 2}, Demand{Replicas: 3, Usable: 3, Queue: 14}, 7, ""},
		"the greatest counts": {config.ScaleTargets{Inflight: 8, Utilization: 70, Requests: 10},
			Demand{Replicas: 3, Usable: 3, Inflight: 8, Utilization: 0.5, Rate: 45}, 5, "requests/s each 15, 10 desired"},
	} {
		t.Run(name, func(t *testing.T) {
			scale := config.DefaultScale()
			scale.Min, scale.Max, scale.Targets = 2, 10, c.targets
			if n, why := DesiredReplicas(&scale, c.d); n != c.want || !strings.HasPrefix(why, c.why) {
				t.Errorf("%d (%s), want %d (%s…)", n, why, c.want, c.why)
			}
		})
	}
}

// TestScalingSettles: what is desired of a load that replicas share evenly is, once it is done, desired again.
func TestScalingSettles(t *testing.T) {
	scale := config.DefaultScale()
	scale.Max, scale.Targets = 1000, config.ScaleTargets{Inflight: 8, Utilization: 70}
	for load := 1.0; load < 2000; load *= 1.3 {
		n := 1
		for range 4 {
			n, _ = DesiredReplicas(&scale, Demand{Replicas: n, Usable: n, Inflight: load, Utilization: load / float64(n) / 12})
		}
		again, why := DesiredReplicas(&scale, Demand{Replicas: n, Usable: n, Inflight: load, Utilization: load / float64(n) / 12})
		if again != n || load/float64(n) > 8*1.1 || load/float64(n)/12 > 0.7*1.1 {
			t.Errorf("%.0f in flight: %d replicas, then %d (%s)", load, n, again, why)
		}
	}
}

func TestRecommendationsGoDownLate(t *testing.T) {
	var r Recommendations
	at := time.Now()
	for i, c := range []struct{ after, n, want int }{
		{0, 5, 5}, {1, 3, 5}, {1, 7, 7}, {58, 4, 7}, {2, 2, 7}, {1, 2, 4}, {58, 2, 2}, {1, 9, 9},
	} {
		at = at.Add(time.Duration(c.after) * time.Second)
		if got := r.Add(c.n, at, time.Minute); got != c.want {
			t.Errorf("step %d: %d, want %d", i, got, c.want)
		}
	}
	for i := range 100_000 {
		r.Add(100_000-i, at.Add(time.Duration(i)*time.Millisecond), time.Second)
	}
	if len(r.kept) > 1100 {
		t.Errorf("%d are kept of a second of them, one a millisecond", len(r.kept))
	}
}
