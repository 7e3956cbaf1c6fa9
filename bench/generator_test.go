package bench

import (
	"strings"
	"testing"
)

func TestLimitsAreSaidWhenTheGeneratorWasOne(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		lag, p99, cores, gc, usage float64
		want                       []string
	}{
		{"at ease", 0.05, 10, 0.2, 0.1, 0.5, nil},
		{"late, and slow", 5, 20, 0.2, 0.1, 0.5, []string{"the generator was late"}},
		{"late beside slow answers", 5, 100, 0.2, 0.1, 0.5, nil},
		{"late by nothing", 0.09, 0.1, 0.2, 0.1, 0.5, nil},
		{"busy", 0.05, 10, 1.8, 0.1, 0.5, []string{"used 1.80 of its 2 processors"}},
		{"a busy machine", 0.05, 10, 0.2, 0.1, 0.99, []string{"the machine was 99% busy"}},
		{"pauses", 0.05, 10, 0.2, 6, 0.5, []string{"own collections paused it for up to 6.00ms"}},
		{"all", 5, 10, 2, 6, 1, []string{"late", "processors", "busy", "collections"}},
	} {
		r := &Report{Lag: Lag{P99: tt.lag}, Total: Line{Latency: &Quantiles{P99: tt.p99}}}
		r.Generator = &Generator{Cores: tt.cores, Processors: 2, GCPause: tt.gc, MachineBusy: &tt.usage}
		got := limits(r)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], want)
			}
		}
	}
	if got := limits(&Report{Generator: &Generator{Processors: 1}}); len(got) != 0 {
		t.Errorf("without an answer: %q", got)
	}
}

// A process that computes uses time, and the meter sees it.
func TestMeterMeasuresTheProcess(t *testing.T) {
	m := StartMeter()
	for before := cpuTime(); cpuTime()-before < 20e6; { // 20 ms
		readMachineTime()
	}
	r := &Report{Total: Line{Requests: 10}}
	m.Stop(r)
	g := r.Generator
	if g.CPU < 0.02 || g.PerRequest < 2000 || g.Cores <= 0 || g.Processors < 1 {
		t.Errorf("%+v; want at least 20 ms of CPU time, for 10 requests", g)
	}
	if b := g.MachineBusy; b != nil && (*b < 0 || *b > 1) {
		t.Errorf("the machine was %v busy", *b)
	}
}

func TestMachineTime(t *testing.T) {
	if got := (machineTime{busy: 30, idle: 70}).busySince(machineTime{busy: 10, idle: 10}); got == nil || *got != 0.25 {
		t.Errorf("busy %v, want 0.25", got)
	}
	if got := (machineTime{}).busySince(machineTime{}); got != nil {
		t.Errorf("unread, the machine was %v busy", *got)
	}
}
