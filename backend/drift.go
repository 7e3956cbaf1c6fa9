package backend

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"weir/backend/tensor"
	"weir/internal/stats"
	"weir/internal/telemetry"
)

// Drifting says how drift of predictions is watched: each model's scores (as in
// ml_prediction_score) and features of a sliding window are compared with a pinned reference, and with
// those of the model's first served version in the same time.
type Drifting struct {
	// Off watches nothing.
	Off bool
	// Features is how many features of a model are watched, its first ones, default and at most 32; negative for none.
	Features int
	// FeatureNames are watched in their place, by the names of ml_feature_statistics, of models that have them and
	// however wide their rows are; at most 32.
	FeatureNames []string
	// Window is how far back the window reaches, in twelve parts, default an hour.
	Window time.Duration
	// First is of how many values the reference is made where none is given, default 5000.
	First int
	// Least is how many values both sides of a comparison must have, default 500.
	Least int
	// Alpha is how often a drift may be found where there is none, default 0.01: in a model's scores or any of its
	// features, in a comparison of all of them with one other side.
	Alpha float64
	// PSI and KS are the least differences that count, defaults 0.1 each.
	PSI, KS float64
	// References are given from the start.
	References []DriftReference
	// Control lets clients set references.
	Control bool
}

// Defaults of Drifting.
const (
	DefaultDriftWindow   = time.Hour
	DefaultDriftFeatures = maxFeatures
	DefaultDriftFirst    = 5000
	DefaultDriftLeast    = 500
	DefaultDriftAlpha    = 0.01
	DefaultDriftFloor    = 0.1
)

// fill sets what is zero to its default.
func (d *Drifting) fill() {
	if d.Window == 0 {
		d.Window = DefaultDriftWindow
	}
	if d.Features == 0 {
		d.Features = DefaultDriftFeatures
	}
	if d.First == 0 {
		d.First = DefaultDriftFirst
	}
	if d.Least == 0 {
		d.Least = DefaultDriftLeast
	}
	for _, v := range []struct {
		value *float64
		or    float64
	}{{&d.Alpha, DefaultDriftAlpha}, {&d.PSI, DefaultDriftFloor}, {&d.KS, DefaultDriftFloor}} {
		if *v.value == 0 {
			*v.value = v.or
		}
	}
}

// Check says what is wrong; a zero is the default.
func (d *Drifting) Check() error {
	switch {
	case d.Window != 0 && d.Window < driftSlots*time.Second:
		return fmt.Errorf("window is %v; want at least %d s", d.Window, driftSlots)
	case d.Features > maxFeatures || len(d.FeatureNames) > maxFeatures:
		return fmt.Errorf("features is %d, with %d names; want at most %d", d.Features, len(d.FeatureNames), maxFeatures)
	case slices.Contains(d.FeatureNames, ""):
		return errors.New("a name of a feature is empty")
	case d.First < 0 || d.First > math.MaxInt32:
		return fmt.Errorf("first is %d; want 1 or more values", d.First)
	case d.Least < 0:
		return fmt.Errorf("least is %d; want 1 or more values", d.Least)
	case d.Alpha < 0 || d.Alpha >= 1:
		return fmt.Errorf("alpha is %v; want more than 0 and less than 1", d.Alpha)
	case d.PSI < 0 || d.KS < 0 || d.KS > 1:
		return fmt.Errorf("psi is %v and ks %v; want 0 or more, ks at most 1", d.PSI, d.KS)
	}
	for i := range d.References {
		if err := d.References[i].check(); err != nil {
			return fmt.Errorf("reference %d: %w", i, err)
		}
	}
	return nil
}

// rule is when one of a model's quantities drifts, of which there are that many.
func (d *Drifting) rule(quantities int) stats.DriftRule {
	return stats.DriftRule{Alpha: d.Alpha, PSI: d.PSI, KS: d.KS, Least: uint64(d.Least)}.Among(quantities)
}

// widestNamed bounds the rows among whose numbers names are looked up.
const widestNamed = 1 << 16

// featuresOf are the features of a model to watch, each with a name of its own.
func (d *Drifting) featuresOf(sig *tensor.Signature) []feature {
	var all []feature
	if len(d.FeatureNames) > 0 {
		all = slices.DeleteFunc(featuresOf(sig, widestNamed), func(f feature) bool { return !slices.Contains(d.FeatureNames, f.name) })
	} else {
		all = featuresOf(sig, maxFeatures)
		all = all[:min(len(all), max(d.Features, 0))]
	}
	var distinct []feature
	for _, f := range all { // a series of metrics has one value, and no name is that of the scores
		if f.name != "" && !slices.ContainsFunc(distinct, func(has feature) bool { return has.name == f.name }) {
			distinct = append(distinct, f)
		}
	}
	return distinct
}

// compared is what came in the window after the reference was made, against the reference.
func (l *look) compared(rule stats.DriftRule) stats.Drift {
	c := against(&l.reference, &l.fresh, rule)
	if !l.complete {
		c.Enough, c.Drifted = false, false
	}
	return c
}

// against compares two distributions of one scale.
func against(reference, current *stats.Distribution, rule stats.DriftRule) stats.Drift {
	c, err := stats.CompareDistributions(*reference, *current, rule)
	if err != nil {
		panic("BUG: a reference on another scale: " + err.Error())
	}
	return c
}

// comparison is one that metrics and API tell.
type comparison struct {
	model   *Model
	feature string // "" for the scores
	against string // "reference" or "version V"
	stats.Drift
}

// compare makes all comparisons of the model: of the scores and of each feature with its reference and, where first is another
// version, with what that one has in its place. looks are the model's.
func (o *Drifting) compare(m, first *Model, looks []look) []comparison {
	if len(looks) == 0 {
		return nil
	}
	rule := o.rule(len(looks))
	var theirs, ours map[string]stats.Distribution
	if first != m {
		since := together(first.watch, m.watch)
		theirs, ours = first.watch.since(since), m.watch.since(since)
	}
	var all []comparison
	for i := range looks {
		l := &looks[i]
		all = append(all, comparison{m, l.name, "reference", l.compared(rule)})
		if reference, ok := theirs[l.name]; ok && reference.Scale == l.reference.Scale {
			current := ours[l.name]
			all = append(all, comparison{m, l.name, "version " + first.Version, against(&reference, &current, rule)})
		}
	}
	return all
}

// together is the number of the first slot in whose time both saw all that came. Of two that were born in one slot it is that
// one: models that are loaded one after the other are served at the same time.
func together(a, b *watch) int64 {
	if a.born == b.born {
		return a.born
	}
	return max(a.born, b.born) + 1
}

// turn is the number of the slot that is filled at this time.
func (s *Server) turn(now time.Time) int64 {
	return max(0, int64(now.Sub(s.started)/(s.options.Drift.Window/driftSlots)))
}

// tickDrift moves the windows on.
func (s *Server) tickDrift(now time.Time) {
	models := s.repository.Load()
	if models == nil {
		return
	}
	for _, m := range models.models {
		m.watch.tick(s.turn(now))
	}
}

// watchModel begins to watch a model that will be served.
func (s *Server) watchModel(m *Model) {
	o := &s.options.Drift
	m.watch = newWatch(m, o, s.turn(s.options.Now()))
	s.metrics.features.begin(m.watch)
	for i := range o.References {
		r := &o.References[i]
		if r.Model != m.Name || r.Version != m.Version {
			continue
		}
		if f := r.apply(m.watch, o.First); f != nil {
			s.log.Error("a drift reference does not fit its model, whose first values are taken instead", telemetry.Exception(f))
		}
	}
}
