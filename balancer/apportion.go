package balancer

import (
	"cmp"
	"math"
	"slices"
)

// apportion divides total places among weights by largest remainder. Every positive weight
// gets at least one place, weight 0 none. Ties go to the lower index, so the result depends
// on the arguments only. total must not be below the number of positive weights; all places
// stay unassigned (zeros) when no weight is positive.
func apportion(weights []float64, total int) []int {
	places := make([]int, len(weights))
	// Dividing by the largest first keeps the sum finite whatever the weights are.
	largest := 0.0
	for _, w := range weights {
		largest = max(largest, w)
	}
	if largest <= 0 {
		return places
	}
	sum := 0.0
	for _, w := range weights {
		sum += w / largest
	}
	left := total
	remainder := make([]float64, len(weights))
	order := make([]int, 0, len(weights))
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		quota := w / largest / sum * float64(total)
		places[i] = max(1, int(quota))
		remainder[i] = quota - math.Floor(quota)
		if quota < 1 {
			remainder[i] = 0 // has more than its due already
		}
		left -= places[i]
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(remainder[b], remainder[a]) })
	for k := 0; left > 0; k, left = (k+1)%len(order), left-1 {
		places[order[k]]++
	}
	// The places given to weights too small for one come from the largest.
	for ; left < 0; left++ {
		places[slices.Index(places, slices.Max(places))]--
	}
	return places
}
