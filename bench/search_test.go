package bench

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// searched runs a search against a target that keeps rates up to limit, and returns the rates it tried.
func searched(t *testing.T, start, ceiling, precision float64, keeps func(rate float64, try int) (kept, byFar bool)) (s *Search, tried []float64) {
	t.Helper()
	s, err := NewSearch(start, ceiling, precision)
	if err != nil {
		t.Fatal(err)
	}
	for rate := s.Next(); rate > 0; rate = s.Next() {
		tried = append(tried, math.Round(rate*10)/10)
		if len(tried) > MaxProbes {
			t.Fatalf("does not end: %v", tried)
		}
		s.Tell(keeps(rate, len(tried)))
	}
	return s, tried
}

// upTo keeps rates up to a limit, and misses the others by far.
func upTo(limit float64) func(float64, int) (bool, bool) {
	return func(rate float64, _ int) (bool, bool) { return rate <= limit, true }
}

func TestSearch(t *testing.T) {
	for _, tt := range []struct {
		name             string
		start, precision float64
		keeps            func(float64, int) (bool, bool)
		tried            []float64
		low, high        float64
		end              string
	}{
		{"up, then between", 100, 0.2, upTo(500), []float64{100, 200, 400, 800, 565.7, 475.7, 565.7}, 475.7, 565.7, "found"},
		{"down, then between", 100, 0.5, upTo(30), []float64{100, 50, 25, 35.4, 35.4}, 25, 35.4, "found"},
		{"at the limit", 400, 1, upTo(400), []float64{400, 800, 800}, 400, 800, "found"},
		{"the highest allowed", 300, 0.05, upTo(5000), []float64{300, 600, 1000}, 1000, 0, "the highest rate allowed was kept"},
		{"nothing", 1, 0.05, upTo(0), []float64{1, 0.5, 0.3, 0.1}, 0, 0.125, "no rate was kept"},
		{
			"missed by little twice", 100, 1,
			func(rate float64, _ int) (bool, bool) { return rate < 200, false },
			[]float64{100, 200, 200}, 100, 200, "found",
		},
		{
			"one pause", 100, 1,
			func(rate float64, try int) (bool, bool) { return try != 2 && rate < 400, false },
			[]float64{100, 200, 200, 400, 400}, 200, 400, "found",
		},
		{
			"one long pause", 100, 1,
			func(rate float64, try int) (bool, bool) { return try != 2 && rate < 400, true },
			[]float64{100, 200, 200, 400, 400}, 200, 400, "found",
		},
	} {
		s, tried := searched(t, tt.start, 1000, tt.precision, tt.keeps)
		low, high, end := s.Found()
		if diff := cmp.Diff(tt.tried, tried); diff != "" {
			t.Errorf("%s: rates tried (-want +got):\n%s", tt.name, diff)
		}
		if math.Abs(low-tt.low) > 0.1 || math.Abs(high-tt.high) > 0.1 || end != tt.end {
			t.Errorf("%s: between %v and %v, %s; want %v, %v, %s", tt.name, low, high, end, tt.low, tt.high, tt.end)
		}
	}
}

// Whatever the limit, it is between both rates, which are within the precision.
func TestSearchEnclosesTheLimit(t *testing.T) {
	for limit := 0.3; limit < 1e6; limit *= 1.37 {
		s, tried := searched(t, 100, MaxRate, 0.05, upTo(limit))
		low, high, end := s.Found()
		if low > limit || high <= limit || high > low*1.0501 || end != "found" {
			t.Errorf("limit %v: between %v and %v (%s) after %d probes", limit, low, high, end, len(tried))
		}
	}
}

// A target that answers by chance ends the search all the same.
func TestSearchEndsOnNoise(t *testing.T) {
	for seed := range uint64(200) {
		searched(t, 100, MaxRate, 0.001, func(_ float64, try int) (bool, bool) {
			return draw(seed, 1, uint64(try), 2) == 0, draw(seed, 2, uint64(try), 2) == 0
		})
	}
}

func TestNewSearchRefuses(t *testing.T) {
	for _, bad := range [][3]float64{{0, 10, 0.1}, {math.NaN(), 10, 0.1}, {10, 5, 0.1}, {10, MaxRate * 2, 0.1}, {10, 20, 0}, {10, 20, 2}} {
		if _, err := NewSearch(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("NewSearch%v is accepted", bad)
		}
	}
}

// fake is the report of a target that fails above a limit.
func fake(rate, limit float64) *Report {
	r := &Report{Rate: rate, Seconds: 1, Total: Line{OK: uint64(rate), Latency: &Quantiles{P99: 10}, ByKind: map[string]uint64{}}}
	if rate > limit {
		r.Total.Latency.P99 = 1000
		r.Total.ErrorRatio, r.Total.ByKind = 0.5, map[string]uint64{"timeout": 7}
	}
	return r
}

func objective() Objective {
	return Objective{SLO: 50 * time.Millisecond, Quantile: 99, MaxErrorRatio: 0.01}
}

func TestSaturateReportsTheHighestRateKept(t *testing.T) {
	search, err := NewSearch(100, 10_000, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	r, err := Saturate(t.Context(), search, objective(), func(rate float64) (*Report, error) { return fake(rate, 777), nil }, func(Probe) { said++ })
	if err != nil {
		t.Fatal(err)
	}
	found := r.Saturation
	if r.Rate != found.Rate || found.Rate > 777 || found.Upper <= 777 || found.Upper > 1.11*found.Rate || r.Interrupted {
		t.Errorf("report at %v, found %v to %v; want the limit of 777 between", r.Rate, found.Rate, found.Upper)
	}
	missed := slices.IndexFunc(found.Probes, func(p Probe) bool { return !p.Kept })
	if said != len(found.Probes) || missed < 0 || found.Probes[missed].Why != "p99 1.00s, 50% errors (timeout 7)" {
		t.Errorf("%d probes said of %+v; want all, and why one was not kept", said, found.Probes)
	}
	if text := found.String(); !strings.Contains(text, "is the highest rate that keeps p99 ≤ 50.0ms and errors ≤ 1%") {
		t.Errorf("says %q", text)
	}
}

func TestSaturateWhenNothingIsKept(t *testing.T) {
	search, err := NewSearch(1, 10, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Saturate(t.Context(), search, objective(), func(rate float64) (*Report, error) { return fake(rate, 0), nil }, func(Probe) {})
	if err != nil || r.Saturation.Rate != 0 || !strings.HasPrefix(r.Saturation.String(), "no rate keeps") {
		t.Errorf("%v, %v; want that no rate keeps the objective", err, r.Saturation)
	}
}

func TestSaturateInterrupted(t *testing.T) {
	search, err := NewSearch(100, 10_000, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Saturate(ctx, search, objective(), func(rate float64) (*Report, error) {
		report := fake(rate, 1e9)
		if rate == 400 {
			cancel()
			report.Interrupted = true
		}
		return report, nil
	}, func(Probe) {})
	if err != nil || !r.Interrupted || r.Saturation.Rate != 200 || len(r.Saturation.Probes) != 2 {
		t.Errorf("%v, interrupted %v, %+v; want 200/s after two probes", err, r.Interrupted, r.Saturation)
	}
	broken := errors.New("broken")
	if _, err := Saturate(t.Context(), search, objective(), func(float64) (*Report, error) { return nil, broken }, func(Probe) {}); !errors.Is(err, broken) {
		t.Errorf("error %v, want the attack's", err)
	}
}

func TestObjectiveJudges(t *testing.T) {
	report := func(p99, errorRatio float64, limits ...string) *Report {
		return &Report{Total: Line{Latency: &Quantiles{P99: p99}, ErrorRatio: errorRatio}, Generator: &Generator{Limits: limits}}
	}
	for _, tt := range []struct {
		name        string
		report      *Report
		kept, byFar bool
	}{
		{"good", report(49, 0.01), true, false},
		{"at the SLO", report(50, 0), true, false},
		{"a little slow", report(60, 0), false, false},
		{"slow by far", report(101, 0), false, true},
		{"slow by far, as the generator was", report(101, 0, "it was late"), false, false},
		{"some errors", report(1, 0.02), false, false},
		{"many errors", report(1, 0.2), false, true},
		{"no answer", &Report{}, false, true},
	} {
		if p, byFar := objective().judge(1, tt.report); p.Kept != tt.kept || byFar != tt.byFar || p.Kept != (p.Why == "") {
			t.Errorf("%s: %+v, by far %v; want %v, %v", tt.name, p, byFar, tt.kept, tt.byFar)
		}
	}
	for _, bad := range []Objective{{}, {SLO: -1, Quantile: 99}, {SLO: 1, Quantile: 98}} {
		if bad.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	for _, percent := range []float64{50, 90, 95, 99, 99.9} {
		q := &Quantiles{P50: 50, P90: 90, P95: 95, P99: 99, P999: 99.9}
		if got, ok := q.At(percent); !ok || got != percent {
			t.Errorf("At(%v) = %v, %v", percent, got, ok)
		}
	}
	if _, ok := (*Quantiles)(nil).At(99); ok {
		t.Error("a quantile of nothing is known")
	}
}
