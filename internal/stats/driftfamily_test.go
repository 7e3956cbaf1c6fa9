//go:build !race

package stats

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// family are quantities as the features of a model are: some hang together, some are whole numbers, are rarely anything but
// zero, go missing, have heavy tails or never change.
func family(r *rand.Rand, into []float64) {
	common := r.NormFloat64()
	for i := range into {
		own := r.NormFloat64()
		switch i % 8 {
		case 0:
			into[i] = own
		case 1:
			into[i] = 40 + 12*(0.9*common+0.44*own) // an age
		case 2:
			into[i] = 1000 * math.Exp(0.5*common+0.3*own) // a price
		case 3:
			into[i] = math.Floor(5 * r.Float64()) // a category
		case 4:
			into[i] = 0
			if r.Float64() < 0.02 { // a rare event
				into[i] = 1
			}
		case 5:
			into[i] = own / (math.Abs(r.NormFloat64()) + 1e-9) // about Cauchy's
		case 6:
			into[i] = common + 0.1*own
			if r.Float64() < 0.3 {
				into[i] = math.NaN()
			}
		case 7:
			into[i] = 3
		}
	}
}

// families draws n times what a model sees.
func families(r *rand.Rand, quantities, n int) []Distribution {
	all := make([]Distribution, quantities)
	dense := make([][]uint64, quantities)
	for i := range dense {
		dense[i] = make([]uint64, LogScale.Bins())
	}
	row := make([]float64, quantities)
	for range n {
		family(r, row)
		for i, v := range row {
			dense[i][LogScale.Bin(v)]++
		}
	}
	for i := range all {
		all[i] = Distribution{LogScale, map[int]uint64{}}
		for bin, c := range dense[i] {
			if c > 0 {
				all[i].Counts[bin] = c
			}
		}
	}
	return all
}

// anyDrift says in which share of rounds any of the quantities drifted, though none did.
func anyDrift(t *testing.T, quantities, n, rounds int, rule DriftRule) float64 {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(quantities), uint64(n)))
	found := 0
	for range rounds {
		before, now := families(r, quantities, 5000), families(r, quantities, n)
		for i := range before {
			d, err := CompareDistributions(before[i], now[i], rule)
			if err != nil {
				t.Fatal(err)
			}
			if d.Drifted {
				found++
				break
			}
		}
	}
	return float64(found) / float64(rounds)
}

// TestNoDriftOfMany: of many quantities that are watched together, and of which some hang together, any drifts by chance no
// more often than one alone may; without a part for each nearly half of the times one would. No floor holds
// them back. With WEIR_PROVE there are many more rounds, quantities and sizes.
func TestNoDriftOfMany(t *testing.T) {
	type row struct {
		quantities, n, rounds int
		alpha                 float64
	}
	rows := []row{{9, 500, 250, 0.05}, {33, 500, 80, 0.05}}
	if os.Getenv("WEIR_PROVE") != "" {
		rows = nil
		for _, quantities := range []int{1, 5, 9, 33} {
			for _, n := range []int{100, 500, 5000} {
				rows = append(rows, row{quantities, n, 3000, 0.05}, row{quantities, n, 3000, 0.01})
			}
		}
	}
	for _, c := range rows {
		rate := anyDrift(t, c.quantities, c.n, c.rounds, DriftRule{Alpha: c.alpha}.Among(c.quantities))
		t.Logf("%d quantities, n=%d, alpha=%v: %.4f", c.quantities, c.n, c.alpha, rate)
		if most := c.alpha + 3*math.Sqrt(c.alpha*(1-c.alpha)/float64(c.rounds)); rate > most {
			t.Errorf("%d quantities, n=%d, alpha=%v: in %.4f of %d rounds one drifted", c.quantities, c.n, c.alpha, rate, c.rounds)
		}
	}
	if rate := anyDrift(t, 33, 500, 60, DriftRule{Alpha: 0.05}); rate < 0.25 {
		t.Errorf("without a part for each, one of 33 drifted in %.2f of the rounds: there is nothing to correct", rate)
	}
}

// TestOneOfMany: among 33 quantities, of which one moves, that one is found, and no other, with the floors as they are by default.
func TestOneOfMany(t *testing.T) {
	rule := DriftRule{Alpha: 0.01, PSI: 0.1, KS: 0.1, Least: 500}.Among(33)
	r := rand.New(rand.NewPCG(5, 9))
	for range 20 {
		before, now := families(r, 33, 5000), families(r, 33, 500)
		moved := make([]float64, 500)
		for i := range moved {
			moved[i] = 46 + 12*r.NormFloat64() // half a standard deviation older
		}
		now[1] = NewDistribution(LogScale, moved)
		missing := NewDistribution(LogScale, moved)
		missing.Counts[LogScale.Bin(math.NaN())] = 100 // one in six has become unknown
		for i := range before {
			d, err := CompareDistributions(before[i], now[i], rule)
			if err != nil {
				t.Fatal(err)
			}
			if d.Drifted != (i == 1) {
				t.Errorf("quantity %d: drifted %v, PSI %v of %v, KS %v", i, d.Drifted, d.PSI, d.PSIThreshold, d.KS)
			}
		}
		same := NewDistribution(LogScale, moved)
		same.Counts[LogScale.Bin(45)]++
		if d, err := CompareDistributions(same, missing, rule); err != nil || !d.Drifted {
			t.Errorf("values that go missing: %+v, %v", d, err)
		}
	}
}
