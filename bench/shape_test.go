package bench

import (
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

// nothing is a schedule without arrivals.
func nothing() Pacer { return &trace{} }

func TestSchedulesAreExact(t *testing.T) {
	tests := []struct {
		name  string
		pacer Pacer
		want  []time.Duration
	}{
		{"a flat ramp is constant", Ramp(10, 10, s, Even()), []time.Duration{0, 100 * ms, 200 * ms, 300 * ms}},
		// From 0 to 100/s in 10 s: after t seconds 5·t² arrivals, so the 5th is due after 1 s.
		{"a ramp from nothing", Ramp(0, 100, 10*s, squares(5)), []time.Duration{s, 2 * s, 3 * s}},
		// 500 arrivals in the ramp; then 100/s.
		{"after a ramp", Ramp(0, 100, 10*s, from(500)), []time.Duration{10 * s, 10010 * ms, 10020 * ms}},
		// From 100/s down to 0 in 10 s: 500 arrivals, and none after.
		{"a ramp to nothing", Ramp(100, 0, 10*s, from(500)), []time.Duration{Never, Never}},
		{"steps", Steps([]Step{{1, 2 * s}, {4, s}}, Even()), []time.Duration{0, s, 2 * s, 2250 * ms, 2500 * ms, 2750 * ms, Never, Never}},
		{"steps with a pause", Steps([]Step{{1, s}, {0, 10 * s}, {2, s}}, Even()), []time.Duration{0, 11 * s, 11500 * ms, Never}},
		{"bursts alone", Bursts(Burst{2, s}, nothing()), []time.Duration{0, 0, s, s, 2 * s}},
		{"bursts over a load", Bursts(Burst{2, s}, Constant(2)), []time.Duration{0, 0, 0, 500 * ms, s, s, s, 1500 * ms, 2 * s}},
		{"bursts beyond what an offset holds", Bursts(Burst{1, 5e18}, nothing()), []time.Duration{0, 5e18, Never, Never}},
		{"a trace", &trace{due: []time.Duration{0, 0, 7}}, []time.Duration{0, 0, 7, Never, Never}},
		{"after a warm-up", After(s, Constant(2), Constant(4)), []time.Duration{0, 500 * ms, s, 1250 * ms}},
		{"after a warm-up, at the end of time", After(s, nothing(), &trace{due: []time.Duration{Never - 1}}), []time.Duration{Never}},
		{"once in an age", Constant(1e-10), []time.Duration{0, Never, Never}},
		{"ten million a second", Constant(MaxRate), []time.Duration{0, 100, 200, 300}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, offsets(tt.pacer, len(tt.want))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// from is even arrivals that begin with the n-th.
func from(n float64) Arrivals {
	n--
	return func() float64 { n++; return n }
}

// squares is the arrivals n·1², n·2², n·3² and so on.
func squares(n float64) Arrivals {
	i := 0.0
	return func() float64 { i++; return n * i * i }
}

// Every shape, even or not, has as many arrivals in a stretch as its rate says there, and none
// goes back in time. A Poisson count deviates by its square root; four of those are allowed.
func TestShapesKeepTheirRate(t *testing.T) {
	long := []Step{{1000, 10 * s}, {0, 5 * s}, {3000, 5 * s}}
	tests := []struct {
		name     string
		schedule Schedule
		from, to time.Duration
		want     float64
	}{
		{"ramp, first half", Schedule{Arrivals: "ramp", Rate: 1000, RampTo: 3000, Over: 10 * s}, 0, 5 * s, 7500},
		{"ramp, second half", Schedule{Arrivals: "ramp", Rate: 1000, RampTo: 3000, Over: 10 * s}, 5 * s, 10 * s, 12500},
		{"ramp, behind its end", Schedule{Arrivals: "ramp", Rate: 1000, RampTo: 3000, Over: 10 * s}, 10 * s, 12 * s, 6000},
		{"ramp down", Schedule{Arrivals: "ramp", Rate: 3000, RampTo: 0, Over: 10 * s}, 0, time.Hour, 15000},
		{"a ramp that is nearly flat", Schedule{Arrivals: "ramp", Rate: 1000, RampTo: 1000.000001, Over: 10 * s}, 0, 10 * s, 10_000},
		{"first step", Schedule{Arrivals: "steps", Steps: long}, 0, 10 * s, 10_000},
		{"the pause", Schedule{Arrivals: "steps", Steps: long}, 10 * s, 15 * s, 0},
		{"third step", Schedule{Arrivals: "steps", Steps: long}, 15 * s, 20 * s, 15_000},
		{"after the steps", Schedule{Arrivals: "steps", Steps: long}, 20 * s, time.Hour, 0},
		{"bursts", Schedule{Arrivals: "bursts", Rate: 1000, Burst: Burst{500, s}}, 0, 10 * s, 15_000},
	}
	for _, tt := range tests {
		for _, even := range []bool{false, true} {
			if even && tt.schedule.Arrivals == ArrivalsBursts {
				continue // which are Poisson in between
			}
			tt.schedule.Even, tt.schedule.Seed = even, 3
			p, err := tt.schedule.Pacer()
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			got, last := 0.0, time.Duration(0)
			for due := p.Next(); due < tt.to; due = p.Next() {
				if due < last {
					t.Fatalf("%s: goes back from %v to %v", tt.name, last, due)
				}
				if last = due; due >= tt.from {
					got++
				}
			}
			tolerance := 4 * math.Sqrt(tt.want)
			if even {
				tolerance = 1
			}
			if math.Abs(got-tt.want) > tolerance {
				t.Errorf("%s, even %v: %v arrivals, want %v ± %.0f", tt.name, even, got, tt.want, tolerance)
			}
		}
	}
}

func TestSameSeedSameSchedule(t *testing.T) {
	for _, schedule := range []Schedule{
		{Arrivals: "ramp", Rate: 0, RampTo: 1000, Over: s},
		{Arrivals: "steps", Steps: []Step{{1000, s}}},
		{Arrivals: "bursts", Rate: 1000, Burst: Burst{5, 100 * ms}},
		{Arrivals: "poisson", Rate: 1000},
	} {
		draw := func(seed uint64) []time.Duration {
			schedule.Seed = seed
			p, err := schedule.Pacer()
			if err != nil {
				t.Fatal(err)
			}
			return offsets(p, 200)
		}
		if !cmp.Equal(draw(1), draw(1)) || cmp.Equal(draw(1), draw(2)) {
			t.Errorf("%s: the schedule is not a function of the seed", schedule.Arrivals)
		}
	}
}

func TestScheduleRefuses(t *testing.T) {
	for _, bad := range []Schedule{
		{}, {Arrivals: "waves", Rate: 1},
		{Arrivals: "poisson"}, {Arrivals: "constant", Rate: -1}, {Arrivals: "constant", Rate: MaxRate + 1}, {Arrivals: "poisson", Rate: math.NaN()},
		{Arrivals: "ramp", Over: s}, {Arrivals: "ramp", Rate: 1, RampTo: -1, Over: s}, {Arrivals: "ramp", Rate: 1, RampTo: math.Inf(1), Over: s}, {Arrivals: "ramp", Rate: 1},
		{Arrivals: "steps"}, {Arrivals: "steps", Steps: []Step{{0, s}}}, {Arrivals: "steps", Steps: []Step{{1, 0}}}, {Arrivals: "steps", Steps: []Step{{-1, s}, {1, s}}},
		{Arrivals: "bursts", Rate: 1}, {Arrivals: "bursts", Rate: -1, Burst: Burst{1, s}}, {Arrivals: "bursts", Burst: Burst{MaxBurst + 1, s}}, {Arrivals: "bursts", Burst: Burst{1, -s}},
		{Arrivals: "trace"},
	} {
		if p, err := bad.Pacer(); err == nil {
			t.Errorf("%+v is accepted as %T", bad, p)
		}
	}
}

func TestLengthFirstAndMean(t *testing.T) {
	steps := Schedule{Arrivals: "steps", Steps: []Step{{0, s}, {100, 3 * s}}}
	ramp := Schedule{Arrivals: "ramp", Rate: 100, RampTo: 300, Over: 10 * s}
	for _, tt := range []struct {
		name                string
		schedule            Schedule
		over, length        time.Duration
		wantFirst, wantMean float64
	}{
		{"constant", Schedule{Arrivals: "constant", Rate: 5}, s, 0, 5, 5},
		{"steps", steps, 4 * s, 4 * s, 100, 75},
		{"steps, cut", steps, 2 * s, 4 * s, 100, 50},
		{"ramp", ramp, 10 * s, 0, 100, 200},
		{"ramp, cut", ramp, 5 * s, 0, 100, 150},
		{"ramp and beyond", ramp, 20 * s, 0, 100, 250},
		{"bursts", Schedule{Arrivals: "bursts", Rate: 5, Burst: Burst{10, 2 * s}}, s, 0, 10, 10},
		{"trace", Schedule{Arrivals: "trace", Trace: []time.Duration{0, s, 2*s - 1}}, 2 * s, 2 * s, 1.5, 1.5},
	} {
		if got := tt.schedule.Length(); got != tt.length {
			t.Errorf("%s: length %v, want %v", tt.name, got, tt.length)
		}
		first, mean := tt.schedule.First(), tt.schedule.Mean(tt.over)
		if math.Abs(first-tt.wantFirst) > 1e-9 || math.Abs(mean-tt.wantMean) > 1e-9 {
			t.Errorf("%s: first %v, mean %v; want %v, %v", tt.name, first, mean, tt.wantFirst, tt.wantMean)
		}
	}
}

func TestParseStepsAndBurst(t *testing.T) {
	got, err := ParseSteps("100:10s, 0.5:1m")
	if diff := cmp.Diff([]Step{{100, 10 * s}, {0.5, time.Minute}}, got); diff != "" || err != nil {
		t.Errorf("%v; steps (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "100", "100:", ":1s", "x:1s", "100:1s,", "100:10"} {
		if got, err := ParseSteps(bad); err == nil {
			t.Errorf("ParseSteps(%q) = %v, want an error", bad, got)
		}
	}
	if got, err := ParseBurst("50/1s"); err != nil || got != (Burst{50, s}) {
		t.Errorf("ParseBurst = %v, %v", got, err)
	}
	for _, bad := range []string{"", "50", "50/", "/1s", "x/1s", "50/1"} {
		if got, err := ParseBurst(bad); err == nil {
			t.Errorf("ParseBurst(%q) = %v, want an error", bad, got)
		}
	}
}

func TestReadTrace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trace.csv.gz")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := z.Write([]byte("# seconds, tokens\n100.5,17\n\n100.5\t3\n 101 x\n1e3\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTrace(name)
	if diff := cmp.Diff([]time.Duration{0, 0, 500 * ms, 899500 * ms}, got); diff != "" || err != nil {
		t.Errorf("%v; trace (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"":           "no arrivals",
		"1\n0.5":     "line 2: offset 0.5 comes before",
		"1\n\nx":     "line 3",
		"-1":         "out of range",
		"NaN":        "out of range",
		"0\n1e300":   "line 2: offset 1e+300 is out of range",
		"a,1\n2":     "line 1",
		"# only\n\n": "no arrivals",
	} {
		if _, err := parseTrace(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// A schedule that has ended ends the attack, though nobody said how long it takes.
func TestAttackEndsWithItsSchedule(t *testing.T) {
	url, release := stalled(t)
	release()
	a := attack(t, Options{Target: fixed(t, url, 0), Pacer: Steps([]Step{{100, 50 * ms}}, Even()), Connections: 2})
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tally := a.Take(); tally.Scheduled != 5 || tally.Total().OK != 5 {
		t.Errorf("scheduled %d, ok %d; want 5, 5", tally.Scheduled, tally.Total().OK)
	}
}

// What is due in the warm-up is sent, and not counted.
func TestAttackWarmsUp(t *testing.T) {
	url, release := stalled(t)
	release()
	a := attack(t, Options{
		Target: fixed(t, url, 3), Pacer: After(50*ms, Constant(100), Constant(200)),
		Warmup: 50 * ms, Duration: 100 * ms, Connections: 2,
	})
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tally := a.Take(); tally.Scheduled != 10 || tally.Total().OK != 10 || a.arrived() != 15 {
		t.Errorf("scheduled %d, ok %d of %d arrivals; want 10, 10 of 15", tally.Scheduled, tally.Total().OK, a.arrived())
	}
}
