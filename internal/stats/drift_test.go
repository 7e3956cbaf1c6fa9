// One goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package stats

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// draw draws n values, of a distribution that a test names.
func draw(r *rand.Rand, n int, of func(*rand.Rand) float64) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = of(r)
	}
	return values
}

func confident(r *rand.Rand) float64 { return 1 - math.Abs(r.NormFloat64())*0.1 } // piled up below 1
func evenly(r *rand.Rand) float64    { return r.Float64() }
func priced(r *rand.Rand) float64    { return 1000 * math.Exp(0.5*r.NormFloat64()) }
func around(r *rand.Rand) float64    { return r.NormFloat64() }

func compare(t *testing.T, s Scale, reference, current []float64, rule DriftRule) Drift {
	t.Helper()
	d, err := CompareDistributions(NewDistribution(s, reference), NewDistribution(s, current), rule)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestNoDrift: without a drift no more than Alpha of the comparisons find one, at any sample size,
// though no floor holds them back. The seed is fixed; the bound leaves three standard errors to chance.
func TestNoDrift(t *testing.T) {
	f := func(name string, s Scale, of func(*rand.Rand) float64, n, rounds int, alpha float64) {
		t.Helper()
		r := rand.New(rand.NewPCG(7, uint64(n)))
		found := 0
		for range rounds {
			if compare(t, s, draw(r, 5000, of), draw(r, n, of), DriftRule{Alpha: alpha}).Drifted {
				found++
			}
		}
		t.Logf("%s, n=%d, alpha=%v: %.4f", name, n, alpha, float64(found)/float64(rounds))
		mean := float64(rounds) * alpha
		if float64(found) > mean+3*math.Sqrt(mean*(1-alpha)) {
			t.Errorf("%s, n=%d, alpha=%v: %d of %d comparisons found a drift", name, n, alpha, found, rounds)
		}
	}
	for _, alpha := range []float64{0.05, 0.01} {
		for n, rounds := range map[int]int{100: 1000, 1000: 800, 10000: 200} {
			f("confident", UnitScale, confident, n, rounds, alpha)
			f("prices", LogScale, priced, n, rounds, alpha)
		}
		f("even", UnitScale, evenly, 100, 1000, alpha)
		f("around zero", LogScale, around, 100, 1000, alpha)
	}
}

// TestPlantedShifts: shifts beyond the floors are found, smaller ones are not, however many values tell
// of them, and too few values find nothing.
func TestPlantedShifts(t *testing.T) {
	rule := DriftRule{Alpha: 0.01, PSI: 0.1, KS: 0.1, Least: 100}
	moved := func(of func(*rand.Rand) float64, factor, by float64) func(*rand.Rand) float64 {
		return func(r *rand.Rand) float64 { return factor*of(r) + by }
	}
	f := func(name string, s Scale, before, after func(*rand.Rand) float64, n int, want bool) {
		t.Helper()
		const rounds = 50
		r := rand.New(rand.NewPCG(11, uint64(n)))
		found := 0
		for range rounds {
			if compare(t, s, draw(r, 5000, before), draw(r, n, after), rule).Drifted {
				found++
			}
		}
		if share := float64(found) / rounds; want && share < 0.95 || !want && found > 0 {
			t.Errorf("%s, n=%d: found in %d of %d rounds; want %v", name, n, found, rounds, want)
		}
	}
	f("less confident", UnitScale, confident, moved(confident, 1, -0.1), 100, true)
	f("less confident", UnitScale, confident, moved(confident, 1, -0.1), 1000, true)
	f("dearer by a third", LogScale, priced, moved(priced, 4.0/3, 0), 1000, true)
	f("dearer by a third", LogScale, priced, moved(priced, 4.0/3, 0), 10000, true)
	f("wider, the mean is the same", LogScale, around, moved(around, 2, 0), 1000, true)
	f("dearer by 1%", LogScale, priced, moved(priced, 1.01, 0), 20000, false)
	f("no shift", UnitScale, confident, confident, 10000, false)
	f("too few", UnitScale, confident, moved(confident, 1, -0.5), 99, false)
}

// TestAConventionalBand: the fixed threshold of 0.1 finds a drift in most small samples that have none.
func TestAConventionalBand(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	band, calibrated := 0, 0
	for range 200 {
		d := compare(t, UnitScale, draw(r, 100, evenly), draw(r, 100, evenly), DriftRule{Alpha: 0.01})
		if d.PSI > 0.1 {
			band++
		}
		if d.PSI > d.PSIThreshold {
			calibrated++
		}
	}
	if band < 100 || calibrated > 10 {
		t.Errorf("of 200 comparisons 0.1 was exceeded in %d, and the threshold in %d", band, calibrated)
	}
}

func TestCompareDistributions(t *testing.T) {
	// Two groups: 60 and 40 of 100 against 40 and 60, by hand with half a value added to each.
	reference := Distribution{UnitScale, map[int]uint64{10: 60, 90: 40}}
	current := Distribution{UnitScale, map[int]uint64{10: 40, 90: 60}}
	got, err := CompareDistributions(reference, current, DriftRule{Alpha: 0.01, Least: 100})
	if err != nil {
		t.Fatal(err)
	}
	e, a := 60.5/101, 40.5/101
	near := func(name string, got, want, within float64) {
		t.Helper()
		if math.Abs(got-want) > within {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	near("PSI", got.PSI, 2*(a-e)*math.Log(a/e), 1e-12)
	near("its threshold", got.PSIThreshold, 0.02*7.879439, 1e-6) // χ² with 1 degree of freedom at 0.995
	near("KS", got.KS, 0.2, 1e-12)
	near("its p", got.KSP, 0.0308, 0.001) // scipy.special.kolmogorov((√50+0.12+0.11/√50)·0.2)
	if !got.Enough || !got.Drifted || got.Reference != 100 || got.Current != 100 {
		t.Errorf("got %+v", got)
	}
	if _, err := CompareDistributions(reference, Distribution{Scale: LogScale}, DriftRule{}); err == nil || !strings.Contains(err.Error(), `scale "log"`) {
		t.Errorf("of two scales: %v", err)
	}
	for _, empty := range [][2]Distribution{{reference, {Scale: UnitScale}}, {{Scale: UnitScale}, current}} {
		if got, err := CompareDistributions(empty[0], empty[1], DriftRule{Alpha: 0.01}); err != nil || got.Drifted || got.KSP != 1 {
			t.Errorf("with an empty side: %+v, %v", got, err)
		}
	}
	one := Distribution{UnitScale, map[int]uint64{99: 1000}}
	if got, err := CompareDistributions(one, one, DriftRule{Alpha: 0.01}); err != nil || got.Drifted || got.PSI != 0 {
		t.Errorf("a model that always says the same: %+v, %v", got, err)
	}
	other := Distribution{UnitScale, map[int]uint64{98: 1000}}
	if got, err := CompareDistributions(one, other, DriftRule{Alpha: 0.01, PSI: 0.1, KS: 0.1}); err != nil || !got.Drifted || got.KS != 1 {
		t.Errorf("a model that always says something else: %+v, %v", got, err)
	}
}

func TestChiSquareQuantile(t *testing.T) {
	for _, c := range []struct {
		p    float64
		k    int
		want float64
	}{{0.95, 1, 3.841459}, {0.99, 1, 6.634897}, {0.95, 2, 5.991465}, {0.99, 9, 21.665994}, {0.995, 8, 21.954955}, {0.5, 3, 2.365974}} {
		if got := chiSquareQuantile(c.p, c.k); math.Abs(got-c.want) > 1e-5 {
			t.Errorf("χ² with %d degrees of freedom at %v: %v, want %v", c.k, c.p, got, c.want)
		}
	}
}

// TestBins: bins ascend with their values, all are on the scale, and a bin of the log scale is narrow.
func TestBins(t *testing.T) {
	for _, s := range []Scale{UnitScale, LogScale} {
		values := []float64{math.Inf(-1), -1e300, -2, -1, -1e-3, -1e-300, 0, 1e-300, 1e-3, 0.1, 0.105, 0.5, 0.999, 1, 1.01, 2, 1e12, math.Inf(1)}
		last := 0
		for _, v := range values {
			bin := s.Bin(v)
			if bin < last || bin >= s.Bins() {
				t.Errorf("scale %s: %v is in bin %d of %d, after %d", s, v, bin, s.Bins(), last)
			}
			last = bin
		}
		end := s.Bins() - 1
		if s == LogScale {
			end-- // before what is no number
		}
		if s.Bin(math.Inf(-1)) != 0 || s.Bin(math.Inf(1)) != end {
			t.Errorf("scale %s: the ends are in %d and %d", s, s.Bin(math.Inf(-1)), s.Bin(math.Inf(1)))
		}
	}
	if bin := LogScale.Bin(math.NaN()); bin != LogScale.Bins()-1 {
		t.Errorf("NaN is in bin %d of %d", bin, LogScale.Bins())
	}
	// A part begins where its fraction does, exactly.
	for _, c := range []struct {
		v   float64
		bin int
	}{
		{0x1p-16, 1}, {math.Nextafter(0x1p-16, 0), 0}, {1, 16*16 + 1}, {math.Nextafter(1, 0), 16 * 16}, {1.0625, 16*16 + 2}, {math.Nextafter(1.0625, 0), 16*16 + 1},
		{math.Nextafter(0x1p40, 0), 56 * 16}, {0x1p40, 56 * 16}, {math.MaxFloat64, 56 * 16}, {math.SmallestNonzeroFloat64, 0},
	} {
		if up, down := LogScale.Bin(c.v), LogScale.Bin(-c.v); up != 56*16+c.bin || down != 56*16-c.bin {
			t.Errorf("%v and its negative are in bins %d and %d, want %d from the middle", c.v, up, down, c.bin)
		}
	}
	for v := 1e-4; v < 1e12; v *= 1.7 {
		if LogScale.Bin(v) == LogScale.Bin(v*1.0626) || LogScale.Bin(-v) == LogScale.Bin(-v*1.0626) {
			t.Errorf("%v and a sixteenth more are in one bin", v)
		}
	}
}

func TestDistributionCheck(t *testing.T) {
	f := func(message string, d Distribution) {
		t.Helper()
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("got %v; want %q in it", err, message)
		}
	}
	f(`the scale is "metric"; want "unit" or "log"`, Distribution{"metric", map[int]uint64{1: 1}})
	f("bin 100 is not on the scale", Distribution{UnitScale, map[int]uint64{100: 1}})
	f("bin -1 is not on the scale", Distribution{LogScale, map[int]uint64{-1: 1}})
	f("no value is counted", Distribution{UnitScale, map[int]uint64{3: 0}})
	f("more than", Distribution{UnitScale, map[int]uint64{3: 1 << 50, 4: 1 << 50}})
	f("more than", Distribution{UnitScale, map[int]uint64{3: math.MaxUint64, 4: 2}})
	good := NewDistribution(UnitScale, []float64{0.1, 0.9, 0.9})
	if err := good.Check(); err != nil || good.Count() != 3 {
		t.Errorf("%+v: %v", good, err)
	}
}
