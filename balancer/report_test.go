package balancer

import (
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"weir/backend/load"
)

// signalsOf writes figures as a map, for comparison.
func signalsOf(f Figures) map[Signal]float64 {
	m := map[Signal]float64{}
	for _, s := range Signals() {
		if v, ok := f.Get(s); ok {
			m[s] = v
		}
	}
	return m
}

func TestFiguresOfAReport(t *testing.T) {
	named := func(m ...load.Metric) []load.Metric { return m }
	for name, test := range map[string]struct {
		r    load.Report
		want map[Signal]float64
	}{
		"nothing":                      {load.Report{}, map[Signal]float64{}},
		"the CPU's":                    {load.Report{CPUUtilization: 1.5}, map[Signal]float64{Utilization: 1.5}},
		"the application's goes first": {load.Report{CPUUtilization: 0.9, ApplicationUtilization: 0.2}, map[Signal]float64{Utilization: 0.2}},
		"the busiest GPU": {load.Report{Utilization: named(load.Metric{Name: "gpu.0", Value: 0.1}, load.Metric{Name: "gpu.1", Value: 0.7}, load.Metric{Name: "disk", Value: 1})},
			map[Signal]float64{GPU: 0.7}},
		"the fullest memory": {load.Report{MemUtilization: 0.3, Utilization: named(load.Metric{Name: "kv_cache", Value: 0.8}, load.Metric{Name: "gpu_memory", Value: 0.5})},
			map[Signal]float64{Memory: 0.8}},
		"zeros of named metrics count": {load.Report{Named: named(load.Metric{Name: "queue", Value: 0}, load.Metric{Name: "queue_ms", Value: 0}, load.Metric{Name: "in_flight", Value: 0}, load.Metric{Name: "in_flight_limit", Value: 0})},
			map[Signal]float64{Queue: 0, QueueTime: 0, Running: 0}},
		"Little's law": {load.Report{RPS: 50, EPS: 1, Named: named(load.Metric{Name: "queue", Value: 5})},
			map[Signal]float64{Rate: 50, ErrorRate: 1, Queue: 5, QueueTime: 100}},
		"a queue without a rate": {load.Report{Named: named(load.Metric{Name: "queue", Value: 5})}, map[Signal]float64{Queue: 5}},
		"a time goes first": {load.Report{RPS: 50, Named: named(load.Metric{Name: "queue", Value: 5}, load.Metric{Name: "queue_ms", Value: 7})},
			map[Signal]float64{Rate: 50, Queue: 5, QueueTime: 7}},
		"in weir-backend's words": {load.Report{RPS: 50, Named: named(load.Metric{Name: "queue", Value: 5}, load.Metric{Name: "queue_seconds", Value: 0.25})},
			map[Signal]float64{Rate: 50, Queue: 5, QueueTime: 250}},
		"milliseconds before seconds": {load.Report{Named: named(load.Metric{Name: "queue_ms", Value: 7}, load.Metric{Name: "queue_seconds", Value: 9})},
			map[Signal]float64{QueueTime: 7}},
		"seconds before milliseconds": {load.Report{Named: named(load.Metric{Name: "queue_seconds", Value: 9}, load.Metric{Name: "queue_ms", Value: 7})},
			map[Signal]float64{QueueTime: 7}},
		"no wait": {load.Report{RPS: 50, Named: named(load.Metric{Name: "queue", Value: 5}, load.Metric{Name: "queue_seconds", Value: 0})},
			map[Signal]float64{Rate: 50, Queue: 5, QueueTime: 0}},
		"in vLLM's words": {load.Report{Named: named(load.Metric{Name: "kv_cache_usage_perc", Value: 0.4}, load.Metric{Name: "num_requests_waiting", Value: 2}, load.Metric{Name: "num_requests_running", Value: 8})},
			map[Signal]float64{Memory: 0.4, Queue: 2, Running: 8}},
		"dishonest": {load.Report{Named: named(load.Metric{Name: "queue", Value: math.NaN()}, load.Metric{Name: "queue_ms", Value: math.Inf(1)}, load.Metric{Name: "in_flight", Value: -1})},
			map[Signal]float64{}},
	} {
		if got := signalsOf(figuresOf(&test.r)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestReportsAgeAndSourcesStandSideBySide(t *testing.T) {
	e := testPool("utilization", 1).endpoints[0]
	now := time.Now()
	if known := e.Reported(now); known != nil {
		t.Fatalf("before any report: %v, want nothing", known)
	}
	e.Report(FromAnswer, &load.Report{ApplicationUtilization: 0.5, RPS: 10}, now)
	e.Report(FromScrape, &load.Report{Utilization: []load.Metric{{Name: "gpu", Value: 0.9}}, RPS: 12}, now.Add(2*time.Second))
	e.Report(FromScrape, &load.Report{RequestCost: []load.Metric{{Name: "tokens", Value: 9}}}, now.Add(3*time.Second)) // says nothing
	want := []AgedSignal{
		{Utilization, 0.5, FromAnswer, 5 * time.Second},
		{GPU, 0.9, FromScrape, 3 * time.Second},
		{Rate, 12, FromScrape, 3 * time.Second},
	}
	if got := e.Reported(now.Add(5 * time.Second)); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	e.Report(FromAnswer, &load.Report{CPUUtilization: 0.1}, now.Add(4*time.Second)) // replaces the whole report of its source
	f, age, ok := e.LastReport(FromAnswer, now.Add(5*time.Second))
	if got := signalsOf(f); !ok || age != time.Second || !reflect.DeepEqual(got, map[Signal]float64{Utilization: 0.1}) {
		t.Errorf("%v, %v old (%v), want utilization 0.1, 1s old", got, age, ok)
	}
}

// TestReportsAreNeverMixed: a reader sees one report, also while many come.
func TestReportsAreNeverMixed(t *testing.T) {
	e := testPool("utilization", 1).endpoints[0]
	var running sync.WaitGroup
	for w := range 3 {
		running.Go(func() {
			for i := range 5000 {
				v := float64(1 + w*5000 + i)
				e.Report(FromAnswer, &load.Report{CPUUtilization: v, RPS: v, EPS: v}, e.born.Add(time.Duration(v)))
			}
		})
	}
	for range 5000 {
		f, at, ok := e.reports[FromAnswer].load()
		if !ok {
			continue
		}
		if u := f.Values[Utilization]; u != f.Values[Rate] || u != f.Values[ErrorRate] || time.Duration(u) != at {
			t.Fatalf("parts of several reports: %v at %v", signalsOf(f), at)
		}
	}
	running.Wait()
}
