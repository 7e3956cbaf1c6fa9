package main

import (
	"testing"

	"weir/proxy"
)

func TestLoadNotes(t *testing.T) {
	f := func(l *proxy.LoadStatus, want ...string) {
		t.Helper()
		notes := loadNotes(l)
		if len(notes) != len(want) {
			t.Fatalf("%d notes: %v", len(notes), notes)
		}
		for i, n := range notes {
			if n.text != want[i] {
				t.Errorf("%q, want %q", n.text, want[i])
			}
		}
	}
	f(nil)
	f(&proxy.LoadStatus{})
	f(exampleLoad(),
		"load: utilization 20%, gpu_utilization 99%, queue_ms 12.5, in_flight 3.00, rps 1200/s, orca 0.1 s ago, scrape 1.2 s ago",
		"weight × 1.60, 20 % full by utilization: clamped to 20 %/s",
		"load by scrape: GET /metrics answered 404, want 200")
	f(&proxy.LoadStatus{Weighting: &proxy.WeightingStatus{Factor: 1, Target: 1, Why: "no report"}}, "weight × 1.00: no report")
}

func exampleLoad() *proxy.LoadStatus {
	return &proxy.LoadStatus{
		Signals: []proxy.SignalStatus{
			{Name: "utilization", Value: 0.2, Source: "orca", Age: 0.12}, {Name: "gpu_utilization", Value: 0.987, Source: "scrape", Age: 1.2},
			{Name: "queue_ms", Value: 12.5, Source: "orca", Age: 0.12}, {Name: "in_flight", Value: 3, Source: "orca", Age: 0.12}, {Name: "rps", Value: 1200, Source: "scrape", Age: 1.2},
		},
		Weighting: &proxy.WeightingStatus{Factor: 1.6, Target: 1.7, Full: 0.2, By: "utilization", Why: "clamped to 20 %/s"},
		Problems:  map[string]string{"scrape": "GET /metrics answered 404, want 200"},
	}
}
