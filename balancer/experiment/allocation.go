package experiment

import (
	"math"
	"math/rand/v2"
)

// Allocation has weights follow what the arms have come to.
type Allocation struct {
	Floor, Cap float64 // of an arm's share, 0 to 1
	// Least is how many units each arm must have before weights change.
	Least uint64
}

// draws is how often effects are drawn for an allocation: shares are within a percent of what they would be for all.
const draws = 10_000

// Allocate returns weights by Thompson sampling: each arm gets the share that is the probability, given the data, that it
// is the best by the primary outcome, within floor and cap. Effects are drawn as they are estimated, against the control
// and epoch by epoch, so that a rate which all arms share may drift. ok is false without an Allocation, and while an arm has
// too few units.
func (l *Ledger) Allocate(rng *rand.Rand) (weights []float64, ok bool) {
	p := l.plan
	if p.Allocation == nil {
		return nil, false
	}
	s := l.snapshot()
	type normal struct{ mean, sd, shared float64 } // shared: the part of it that is the control's
	arms := make([]normal, len(p.Arms))
	for a := range arms {
		var n uint64
		for i := range s.epochs {
			n += s.epochs[i].Arms[a].Outcomes[0].First
		}
		if n < p.Allocation.Least {
			return nil, false
		}
		if a == p.Control {
			continue // effects are against it
		}
		d, known := p.compare(s, a, 0)
		if !known {
			return nil, false
		}
		if p.Outcomes[0].Decrease {
			d.effect = -d.effect
		}
		arms[a] = normal{d.effect, math.Sqrt(d.mine), math.Sqrt(d.theirs)}
	}
	shares := make([]float64, len(arms))
	for range draws {
		best, most, control := 0, math.Inf(-1), rng.NormFloat64() // which all have been compared with
		for a, n := range arms {
			if x := n.mean + n.sd*rng.NormFloat64() + n.shared*control; x > most {
				best, most = a, x
			}
		}
		shares[best] += 1.0 / draws
	}
	return within(shares, p.Allocation.Floor, p.Allocation.Cap), true
}

// within returns shares, of the same sum 1, of which none is less than floor or more than most. What is over, or missing,
// the others give in proportion.
func within(shares []float64, floor, most float64) []float64 {
	n := float64(len(shares))
	floor, most = min(floor, 1/n), max(most, 1/n)
	out := make([]float64, len(shares))
	// The factor by which all are scaled before they are clipped decides the sum, which grows with it.
	low, high := 0.0, 1e6
	for range 200 {
		factor, sum := (low+high)/2, 0.0
		for i, s := range shares {
			out[i] = min(max(s*factor, floor), most)
			sum += out[i]
		}
		if sum < 1 {
			low = factor
		} else {
			high = factor
		}
	}
	// Shares of nothing stay at the floor whatever the factor: what is missing then is for them.
	sum := 0.0
	for _, s := range out {
		sum += s
	}
	if missing := 1 - sum; missing > 1e-9 {
		room := 0.0
		for _, s := range out {
			room += most - s
		}
		for i := range out {
			out[i] += missing * (most - out[i]) / room
		}
	}
	return out
}
