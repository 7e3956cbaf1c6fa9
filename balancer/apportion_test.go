package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestApportion(t *testing.T) {
	for _, test := range []struct {
		weights []float64
		total   int
		want    []int
	}{
		{[]float64{90, 10}, 10_000, []int{9000, 1000}},
		{[]float64{99.5, 0.5}, 10_000, []int{9950, 50}},
		{[]float64{99.99, 0.01}, 10_000, []int{9999, 1}},
		{[]float64{1, 1, 1}, 10_000, []int{3334, 3333, 3333}},
		{[]float64{1, 0}, 10_000, []int{10_000, 0}},
		{[]float64{1, 1e-12}, 10_000, []int{9999, 1}},
		{[]float64{1, 1e-12, 1e-300}, 10_000, []int{9998, 1, 1}},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, 10, []int{5, 5}},
		{[]float64{2, 3, 5}, 7, []int{1, 2, 4}},
		{[]float64{0, 0}, 7, []int{0, 0}},
	} {
		if got := apportion(test.weights, test.total); !slices.Equal(got, test.want) {
			t.Errorf("apportion(%v, %d) = %v, want %v", test.weights, test.total, got, test.want)
		}
	}
}

func TestApportionIsCloseAndComplete(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		weights := randomWeights(r, 1+r.IntN(8))
		places := apportion(weights, Buckets)
		sum, total := 0, 0.0
		for _, w := range weights {
			total += w
		}
		for i, n := range places {
			sum += n
			quota := weights[i] / total * Buckets
			switch {
			case weights[i] == 0 && n != 0:
				t.Fatalf("%v: weight 0 got %d places", weights, n)
			case weights[i] > 0 && n < 1:
				t.Fatalf("%v: a positive weight got no place: %v", weights, places)
			case math.Abs(float64(n)-quota) > float64(len(weights)):
				t.Fatalf("%v: %d places for a quota of %.2f", weights, n, quota)
			}
		}
		if sum != Buckets {
			t.Fatalf("%v: %d places in all", weights, sum)
		}
	}
}

// randomWeights returns n weights, some of them 0 or tiny, at least one positive.
func randomWeights(r *rand.Rand, n int) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		switch r.IntN(6) {
		case 0:
		case 1:
			weights[i] = r.Float64() / 1000
		case 2:
			weights[i] = float64(r.IntN(100))
		default:
			weights[i] = r.Float64() * 100
		}
	}
	weights[r.IntN(n)] = 1 + r.Float64()
	return weights
}
