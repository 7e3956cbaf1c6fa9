package bench

import (
	"math"
	"testing"
)

// Expected values from the tables of the chi-square distribution.
func TestChiSquare(t *testing.T) {
	tests := []struct {
		name     string
		observed []uint64
		weights  []float64
		want     float64
	}{
		{"as expected", []uint64{90, 10}, []float64{90, 10}, 1},
		{"one degree, 3.841", []uint64{5098, 4902}, []float64{1, 1}, 0.05},  // (196)²/10000 = 3.8416
		{"one degree, 6.635", []uint64{51288, 48712}, []float64{50, 50}, 0}, // 66.4: p = 3.7e-16
		{"two degrees, 4", []uint64{120, 100, 80}, []float64{1, 1, 1}, math.Exp(-4)},
		{"weight 0 unseen", []uint64{7, 0}, []float64{1, 0}, 1},
		{"weight 0 seen", []uint64{7, 1}, []float64{1, 0}, 0},
		{"nothing seen", []uint64{0, 0}, []float64{90, 10}, 1},
		{"small p", []uint64{500, 500}, []float64{90, 10}, 0},
	}
	for _, tt := range tests {
		p, err := ChiSquare(tt.observed, tt.weights)
		if err != nil || math.Abs(p-tt.want) > 2e-4 {
			t.Errorf("%s: p = %v, %v; want %v", tt.name, p, err, tt.want)
		}
	}
}

func TestUpperGamma(t *testing.T) {
	for _, tt := range []struct{ a, x, want float64 }{
		{0.5, 0, 1},
		{0.5, 1.920729410347062, 0.05}, // χ² of one degree at 3.8414588
		{0.5, 11.96405, 1e-6},          // χ² of one degree at 23.9281
		{1, 3, math.Exp(-3)},
		{5, 2, 0.947346982656289},
		{5, 20, 1.6944743633e-5},
	} {
		if got := upperGamma(tt.a, tt.x); math.Abs(got-tt.want) > 1e-3*tt.want {
			t.Errorf("Q(%v, %v) = %v, want %v", tt.a, tt.x, got, tt.want)
		}
	}
}

func TestChiSquareRefuses(t *testing.T) {
	for _, tt := range []struct {
		observed []uint64
		weights  []float64
	}{{[]uint64{1}, []float64{1, 2}}, {[]uint64{1, 1}, []float64{0, 0}}, {[]uint64{1, 1}, []float64{1, -1}}, {[]uint64{1, 1}, []float64{1, math.NaN()}}} {
		if p, err := ChiSquare(tt.observed, tt.weights); err == nil {
			t.Errorf("ChiSquare(%v, %v) = %v, want an error", tt.observed, tt.weights, p)
		}
	}
}
