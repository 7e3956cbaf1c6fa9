package balancer

import (
	"fmt"
	"math"
	"testing"

	"go.uber.org/goleak"

	"weir/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// poolConfig returns a pool of endpoints 127.0.0.1:8001 and so on with these weights.
func poolConfig(name, policy string, weights ...float64) config.Pool {
	c := config.Pool{Name: name, Version: "v1", Policy: policy}
	if policy == "hash" {
		c.Hash = &config.Hash{MaxLoad: 125}
	}
	for i, w := range weights {
		c.Endpoints = append(c.Endpoints, config.Endpoint{Address: fmt.Sprintf("127.0.0.1:%d", 8001+i), Weight: w})
	}
	return c
}

// testPool returns a pool that is not probed and needs no Stop.
func testPool(policy string, weights ...float64) *Pool {
	return NewPool(poolConfig("blue", policy, weights...), nil, PoolOptions{})
}

// setDown does what a probe would.
func setDown(p *Pool, i int, down bool) {
	p.endpoints[i].down.Store(down)
	p.refresh()
}

// indexOf returns which endpoint of p e is, -1 for none.
func indexOf(p *Pool, e *Endpoint) int {
	for i := range p.endpoints {
		if p.endpoints[i] == e {
			return i
		}
	}
	return -1
}

// shares picks n times, each attempt ending at once, and counts by endpoint.
func shares(p *Pool, n int) []int {
	counts := make([]int, len(p.endpoints))
	for range n {
		e := p.Pick(nil)
		counts[indexOf(p, e)]++
		e.Done(Success, 0)
	}
	return counts
}

// checkShares fails when counts are unlikely (p < 1e-6) to be drawn with these weights.
func checkShares(t *testing.T, counts []int, weights []float64) {
	t.Helper()
	n, sum := 0, 0.0
	for i, c := range counts {
		n += c
		sum += weights[i]
	}
	chi2, freedom := 0.0, -1
	for i, c := range counts {
		expected := weights[i] / sum * float64(n)
		if expected == 0 {
			if c != 0 {
				t.Errorf("weight 0 was chosen %d times", c)
			}
			continue
		}
		freedom++
		chi2 += (float64(c) - expected) * (float64(c) - expected) / expected
	}
	if limit := chiSquareLimit(freedom); chi2 > limit {
		t.Errorf("shares %v for weights %v: chi-square %.1f with %d degrees of freedom, limit %.1f", counts, weights, chi2, freedom, limit)
	}
}

// chiSquareLimit is the value that chi-square exceeds with probability 1e-6
// (Wilson-Hilferty; at one degree of freedom it is 4 % above the exact 23.9).
func chiSquareLimit(freedom int) float64 {
	if freedom == 0 {
		return 0
	}
	const z = 4.7534 // of the normal distribution
	k := 2 / (9 * float64(freedom))
	return float64(freedom) * math.Pow(1-k+z*math.Sqrt(k), 3)
}
