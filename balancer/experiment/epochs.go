package experiment

import "math"

const (
	// mostEpochs bounds what is remembered of times with the same weights.
	mostEpochs = 256
	// keptEpochs is how many are left once there are more: several are put together at a time, for that takes a look at
	// every unit.
	keptEpochs = 192
)

// compact puts epochs together where there are too many, never the one that is under way. Those of the same weights lose
// nothing by it, whenever they were: no arm had more of the better times than another. Of others, the two go first whose
// weights are nearest, by the units that they mix, and their weights become those by which their units have been assigned
// all in all. Called with mu held.
func (l *Ledger) compact() {
	if len(l.epochs) <= mostEpochs {
		return
	}
	units := make([]float64, len(l.epochs))
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for e := range s.sums {
			for a := range s.sums[e] {
				units[e] += float64(s.sums[e][a].Units)
			}
		}
		s.mu.Unlock()
	}
	heads := make([]epochHead, len(l.epochs))
	place := make([]int, len(l.epochs)) // by an epoch's old place
	for e, head := range l.epochs {
		heads[e], place[e] = epochHead{head.Since, shares(head.Weights)}, e
	}
	open := len(heads) - 1
	heads[open] = l.epochs[open] // as it is, for Reweigh to compare with
	for len(heads) > keptEpochs {
		into, gone := nearest(heads[:len(heads)-1], units)
		heads[into].Weights = mixed(heads[into].Weights, heads[gone].Weights, units[into], units[gone])
		units[into] += units[gone]
		heads, units = append(heads[:gone], heads[gone+1:]...), append(units[:gone], units[gone+1:]...)
		for e, at := range place {
			switch {
			case at == gone:
				place[e] = into
			case at > gone:
				place[e]--
			}
		}
	}
	l.epochs = heads
	for i := range l.shards {
		l.shards[i].move(place, len(heads), len(l.plan.Arms))
	}
}

// move has every epoch at its new place, of n.
func (s *shard) move(place []int, n, arms int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := make([][]armSums, n)
	for e := range sums {
		sums[e] = make([]armSums, arms)
	}
	for e := range s.sums {
		for a := range s.sums[e] {
			if from := &s.sums[e][a]; from.Outcomes != nil {
				sums[place[e]][a].add(from)
			}
		}
	}
	s.sums = sums
	for _, u := range s.units.Values() {
		u.epoch = place[u.epoch]
	}
}

// nearest returns the two epochs, the earlier one first, that lose least by being one.
func nearest(heads []epochHead, units []float64) (into, gone int) {
	least := math.Inf(1)
	for j := 1; j < len(heads); j++ {
		for i := range j {
			cost := 0.0
			if n := units[i] + units[j]; n > 0 {
				cost = apart(heads[i].Weights, heads[j].Weights) * units[i] * units[j] / n
			}
			if cost < least {
				into, gone, least = i, j, cost
			}
		}
	}
	return into, gone
}

// apart is how different two shares are, by the greatest difference of an arm's.
func apart(a, b []float64) (most float64) {
	for i := range a {
		most = max(most, math.Abs(a[i]-b[i]))
	}
	return most
}

// mixed are the shares by which n units were assigned by a, and m by b; without any, those of b.
func mixed(a, b []float64, n, m float64) []float64 {
	if n+m == 0 {
		return b
	}
	out := make([]float64, len(a))
	for i := range a {
		out[i] = (n*a[i] + m*b[i]) / (n + m)
	}
	return out
}

// shares are weights of the sum 1.
func shares(weights []float64) []float64 {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	out := make([]float64, len(weights))
	if sum > 0 {
		for i, w := range weights {
			out[i] = w / sum
		}
	}
	return out
}
