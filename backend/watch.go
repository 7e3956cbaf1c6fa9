package backend

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"weir/backend/tensor"
	"weir/internal/stats"
)

// watch is what is seen of one model's predictions: the statistics of its features, and the series whose drift is
// watched. A request takes one lock, whatever its features and rows, of one of a few parts, which it shares with the requests of
// the same CPU; who reads puts the parts together. So nothing is slowed down by requests on other CPUs.
type watch struct {
	version  string
	features []watched
	named    []string // the features with statistics, in the order of the parts' statistics
	scores   bool     // series[0] are the scores

	parts []*part
	// near has the part that this CPU used last. What the pool loses is still in parts, so New makes nothing.
	near sync.Pool
	next atomic.Uint32

	mu     sync.Mutex
	series []*series
	// turn is the number of the slot that is being filled, born the first one. All watches of a server count alike, so that
	// the same number is the same time.
	turn, born int64
}

// watched is a feature that is looked at.
type watched struct {
	feature
	statistic int // its place in the parts' statistics, -1: has none
	series    int // its place in the series, -1: has none
}

// part is what some requests have added.
type part struct {
	mu         sync.Mutex
	statistics []statistic
	// pending are values that are not in the series yet: the series in the upper half, the bin in the lower. In their order, so
	// that a reference made of the first values is made of these.
	pending []uint32
}

const (
	// mostPending bounds a part's memory, to 16 KB. Beyond it the values go to their series, behind the lock of all parts.
	mostPending = 4096
	// mostParts bounds a watch's memory.
	mostParts = 16
)

// newWatch returns what watches the model. turn is the number of the slot to fill.
func newWatch(m *Model, o *Drifting, turn int64) *watch {
	w := &watch{version: m.Version, turn: turn, born: turn}
	statistics := featuresOf(&m.signature, maxFeatures)
	for _, f := range statistics[:min(len(statistics), maxFeatures)] {
		w.features = append(w.features, watched{f, len(w.named), -1})
		w.named = append(w.named, f.name)
	}
	if !o.Off {
		if scale := scoreScale(&m.reading); scale != "" {
			w.scores = true
			w.series = append(w.series, newSeries("", scale, o.First))
		}
		for _, f := range o.featuresOf(&m.signature) {
			at := slices.IndexFunc(w.features, func(has watched) bool { return has.feature == f })
			if at < 0 {
				at = len(w.features)
				w.features = append(w.features, watched{f, -1, -1})
			}
			w.features[at].series = len(w.series)
			w.series = append(w.series, newSeries(f.name, stats.LogScale, o.First))
		}
	}
	for range min(runtime.GOMAXPROCS(0), mostParts) {
		w.parts = append(w.parts, &part{statistics: make([]statistic, len(w.named))})
	}
	w.near.New = func() any { return w.parts[int(w.next.Add(1))%len(w.parts)] }
	return w
}

// scoreScale is the scale of the scores of a model that is read so, "" for one that gives none.
func scoreScale(r *reading) stats.Scale {
	switch {
	case r.kind == classifier && r.scores >= 0:
		return stats.UnitScale
	case r.kind == regressor:
		return stats.LogScale
	}
	return ""
}

// enter locks a part to add to. The caller leaves it.
func (w *watch) enter() *part {
	p := w.near.Get().(*part)
	p.mu.Lock()
	return p
}

func (w *watch) leave(p *part) {
	p.mu.Unlock()
	w.near.Put(p)
}

// addFeatures adds those of all rows of a request. The caller has entered p.
func (w *watch) addFeatures(p *part, inputs []tensor.Tensor) {
	for i := range w.features {
		f := &w.features[i]
		t := &inputs[f.input]
		for at, n := f.at, t.Len(); at < n; at += f.width {
			v := t.Float64(at)
			if f.statistic >= 0 && math.Abs(v) <= math.MaxFloat64 { // a number, and finite
				p.statistics[f.statistic].add(v)
			}
			if f.series >= 0 {
				w.pend(p, f.series, stats.LogScale.Bin(v))
			}
		}
	}
}

// addScore adds a prediction's score, which is not NaN. The caller has entered p.
func (w *watch) addScore(p *part, score float64) {
	if w.scores {
		w.pend(p, 0, w.series[0].scale.Bin(score))
	}
}

func (w *watch) pend(p *part, series, bin int) {
	if len(p.pending) == mostPending {
		w.take(p)
	}
	p.pending = append(p.pending, uint32(series)<<16|uint32(bin))
}

// take brings what is pending into the series. The caller has entered p.
func (w *watch) take(p *part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := w.turn % slots
	for _, v := range p.pending {
		w.series[v>>16].count(int(v&0xffff), slot)
	}
	p.pending = p.pending[:0]
}

// settled locks mu when the series hold all that was added until now.
func (w *watch) settled() {
	for _, p := range w.parts {
		p.mu.Lock()
		if len(p.pending) > 0 {
			w.take(p)
		}
		p.mu.Unlock()
	}
	w.mu.Lock()
}

// addStatistics adds what was seen of the features.
func (w *watch) addStatistics(all map[featureKey]statistic) {
	for i, name := range w.named {
		key := featureKey{name, w.version}
		s := all[key]
		for _, p := range w.parts {
			p.mu.Lock()
			s.merge(&p.statistics[i])
			p.mu.Unlock()
		}
		all[key] = s
	}
}

// tick begins the slot of this number, and forgets what became older than the window.
func (w *watch) tick(turn int64) {
	w.settled() // what was added before belongs into the slot before
	defer w.mu.Unlock()
	for n := max(w.turn+1, turn-driftSlots); n <= turn; n++ {
		for _, s := range w.series {
			s.slots[n%slots] = slot{}
		}
	}
	w.turn = max(w.turn, turn)
}

// look is a series as it is at a moment.
type look struct {
	name string // of the feature, "" for the scores
	// window is all that came in the window, fresh what of it is not in the reference.
	window, fresh, reference stats.Distribution
	source                   string
	complete                 bool
}

// looks are all series, those of the scores first.
func (w *watch) looks() []look {
	w.settled()
	defer w.mu.Unlock()
	all := make([]look, len(w.series))
	for i, s := range w.series {
		all[i] = look{name: s.name, window: s.window(true, nil), fresh: s.window(false, nil), source: s.source}
		all[i].reference, all[i].complete = s.reference()
	}
	return all
}

// since is what came of each series in the slots from that number on, by the name of the feature.
func (w *watch) since(turn int64) map[string]stats.Distribution {
	w.settled()
	defer w.mu.Unlock()
	all := make(map[string]stats.Distribution, len(w.series))
	for _, s := range w.series {
		all[s.name] = s.window(true, func(at int64) bool { return w.numberOf(at) >= turn })
	}
	return all
}

// numberOf is the number of the slot that is kept at this place. Called with mu held.
func (w *watch) numberOf(at int64) int64 {
	return w.turn - ((w.turn-at)%slots+slots)%slots
}
