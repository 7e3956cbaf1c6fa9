package backend

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/stats"
	"weir/internal/telemetry"
)

// Drifting says how drift of predictions is watched: of each model's scores (as in
// ml_prediction_score) those of a sliding window are compared with a pinned reference, and with
// those of the model's first served version.
type Drifting struct {
	// Off watches nothing.
	Off bool
	// Window is how far back the window reaches, in twelve parts, default an hour.
	Window time.Duration
	// First is of how many scores the reference is made where none is given, default 5000.
	First int
	// Least is how many scores both sides of a comparison must have, default 500.
	Least int
	// Alpha is the share of comparisons that may find a drift where there is none, default 0.01.
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
	DefaultDriftWindow = time.Hour
	DefaultDriftFirst  = 5000
	DefaultDriftLeast  = 500
	DefaultDriftAlpha  = 0.01
	DefaultDriftFloor  = 0.1
)

// fill sets what is zero to its default.
func (d *Drifting) fill() {
	if d.Window == 0 {
		d.Window = DefaultDriftWindow
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
	case d.First < 0 || d.First > math.MaxInt32:
		return fmt.Errorf("first is %d; want 1 or more scores", d.First)
	case d.Least < 0:
		return fmt.Errorf("least is %d; want 1 or more scores", d.Least)
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

func (d *Drifting) rule() stats.DriftRule {
	return stats.DriftRule{Alpha: d.Alpha, PSI: d.PSI, KS: d.KS, Least: uint64(d.Least)}
}

// driftSlots are the parts of a window.
const driftSlots = 12

// driftCounts counts scores by their bin.
type driftCounts []atomic.Uint32

func (c driftCounts) addTo(d *stats.Distribution) {
	for bin := range c {
		if n := c[bin].Load(); n > 0 {
			d.Counts[bin] += uint64(n)
		}
	}
}

// Sources of a reference.
const (
	referenceFirst  = "first"  // the first scores
	referenceWindow = "window" // pinned from the window
	referenceGiven  = "given"  // by configuration or through the API
)

// drift holds one model's scores: of a classifier about 6 KB, of a regressor 100 KB. To add a
// score is one or two atomic additions. The ring has one slot more than the window has parts: the
// newest is being filled.
type drift struct {
	scale   stats.Scale
	current atomic.Uint32
	slots   [driftSlots + 1]driftCounts
	// first counts the first scores while the reference is made of them: room is how many are
	// still to come, and those scores are not in the window.
	room  atomic.Int64
	first atomic.Pointer[driftCounts]

	mu     sync.Mutex
	turned time.Time // when current began
	source string
	given  stats.Distribution
}

// newDrift returns the scores of a model that is read so, nil for one that gives no score.
func newDrift(r *reading, first int, now time.Time) *drift {
	d := &drift{turned: now}
	switch {
	case r.kind == classifier && r.scores >= 0:
		d.scale = stats.UnitScale
	case r.kind == regressor:
		d.scale = stats.LogScale
	default:
		return nil
	}
	for i := range d.slots {
		d.slots[i] = make(driftCounts, d.scale.Bins())
	}
	d.collect(first)
	return d
}

// collect makes the reference anew of the scores to come.
func (d *drift) collect(first int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.source, d.given = referenceFirst, stats.Distribution{}
	counts := make(driftCounts, d.scale.Bins())
	d.room.Store(0) // those that count at this moment do so into the old
	d.first.Store(&counts)
	d.room.Store(int64(first))
}

// give sets the reference.
func (d *drift) give(reference stats.Distribution, source string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room.Store(0)
	d.first.Store(nil)
	d.source, d.given = source, reference
}

// add counts a score, which is not NaN.
func (d *drift) add(score float64) {
	bin := d.scale.Bin(score)
	if d.room.Load() > 0 && d.room.Add(-1) >= 0 {
		if first := d.first.Load(); first != nil {
			(*first)[bin].Add(1)
			return
		}
	}
	d.slots[d.current.Load()][bin].Add(1)
}

// tick tells what time it is, and forgets what became older than the window.
func (d *drift) tick(now time.Time, window time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	span := window / driftSlots
	turns := now.Sub(d.turned) / span
	if turns <= 0 {
		return
	}
	d.turned = d.turned.Add(turns * span)
	for range min(turns, driftSlots+1) {
		next := (d.current.Load() + 1) % (driftSlots + 1)
		for bin := range d.slots[next] {
			d.slots[next][bin].Store(0)
		}
		d.current.Store(next)
	}
}

// window is what the scores of the last window were.
func (d *drift) window() stats.Distribution {
	all := stats.Distribution{Scale: d.scale, Counts: make(map[int]uint64)}
	for i := range d.slots {
		d.slots[i].addTo(&all)
	}
	return all
}

// reference is what the window is compared with, where it comes from, and whether it is whole.
func (d *drift) reference() (r stats.Distribution, source string, complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if first := d.first.Load(); first != nil {
		r = stats.Distribution{Scale: d.scale, Counts: make(map[int]uint64)}
		first.addTo(&r)
		return r, d.source, d.room.Load() <= 0
	}
	return d.given, d.source, true
}

// compared is the window against the reference.
func (d *drift) compared(rule stats.DriftRule) stats.Drift {
	reference, _, complete := d.reference()
	c := d.against(&reference, rule)
	if !complete {
		c.Enough, c.Drifted = false, false
	}
	return c
}

// against is the window against another distribution on the same scale.
func (d *drift) against(reference *stats.Distribution, rule stats.DriftRule) stats.Drift {
	c, err := stats.CompareDistributions(*reference, d.window(), rule)
	if err != nil {
		panic("BUG: a reference on another scale: " + err.Error())
	}
	return c
}

// comparison is one that metrics and API tell.
type comparison struct {
	model   *Model
	against string // "reference" or "version V"
	stats.Drift
}

// comparisons are all there are: of each model with its reference, and with the first served
// version of its name where that gives scores of the same kind.
func (s *Server) comparisons() []comparison {
	models := s.repository.Load()
	if models == nil {
		return nil
	}
	rule := s.options.Drift.rule()
	var all []comparison
	for _, m := range models.models {
		if m.drift == nil {
			continue
		}
		all = append(all, comparison{m, "reference", m.drift.compared(rule)})
		if first := models.of(m.Name)[0]; first != m && first.drift != nil && first.drift.scale == m.drift.scale {
			reference := first.drift.window()
			all = append(all, comparison{m, "version " + first.Version, m.drift.against(&reference, rule)})
		}
	}
	return all
}

// tickDrift moves the windows on.
func (s *Server) tickDrift(now time.Time) {
	models := s.repository.Load()
	if models == nil {
		return
	}
	for _, m := range models.models {
		if m.drift != nil {
			m.drift.tick(now, s.options.Drift.Window)
		}
	}
}

// watchDrift begins to watch a model that will be served.
func (s *Server) watchDrift(m *Model) {
	o := &s.options.Drift
	if o.Off {
		return
	}
	m.drift = newDrift(&m.reading, o.First, s.options.Now())
	if m.drift == nil {
		return
	}
	for i := range o.References {
		r := &o.References[i]
		if r.Model != m.Name || r.Version != m.Version {
			continue
		}
		if err := r.apply(m.drift, o.First); err != nil {
			s.log.Error("a drift reference does not fit its model, whose first scores are taken instead", telemetry.Exception(err))
		}
	}
}
