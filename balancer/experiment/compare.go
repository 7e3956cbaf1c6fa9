package experiment

import "weir/internal/stats"

const (
	// enough is how many units of each arm an interval needs: it rests on sums over units being nearly normal.
	enough = 100
	// priorUnits is how many units what is known of all epochs weighs against the spread within one.
	priorUnits = 20
	// groupsFactor widens a variance that is estimated from as many groups as there are shards, as a quantile of Student's t
	// of 63 degrees of freedom is beyond one of the normal distribution, where they are used: between 3 and 4 standard
	// deviations. It is the square of that.
	groupsFactor = 1.15
)

// difference is an arm's outcome less the control's.
type difference struct {
	effect float64
	base   float64 // the control's mean, where they are compared
	// mine and theirs are the parts of the effect's variance that are the arm's and the control's.
	mine, theirs float64
	// The effect is sum / weight; variance is that of sum.
	weight, variance float64
}

// compare compares an arm with the control, epoch by epoch, each with the weight of the units that it compares: what all
// arms share may be another thing in every epoch. ok is false while too little is known.
func (p *Plan) compare(s *snapshot, arm, outcome int) (d difference, ok bool) {
	spread := p.spread(s.epochs, outcome)
	var first, firstOthers uint64
	var n, m, sum float64
	again := false // a unit is in several epochs
	for i := range s.epochs {
		x, c := &s.epochs[i].Arms[arm].Outcomes[outcome], &s.epochs[i].Arms[p.Control].Outcomes[outcome]
		first, firstOthers = first+x.First, firstOthers+c.First
		again = again || x.N > x.First || c.N > c.First
		w, mine, theirs := share(x, c)
		if w == 0 {
			continue
		}
		n, m = n+float64(x.N), m+float64(c.N)
		d.weight += w
		sum += mine*x.S - theirs*c.S
		d.base += theirs * c.S
		d.mine += mine * mine * float64(x.N) * spread[i][arm]
		d.theirs += theirs * theirs * float64(c.N) * spread[i][p.Control]
	}
	if min(first, firstOthers) < enough || min(n, m) < enough {
		return d, false
	}
	d.variance = d.mine + d.theirs
	if again {
		var square float64
		groups := p.groups(s, arm, outcome)
		for _, g := range groups {
			square += g * g
		}
		if square *= groupsFactor * shards / (shards - 1); square > d.variance && d.variance > 0 {
			d.mine *= square / d.variance
			d.theirs *= square / d.variance
			d.variance = square
		}
	}
	d.effect = sum / d.weight
	d.base /= d.weight
	d.mine /= d.weight * d.weight
	d.theirs /= d.weight * d.weight
	return d, true
}

// share returns what an epoch weighs in a comparison, nm/(n+m) of n units and m of the control, 0 where there are none to
// compare; and what a unit of either side weighs in it.
func share(x, c *value) (weight, mine, theirs float64) {
	n, m := float64(x.N), float64(c.N)
	if n == 0 || m == 0 {
		return 0, 0, 0
	}
	return n * m / (n + m), m / (n + m), n / (n + m)
}

// groups are the parts of a comparison's sum that come from the units of each shard, about their mean: what they add up to
// is 0, and how much they differ is how much chance has to do with the sum, also where what a unit does in one epoch says
// something about what it does in another.
func (p *Plan) groups(s *snapshot, arm, outcome int) []float64 {
	out := make([]float64, shards)
	if s.base != nil {
		copy(out, s.base[arm*len(p.Outcomes)+outcome])
	}
	if arm == p.Control {
		return out
	}
	for i := range s.epochs {
		x, c := &s.epochs[i].Arms[arm].Outcomes[outcome], &s.epochs[i].Arms[p.Control].Outcomes[outcome]
		w, mine, theirs := share(x, c)
		if w == 0 {
			continue
		}
		// The places of both in a shard's parts.
		at, other := (i*len(p.Arms)+arm)*len(p.Outcomes)+outcome, (i*len(p.Arms)+p.Control)*len(p.Outcomes)+outcome
		for g, parts := range s.parts {
			if max(at, other) < len(parts) {
				out[g] += mine * (parts[at].s - parts[at].n*x.S/float64(x.N))
				out[g] -= theirs * (parts[other].s - parts[other].n*c.S/float64(c.N))
			}
		}
	}
	return out
}

// deviation returns the sum of the squares of what units are from their mean, and how many are free to differ from it.
func (v *value) deviation() (squares, free float64) {
	if v.N < 2 {
		return 0, 0
	}
	return max(0, v.S2-v.S*v.S/float64(v.N)), float64(v.N) - 1
}

// pooled is the variance of a unit's values about the means of their epochs and arms.
func (p *Plan) pooled(epochs []epoch, outcome int) float64 {
	var squares, free float64
	yesOrNo := true
	for i := range epochs {
		for a := range p.Arms {
			v := &epochs[i].Arms[a].Outcomes[outcome]
			s, f := v.deviation()
			squares, free = squares+s, free+f
			yesOrNo = yesOrNo && v.S2 >= 0 && v.S2 <= v.S && v.S <= float64(v.N)
		}
	}
	if yesOrNo {
		// One 0 and one 1, so that arms without a failure do not count as such that cannot fail.
		squares, free = squares+0.5, free+2
	}
	if free == 0 {
		return 0
	}
	return squares / free
}

// spread is the variance of a unit's values, by epoch and arm. What an epoch has too few units to tell is taken from the
// others. No arm has less than all arms together have in the epoch: an arm with few units, in which nothing rare has
// happened yet, would be sure of its mean, and if the arms are the same, theirs is the same.
func (p *Plan) spread(epochs []epoch, outcome int) [][]float64 {
	all := p.pooled(epochs, outcome)
	together := make([]float64, len(epochs)) // by epoch
	seen, expected := make([]float64, len(p.Arms)), make([]float64, len(p.Arms))
	for i := range epochs {
		squares, free := priorUnits*all, float64(priorUnits)
		for a := range p.Arms {
			s, f := epochs[i].Arms[a].Outcomes[outcome].deviation()
			squares, free = squares+s, free+f
		}
		together[i] = squares / free
		for a := range p.Arms {
			s, f := epochs[i].Arms[a].Outcomes[outcome].deviation()
			seen[a], expected[a] = seen[a]+s, expected[a]+f*together[i]
		}
	}
	out := make([][]float64, len(epochs))
	for i := range out {
		out[i] = make([]float64, len(p.Arms))
		for a := range p.Arms {
			ratio := 1.0 // of the arm's variance to that of all, wherever there are some to tell
			if prior := priorUnits * all; prior > 0 {
				ratio = (seen[a] + prior) / (expected[a] + prior)
			}
			s, f := epochs[i].Arms[a].Outcomes[outcome].deviation()
			own := (s + priorUnits*ratio*together[i]) / (f + priorUnits)
			out[i][a] = max(own, together[i])
		}
	}
	return out
}

// scale is the variance of a unit's values as it was when there were enough units first. The boundary that intervals come
// from must not follow what they are made of, so it stays as it is for the whole experiment; that it is a bad estimate
// costs little, for it only says where the interval is tightest. It is 0 before.
func (l *Ledger) scale(s *snapshot, outcome int) float64 {
	if s.scales[outcome] > 0 {
		return s.scales[outcome]
	}
	all := l.plan.pooled(s.epochs, outcome)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.scales[outcome] == 0 {
		l.scales[outcome] = all
	}
	s.scales[outcome] = l.scales[outcome]
	return s.scales[outcome]
}

// interval returns the effect with an interval in which the true one is, at every look, with the probability 1 - alpha.
func (l *Ledger) interval(s *snapshot, arm, outcome int, alpha float64) (d difference, low, high float64, ok bool) {
	d, ok = l.plan.compare(s, arm, outcome)
	if !ok {
		return d, 0, 0, false
	}
	radius := 0.0 // of values that are all the same
	if d.variance > 0 {
		// With n units of either arm the sum has the weight n/2, and a variance of n/2 times that of a unit.
		tightest := l.scale(s, outcome) * float64(max(l.plan.Expect, enough)) / 2
		radius = stats.Boundary(d.variance, tightest, alpha) / d.weight
	}
	return d, d.effect - radius, d.effect + radius, true
}
