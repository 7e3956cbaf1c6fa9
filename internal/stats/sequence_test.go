//go:build !race

package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestBoundary: a walk without a drift leaves the boundary at any of its steps no more often than alpha says, whether it
// has become longer than where the boundary is tightest or not; and that is about where it should be.
func TestBoundary(t *testing.T) {
	const runs, steps = 2000, 2000
	for _, alpha := range []float64{0.05, 0.2} {
		for _, tightest := range []float64{20, 200, 2000} {
			r := rand.New(rand.NewPCG(uint64(tightest), 3))
			bounds := make([]float64, steps+1)
			for v := range bounds {
				bounds[v] = Boundary(float64(v), tightest, alpha)
			}
			left := 0
			for range runs {
				sum := 0.0
				for v := 1; v <= steps; v++ {
					if sum += r.NormFloat64(); math.Abs(sum) > bounds[v] {
						left++
						break
					}
				}
			}
			share := float64(left) / runs
			t.Logf("alpha %v, tightest at %v: %.2f %% of the walks left it", alpha, tightest, 100*share)
			if share > alpha+3*math.Sqrt(alpha*(1-alpha)/runs) || share < alpha/20 {
				t.Errorf("alpha %v, tightest at %v: %d of %d walks left it", alpha, tightest, left, runs)
			}
			least, at := math.Inf(1), 0.0
			for v := 1.0; v < 100*tightest; v *= 1.05 {
				if deviations := Boundary(v, tightest, alpha) / math.Sqrt(v); deviations < least {
					least, at = deviations, v
				}
			}
			if at < 0.6*tightest || at > 1.6*tightest {
				t.Errorf("alpha %v: tightest at %v instead of %v", alpha, at, tightest)
			}
		}
	}
	for _, nothing := range []float64{Boundary(0, 1, 0.05), Boundary(1, 0, 0.05), Boundary(math.NaN(), 1, 0.05), Boundary(math.Inf(1), 1, 0.05)} {
		if !math.IsInf(nothing, 1) {
			t.Errorf("the boundary of nothing is %v", nothing)
		}
	}
}
