// Simulations in one goroutine: the race detector has nothing to find here.

//go:build !race

package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// binomial draws how many of n happen that have the probability p.
func binomial(r *rand.Rand, n int, p float64) (k uint64) {
	if n > 50 && float64(n)*p > 30 && float64(n)*(1-p) > 30 {
		x := math.Round(float64(n)*p + r.NormFloat64()*math.Sqrt(float64(n)*p*(1-p)))
		return uint64(min(max(x, 0), float64(n)))
	}
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

// ramp is a canary of four steps of so many looks each, with requests between them; rate is the common rate of
// events, which drifts, and ratio what the canary has of it. look is called after each; it returns true to stop.
func ramp(r *rand.Rand, requests int, rate func(look int) float64, ratio float64, look func([]Events) bool) {
	var events []Events
	for step, share := range []float64{0.1, 0.3, 0.5, 0.7} {
		events = append(events, Events{Share: share})
		for i := range 10 {
			p := rate(step*10 + i)
			a := binomial(r, requests, share)
			e := &events[step]
			e.A += binomial(r, int(a), min(p*ratio, 1))
			e.B += binomial(r, requests-int(a), p)
			if look(events) {
				return
			}
		}
	}
}

// drifting is a rate whose mean is p, four times as high in the middle as at the ends.
func drifting(p float64) func(int) float64 {
	return func(look int) float64 { return p * (0.4 + 1.2*math.Sin(math.Pi*float64(look)/40)) }
}

// TestFalseAlarms: the probability of ever finding what is not there keeps to alpha, at 40 looks, with weights that
// change and a common rate that drifts; also at the bound itself, which is the hardest case.
func TestFalseAlarms(t *testing.T) {
	const runs, alpha = 2000, 0.05
	need := math.Log(1 / alpha)
	for _, c := range []struct {
		rate, ratio float64
		evidence    func([]Events) float64
	}{
		{0.01, 1, func(e []Events) float64 { return LogEvidenceAbove(e, 1) }},
		{0.05, 1, func(e []Events) float64 { return LogEvidenceAbove(e, 1) }},
		{0.05, 0.7, func(e []Events) float64 { return LogEvidenceAbove(e, 1) }},
		{0.05, 1.5, func(e []Events) float64 { return LogEvidenceAbove(e, 1.5) }},
		{0.05, 1.5, func(e []Events) float64 { return LogEvidenceBelow(e, 1.5) }},
		{0.05, 2, func(e []Events) float64 { return LogEvidenceBelow(e, 1.5) }},
	} {
		r := rand.New(rand.NewPCG(1, uint64(c.rate*1000+c.ratio*10)))
		var alarms int
		for range runs {
			ramp(r, 200, drifting(c.rate), c.ratio, func(e []Events) bool {
				if c.evidence(e) < need {
					return false
				}
				alarms++
				return true
			})
		}
		t.Logf("rate %v, ratio %v: %.2f %% false alarms at alpha %v", c.rate, c.ratio, 100*float64(alarms)/runs, alpha)
		// Three standard deviations of 2000 runs beyond alpha.
		if share := float64(alarms) / runs; share > alpha+3*math.Sqrt(alpha*(1-alpha)/runs) {
			t.Errorf("rate %v, ratio %v: %d false alarms in %d runs at alpha %v", c.rate, c.ratio, alarms, runs, alpha)
		}
	}
}

// TestDetection: what is there is found, the sooner the larger it is.
func TestDetection(t *testing.T) {
	const runs, alpha = 400, 0.01
	need := math.Log(1 / alpha)
	for _, c := range []struct {
		ratio    float64
		requests int     // a look
		found    float64 // of the runs at least
	}{{2, 500, 0.8}, {3, 500, 0.98}, {5, 200, 0.98}} {
		r := rand.New(rand.NewPCG(2, uint64(c.ratio)))
		var found int
		for range runs {
			ramp(r, c.requests, drifting(0.02), c.ratio, func(e []Events) bool {
				if LogEvidenceAbove(e, 1) < need {
					return false
				}
				found++
				return true
			})
		}
		if share := float64(found) / runs; share < c.found {
			t.Errorf("ratio %v: found in %.0f %% of the runs, less than %.0f %%", c.ratio, 100*share, 100*c.found)
		}
	}
}

// TestNothingIsNoEvidence: without events nothing is known.
func TestNothingIsNoEvidence(t *testing.T) {
	for _, e := range [][]Events{nil, {{Share: 0.1}}} {
		if a, b := LogEvidenceAbove(e, 1), LogEvidenceBelow(e, 1.5); a != 0 || b != 0 {
			t.Errorf("%v: evidence %v and %v of nothing", e, a, b)
		}
		if r, ok := EstimateRatio(e); ok {
			t.Errorf("%v: a ratio %v of nothing", e, r)
		}
		if low, high := RatioInterval(e, 0.05); low != 0 || !math.IsInf(high, 1) {
			t.Errorf("%v: the interval [%v, %v] of nothing", e, low, high)
		}
	}
}

func TestEstimateRatio(t *testing.T) {
	for _, c := range []struct {
		events []Events
		want   float64
	}{
		{[]Events{{0.1, 10, 90}}, 1},
		{[]Events{{0.1, 20, 90}}, 2},
		{[]Events{{0.5, 10, 20}, {0.1, 5, 90}}, 0.5},
		{[]Events{{0.5, 0, 20}}, 0},
		{[]Events{{0.5, 3, 0}}, math.Inf(1)},
	} {
		if got, ok := EstimateRatio(c.events); !ok || got != c.want && math.Abs(got/c.want-1) > 1e-3 {
			t.Errorf("%v: ratio %v, want %v", c.events, got, c.want)
		}
	}
}

// TestRatioIntervalCovers: the true ratio is within at all 40 looks of nearly all ramps.
func TestRatioIntervalCovers(t *testing.T) {
	const runs, alpha = 300, 0.1
	r := rand.New(rand.NewPCG(3, 3))
	var missed int
	for range runs {
		ramp(r, 300, drifting(0.05), 1.3, func(e []Events) bool {
			low, high := RatioInterval(e, alpha)
			if est, ok := EstimateRatio(e); ok && (est < low || est > high) {
				t.Fatalf("%v: the estimate %v is not within [%v, %v]", e, est, low, high)
			}
			out := 1.3 < low || 1.3 > high
			if out {
				missed++
			}
			return out
		})
	}
	if missed > 30+16 {
		t.Errorf("%d of %d ramps missed the ratio at some look, at alpha %v", missed, runs, alpha)
	}
}

// TestRateBelow: a canary without errors passes; one at the bound does so no more often than alpha.
func TestRateBelow(t *testing.T) {
	if n := uint64(math.Ceil(math.Log(10/0.01) / 0.01)); LogEvidenceRateBelow(0, n, 0.01) < math.Log(1/0.01) {
		t.Errorf("%d requests without an error do not show that they are fewer than 1 %%", n)
	}
	const runs, alpha = 1000, 0.05
	r := rand.New(rand.NewPCG(4, 4))
	var passed int
	for range runs {
		var events, requests uint64
		for range 100 {
			events, requests = events+binomial(r, 100, 0.01), requests+100
			if LogEvidenceRateBelow(events, requests, 0.01) >= math.Log(1/alpha) {
				passed++
				break
			}
		}
	}
	if passed > runs*alpha+21 {
		t.Errorf("%d of %d runs at the bound passed, at alpha %v", passed, runs, alpha)
	}
}

func TestUpperRate(t *testing.T) {
	if u := UpperRate(0, 0, 0.05); u != 1 {
		t.Errorf("nothing bounds the rate by %v", u)
	}
	before := 1.0
	for _, n := range []uint64{100, 1_000, 10_000} {
		u := UpperRate(n/100, n, 0.05)
		if u <= 0.01 || u >= before {
			t.Errorf("1 %% of %d: the upper rate is %v, after %v", n, u, before)
		}
		before = u
	}
	if before > 0.014 {
		t.Errorf("1 %% of 10000: the upper rate is %v", before)
	}
}

// TestMismatch: arms that get what their weights say raise no alarm, ones that do not raise it.
func TestMismatch(t *testing.T) {
	const runs, alpha = 1000, 0.01
	for _, c := range []struct {
		true0     float64 // where the first of two arms is meant to get 0.5, then 0.9
		alarms    int     // at least
		notBeyond int
	}{{0, 0, 20}, {0.03, 990, runs}} {
		r := rand.New(rand.NewPCG(5, 5))
		var alarms int
		for range runs {
			epochs := []Assigned{{Weights: []float64{50, 50}, Subjects: make([]uint64, 2)}, {Weights: []float64{9, 1}, Subjects: make([]uint64, 2)}}
		run:
			for i, share := range []float64{0.5, 0.9} {
				for range 50 {
					k := binomial(r, 200, share-c.true0)
					epochs[i].Subjects[0] += k
					epochs[i].Subjects[1] += 200 - k
					if LogEvidenceMismatch(epochs) >= math.Log(1/alpha) {
						alarms++
						break run
					}
				}
			}
		}
		if alarms < c.alarms || alarms > c.notBeyond {
			t.Errorf("off by %v: %d of %d runs raised the alarm", c.true0, alarms, runs)
		}
	}
}

func ExampleLogEvidenceAbove() {
	// A canary with 10 % of the requests has 12 of 40 errors: is it worse?
	events := []Events{{Share: 0.1, A: 12, B: 28}}
	ratio, _ := EstimateRatio(events)
	fmt.Printf("%.1f times the errors, evidence %.0f to 1\n", ratio, math.Exp(LogEvidenceAbove(events, 1)))
	// Output: 3.9 times the errors, evidence 170 to 1
}
