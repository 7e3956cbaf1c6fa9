package balancer

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/backend/load"
)

// told is a reading of a fresh report.
func told(r load.Report) reading { return reading{figures: figuresOf(&r), fresh: true} }

func full(u float64) reading { return told(load.Report{ApplicationUtilization: u}) }

func queued(ms float64) reading {
	return told(load.Report{Named: []load.Metric{{Name: "queue_ms", Value: ms}}})
}

// tick moves courses on by seconds, one at a time, with the same readings.
func tick(w weighing, courses []course, now *time.Time, seconds int, readings ...reading) (out []Weighting) {
	for range seconds {
		*now = now.Add(time.Second)
		out = w.weights(courses, readings, *now)
	}
	return out
}

func TestUsage(t *testing.T) {
	w := defaultWeighing()
	w.limit = 8
	named := func(name string, v float64) load.Report {
		return load.Report{Named: []load.Metric{{Name: name, Value: v}}}
	}
	gpu := func(v, ms float64) load.Report {
		return load.Report{Utilization: []load.Metric{{Name: "gpu", Value: v}}, Named: []load.Metric{{Name: "queue_ms", Value: ms}}}
	}
	for name, test := range map[string]struct {
		r    load.Report
		full float64
		by   Signal
	}{
		"nothing":                             {load.Report{}, 0, 0},
		"idle":                                {named("queue_ms", 0), 0, 0},
		"its own word":                        {load.Report{ApplicationUtilization: 0.4}, 0.4, Utilization},
		"over its capacity":                   {load.Report{ApplicationUtilization: 1.4}, 1.4, Utilization},
		"memory below the knee says nothing":  {load.Report{MemUtilization: 0.9}, 0, 0},
		"memory beyond it":                    {load.Report{MemUtilization: 0.95}, 0.5, Memory},
		"a queue":                             {named("queue_ms", 50), 0.5, QueueTime},
		"of requests, with the rate":          {load.Report{RPS: 10, Named: []load.Metric{{Name: "queue", Value: 2}}}, 2, QueueTime},
		"a GPU that always runs something":    {gpu(1, 30), 1, GPU},
		"a queue goes beyond it":              {gpu(1, 300), 3, QueueTime},
		"requests under way":                  {named("in_flight", 4), 0.5, Running},
		"under way, by the report's limit":    {load.Report{Named: []load.Metric{{Name: "in_flight", Value: 4}, {Name: "in_flight_limit", Value: 16}}}, 0.25, Running},
		"the fullest of several has its name": {load.Report{CPUUtilization: 0.3, Named: []load.Metric{{Name: "in_flight", Value: 6}}}, 0.75, Running},
	} {
		f := figuresOf(&test.r)
		u, ok := w.usageOf(&f)
		if math.Abs(u.full-test.full) > 1e-9 || ok != (test.full > 0) || ok && u.by != test.by {
			t.Errorf("%s: %.3f by %v (%v), want %.3f by %v", name, u.full, u.by, ok, test.full, test.by)
		}
	}
}

func TestWeightsSettle(t *testing.T) {
	with := func(u, rps, eps float64) reading {
		return told(load.Report{ApplicationUtilization: u, RPS: rps, EPS: eps})
	}
	none := reading{}
	for name, test := range map[string]struct {
		readings []reading
		want     []float64 // after a minute
		why      []string
	}{
		"nobody reports":          {[]reading{none, none}, []float64{1, 1}, []string{"no report", "no report"}},
		"alike":                   {[]reading{full(0.5), full(0.5), full(0.5)}, []float64{1, 1, 1}, []string{"", "", ""}},
		"1 to 4":                  {[]reading{full(0.2), full(0.8)}, []float64{1.6, 0.4}, []string{"", ""}},
		"one alone has no peer":   {[]reading{full(0.9), none, none}, []float64{1, 1, 1}, []string{"alone → mean", "no report", "no report"}},
		"who is silent: the mean": {[]reading{full(0.2), full(0.8), none}, []float64{1.6, 0.4, 1}, []string{"", "", "no report"}},
		"who is idle: the mean":   {[]reading{full(0.2), full(0.8), queued(0)}, []float64{1.6, 0.4, 1}, []string{"", "", "idle → mean"}},
		"never beyond 4 and 1/4":  {[]reading{full(0.001), full(1), full(1), full(1), full(1)}, []float64{4, 0.25, 0.25, 0.25, 0.25}, []string{"clamped to 4", "clamped to 0.25", "clamped", "clamped", "clamped"}},
		"noise is held":           {[]reading{full(0.5), full(0.51)}, []float64{1, 1}, []string{"held", "held"}},
		// Rates of 40 and 10 at the same utilization: the first bears four times as much.
		"what it could bear":           {[]reading{with(0.5, 40, 0), with(0.5, 10, 0)}, []float64{1.6, 0.4}, []string{"", ""}},
		"one without a rate: none has": {[]reading{with(0.5, 40, 0), full(0.5)}, []float64{1, 1}, []string{"", ""}},
		"a queue: no rate":             {[]reading{queued(50), told(load.Report{RPS: 100, Named: []load.Metric{{Name: "queue_ms", Value: 50}}})}, []float64{1, 1}, []string{"", ""}},
		// 0.2 and 0.2 + 0.6 of the requests that fail.
		"failures cost": {[]reading{with(0.2, 10, 0), with(0.2, 10, 6)}, []float64{1.6, 0.4}, []string{"", ""}},
	} {
		now := start
		courses := make([]course, len(test.readings))
		out := tick(defaultWeighing(), courses, &now, 60, test.readings...)
		for i, o := range out {
			if math.Abs(o.Factor-test.want[i]) > 1e-6 || !strings.HasPrefix(o.Why, test.why[i]) || test.why[i] == "" && o.Why != "" {
				t.Errorf("%s: endpoint %d has %.3f (%q), want %.3f (%q)", name, i, o.Factor, o.Why, test.want[i], test.why[i])
			}
		}
	}
}

// TestWeightsTakeTheirTime: a blackout, then steps of a fifth, and back to the mean when reports stop.
func TestWeightsTakeTheirTime(t *testing.T) {
	w, now, courses := defaultWeighing(), start, make([]course, 2)
	for s := 1; s <= 10; s++ {
		for _, o := range tick(w, courses, &now, 1, full(0.2), full(0.8)) {
			if o.Factor != 1 || o.Why != "blackout → mean" {
				t.Fatalf("%d s after the first report: %+v, want the mean", s, o)
			}
		}
	}
	last := 1.0
	for range 4 {
		o := tick(w, courses, &now, 1, full(0.2), full(0.8))
		if r := last / o[1].Factor; r > 1.2001 || r < 1.19 || o[1].Why != "clamped to 20 %/s" {
			t.Fatalf("from %.3f to %.3f (%q), want a fifth of change", last, o[1].Factor, o[1].Why)
		}
		last = o[1].Factor
	}
	if o := tick(w, courses, &now, 1, full(0.2), full(0.8)); o[0].Factor/o[1].Factor < 3.9 || o[0].Factor/o[1].Factor > 4.1 {
		t.Errorf("%.3f and %.3f 15 s after the first report, want 4 to 1", o[0].Factor, o[1].Factor)
	}
	if o := tick(w, courses, &now, 1, reading{}, reading{}); o[1].Why != "stale → mean" || o[1].Factor >= 1 {
		t.Errorf("reports have stopped: %+v, want a step towards the mean", o[1])
	}
	for i, o := range tick(w, courses, &now, 5, reading{}, reading{}) {
		if o.Factor != 1 {
			t.Errorf("endpoint %d has %.3f 6 s after its last report expired, want the mean exactly", i, o.Factor)
		}
	}
	if o := tick(w, courses, &now, 1, full(0.2), full(0.8)); o[0].Why != "blackout → mean" {
		t.Errorf("reports have come back: %+v, want a blackout", o[0])
	}
}

// TestFlappingReportsMoveLittle: what is reported jumps between 0.2 and 0.8 every second, the other way round at
// each endpoint. Averages, hysteresis and steps keep the weights together.
func TestFlappingReportsMoveLittle(t *testing.T) {
	w, now, courses := defaultWeighing(), start, make([]course, 2)
	turns, way, last, widest := 0, 0, 1.0, 1.0
	for s := range 300 {
		readings := []reading{full(0.2), full(0.8)}
		if s%2 == 1 {
			readings[0], readings[1] = readings[1], readings[0]
		}
		o := tick(w, courses, &now, 1, readings...)
		if s < 60 {
			continue
		}
		widest = max(widest, o[0].Factor/o[1].Factor, o[1].Factor/o[0].Factor)
		if d := o[0].Factor - last; d != 0 {
			if now := int(math.Copysign(1, d)); now != way {
				turns, way = turns+1, now
			}
		}
		last = o[0].Factor
	}
	if widest > 1.25 {
		t.Errorf("weights were apart by %.2f, want about 1 to 1", widest)
	}
	t.Logf("widest ratio %.3f, %d turns in 240 s", widest, turns)
}

// TestReportedUtilizationMovesTraffic: 0.2 against 0.8 is 4 to 1 within 15 s, and even again when reports stop.
func TestReportedUtilizationMovesTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool("utilization", 1, 1)
		p.Start()
		defer p.Stop()
		say := []float64{0.2, 0.8}
		run := func(d time.Duration) (counts [2]float64) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				e := p.Pick(nil)
				i := indexOf(p, e)
				counts[i]++
				if say != nil {
					e.Report(FromAnswer, &load.Report{ApplicationUtilization: say[i]}, time.Now())
				}
				e.Done(Success, time.Millisecond)
			}
			return counts
		}
		even := func(when string, c [2]float64) {
			if r := c[0] / c[1]; r < 0.95 || r > 1.05 {
				t.Errorf("%s: %.0f and %.0f requests, want as many", when, c[0], c[1])
			}
		}
		even("in the blackout", run(9*time.Second))
		run(6 * time.Second)
		c := run(10 * time.Second)
		if r := c[0] / c[1]; r < 3.6 || r > 4.4 {
			t.Errorf("15 s after the first report: %.0f and %.0f requests, want 4 to 1", c[0], c[1])
		}
		w, ok := p.endpoints[1].Weighting()
		if !ok || w.Why != "" || w.By != Utilization || math.Abs(w.Full-0.8) > 0.01 || p.endpoints[1].EffectiveWeight() != w.Factor {
			t.Errorf("the busy one's weighting is %+v, its weight %v", w, p.endpoints[1].EffectiveWeight())
		}
		say = nil
		run(17 * time.Second)
		even("17 s after the last report", run(10*time.Second))
		if w, _ := p.endpoints[1].Weighting(); w.Why != "stale → mean" {
			t.Errorf("weighting %+v, want stale", w)
		}
		next := NewPool(poolConfig("blue", "round_robin", 1, 1), p, PoolOptions{})
		next.Start()
		defer next.Stop()
		if _, ok := p.endpoints[1].Weighting(); ok {
			t.Error("weights follow reports under round_robin")
		}
	})
}

// TestWeightsOfReportsAreOfTheConfiguredOnes: 1, 3 and 2 with utilizations of 0.2, 0.8 and nothing known; a pod that
// drains says nothing about the mean.
func TestWeightsOfReportsAreOfTheConfiguredOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool("utilization", 1, 3, 2, 1)
		p.Start()
		defer p.Stop()
		p.DrainEndpoint(p.endpoints[3].Address, true)
		for range 40 {
			for i, u := range []float64{0.2, 0.8, 0, 0.001} {
				p.endpoints[i].Report(FromScrape, &load.Report{CPUUtilization: u}, time.Now())
			}
			time.Sleep(time.Second)
		}
		counts := shares(p, 30_000)
		for i, want := range []float64{1.6, 1.2, 2, 0} {
			if got := float64(counts[i]) / 30_000 * 4.8; math.Abs(got-want) > 0.02 {
				t.Errorf("endpoint %d has a share of %.3f of 4.8, want %.1f", i, got, want)
			}
		}
		if w, _ := p.endpoints[3].Weighting(); w.Why != "not in use" {
			t.Errorf("the drained one: %+v", w)
		}
	})
}
