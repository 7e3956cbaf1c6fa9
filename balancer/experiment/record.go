package experiment

import (
	"slices"
	"time"
)

// Record is what survives a restart: sums, and of the units only which were seen. One that comes again afterwards counts in
// the epochs that follow, as it would have without the restart, and is not taken for one more. Of requests nothing
// survives: what is told of them later is refused.
type Record struct {
	Began     time.Time   `json:"began"`
	Epochs    []epoch     `json:"epochs"`
	Scales    []float64   `json:"scales"`         // of each outcome; see Ledger.scale
	Groups    [][]float64 `json:"groups"`         // see snapshot.base
	Seen      []byte      `json:"seen,omitempty"` // see saveSeen
	Excluded  []uint64    `json:"excluded"`
	Switched  uint64      `json:"switched"`
	Forgotten uint64      `json:"forgotten"`
}

// Save returns what survives a restart.
func (l *Ledger) Save() Record {
	s := l.snapshot()
	r := Record{
		Began: l.began, Epochs: s.epochs, Scales: s.scales, Seen: l.saveSeen(),
		Excluded: make([]uint64, reasons), Switched: l.switched.Load(), Forgotten: s.forgotten,
	}
	for a := range l.plan.Arms {
		for o := range l.plan.Outcomes {
			r.Groups = append(r.Groups, l.plan.groups(s, a, o))
		}
	}
	for i := range r.Excluded {
		r.Excluded[i] = l.excluded[i].Load()
	}
	return r
}

// Restore goes on where Save was, with a new epoch at weights. It returns nil where the record is of another plan.
func Restore(p *Plan, r Record, weights []float64, now time.Time) *Ledger {
	l := newLedger(p)
	l.began = r.Began
	for _, e := range r.Epochs {
		if len(e.Arms) != len(p.Arms) || len(e.Weights) != len(p.Arms) {
			return nil
		}
		for a := range e.Arms {
			if len(e.Arms[a].Outcomes) != len(p.Outcomes) {
				return nil
			}
		}
		l.epochs = append(l.epochs, e.epochHead)
		l.before = append(l.before, e.Arms)
		l.places = append(l.places, len(l.places))
	}
	if len(r.Scales) == len(p.Outcomes) {
		l.scales = slices.Clone(r.Scales)
	}
	if len(r.Groups) == len(p.Arms)*len(p.Outcomes) && !slices.ContainsFunc(r.Groups, func(g []float64) bool { return len(g) != shards }) {
		l.base = r.Groups
	}
	l.restoreSeen(r.Seen)
	for i := range min(len(r.Excluded), reasons) {
		l.excluded[i].Store(r.Excluded[i])
	}
	l.switched.Store(r.Switched)
	l.forgotten = r.Forgotten
	l.begin(weights, now)
	return l
}
