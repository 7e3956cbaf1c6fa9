package experiment

import "math"

const (
	// mostEpochs bounds what is remembered of times with the same weights.
	mostEpochs = 64
	// keptEpochs is how many are left once there are more: several are put together at a time, for that looks at
	// every pair.
	keptEpochs = 48
)

// compact puts epochs together where there are too many, never the one that is under way. Those of the same weights lose
// nothing by it, whenever they were: no arm had more of the better times than another. Of others, the two go first whose
// weights are nearest, by the units that they mix, and their weights become those by which their units have been assigned
// all in all. It changes places, by the numbers of epochs, and returns what puts sums together; nil where there is nothing
// to do. Called with mu held.
func (l *Ledger) compact(places []int) (move func([][]armSums) [][]armSums) {
	if len(l.epochs) <= mostEpochs {
		return nil
	}
	units := make([]float64, len(l.epochs))
	count := func(sums [][]armSums) {
		for e := range sums {
			for a := range sums[e] {
				units[e] += float64(sums[e][a].Units)
			}
		}
	}
	count(l.before)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		count(s.sums)
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
	for number, at := range places {
		places[number] = place[at]
	}
	move = func(from [][]armSums) [][]armSums {
		var sums [][]armSums
		for e := range from {
			for len(sums) <= place[e] {
				sums = append(sums, make([]armSums, len(l.plan.Arms)))
			}
			for a := range from[e] {
				if s := &from[e][a]; s.Outcomes != nil {
					sums[place[e]][a].add(s)
				}
			}
		}
		return sums
	}
	l.before = move(l.before)
	return move
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
