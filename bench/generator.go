package bench

import (
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"time"
)

// Generator is what the load tester itself used and suffered.
type Generator struct {
	CPU        float64 `json:"cpu_seconds"`
	Cores      float64 `json:"cores"`              // CPU time by time: 1 is one processor all the time
	PerRequest float64 `json:"cpu_us_per_request"` // of those counted
	Processors int     `json:"processors"`         // it may use
	// MachineBusy is the part of the whole machine's processors that was in use, by whomever, or
	// taken by its host; null where it cannot be known.
	MachineBusy *float64 `json:"machine_busy"`
	Collections uint64   `json:"gc_collections"`
	GCPause     float64  `json:"gc_pause_max_ms"`
	// Limits say, in sentences, where the figures of the report may be the generator's own.
	Limits []string `json:"limits"`
}

// Meter measures the process it runs in.
type Meter struct {
	began   time.Time
	cpu     time.Duration
	machine machineTime
	samples []metrics.Sample
	cycles  uint64
	pauses  []uint64
}

const (
	metricCycles = "/gc/cycles/total:gc-cycles"
	metricPauses = "/sched/pauses/total/gc:seconds"
)

// StartMeter begins a measurement.
func StartMeter() *Meter {
	m := &Meter{began: time.Now(), cpu: cpuTime(), machine: readMachineTime()}
	m.samples = []metrics.Sample{{Name: metricCycles}, {Name: metricPauses}}
	metrics.Read(m.samples)
	m.cycles = m.samples[0].Value.Uint64()
	// The histogram is the runtime's own and changes with the next reading.
	m.pauses = append(m.pauses, m.samples[1].Value.Float64Histogram().Counts...)
	return m
}

// Stop ends the measurement and puts it into the report.
func (m *Meter) Stop(r *Report) {
	g := &Generator{Processors: runtime.GOMAXPROCS(0)}
	cpu, took := cpuTime()-m.cpu, time.Since(m.began)
	g.CPU = cpu.Seconds()
	if took > 0 {
		g.Cores = cpu.Seconds() / took.Seconds()
	}
	if r.Total.Requests > 0 {
		g.PerRequest = float64(cpu.Microseconds()) / float64(r.Total.Requests)
	}
	g.MachineBusy = readMachineTime().busySince(m.machine)
	metrics.Read(m.samples)
	g.Collections = m.samples[0].Value.Uint64() - m.cycles
	g.GCPause = 1e3 * longest(m.samples[1].Value.Float64Histogram(), m.pauses)
	r.Generator = g
	g.Limits = limits(r)
}

// longest is the upper bound of the highest bucket that counted since before; 0 when none did.
func longest(h *metrics.Float64Histogram, before []uint64) float64 {
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] > before[i] {
			if upper := h.Buckets[i+1]; !math.IsInf(upper, 1) {
				return upper
			}
			return h.Buckets[i]
		}
	}
	return 0
}

// machineTime is how long the machine's processors were in use and not, since it started.
type machineTime struct{ busy, idle uint64 }

// busySince is the part in use between two readings; nil when nothing was read.
func (t machineTime) busySince(o machineTime) *float64 {
	busy, idle := t.busy-o.busy, t.idle-o.idle
	if busy+idle == 0 {
		return nil
	}
	part := ratio(busy, busy+idle)
	return &part
}

// Where the generator counts as a limit.
const (
	limitLagPart   = 0.2  // of the latency at the same quantile
	limitLag       = 0.1  // ms; a lag below it is never one
	limitCores     = 0.85 // of the processors it may use
	limitMachine   = 0.95
	limitPausePart = 0.5 // of the p99 latency
	limitPause     = 0.5 // ms
)

// limits judges a report: which of its figures may be the generator's own.
func limits(r *Report) []string {
	list, g, q := []string{}, r.Generator, r.Total.Latency
	if q != nil && r.Lag.P99 > limitLag && r.Lag.P99 > limitLagPart*q.P99 {
		list = append(list, fmt.Sprintf("the generator was late (p99 %s, beside a latency of %s): part of the latency is its own",
			FormatMS(r.Lag.P99), FormatMS(q.P99)))
	}
	if g.Cores > limitCores*float64(g.Processors) {
		list = append(list, fmt.Sprintf("the generator used %.2f of its %d processors: it may have been the limit", g.Cores, g.Processors))
	}
	if g.MachineBusy != nil && *g.MachineBusy > limitMachine {
		list = append(list, fmt.Sprintf("the machine was %.0f%% busy: whatever shares it with the generator waited for a processor too", 100**g.MachineBusy))
	}
	if q != nil && g.GCPause > limitPause && g.GCPause > limitPausePart*q.P99 {
		list = append(list, fmt.Sprintf("the generator's own collections paused it for up to %s", FormatMS(g.GCPause)))
	}
	return list
}
