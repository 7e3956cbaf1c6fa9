package load

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reader makes reports of the metrics that one server exposes, one reading after the other: what counts up becomes a
// rate, or a mean over what has happened since the last reading. It is not safe for concurrent use.
type Reader struct {
	preset string
	rules  []bound
	slots  []slot
	byName map[string][]int // slots by the name of their samples
	types  map[string][]int // rules of kind auto by the name of their family
	wanted []string
	lineFn func([]byte) // line, bound once

	last   time.Time // of the reading before; zero: there was none
	name   []byte    // the last one looked up, which many lines share
	found  []int     // and its slots
	report Report
}

// bound is a rule over slots.
type bound struct {
	rule
	of, per []int
	// auto alone: slots of sum and count of a histogram, and whether the family is a counter.
	counter bool
}

// slot gathers the samples of one name.
type slot struct {
	label         string // part of the labels that a sample needs to have; "": any will do
	without       bool   // or must not have
	seen          bool
	sum, greatest float64
	before        float64 // sum at the last reading
	had           bool    // and whether there was one

	each   bool // series are told apart
	byGPU  bool // by the GPU alone, whatever else their labels say
	xids   bool // and by the XID, without those of applications
	series []series
	at     int // where the next one is likely to be
}

// series is one of those of a slot.
type series struct {
	key    string // its labels, or its GPU
	value  float64
	seen   bool
	before float64
	had    bool
}

// maxSeries bounds those that are told apart, which are GPUs.
const maxSeries = 128

// Reading is what one reading of metrics has come to. It is good until the next one.
type Reading struct {
	Report *Report
	// Standing are faults of GPUs that are there now, Events those that have come up since the reading before.
	Standing, Events []string
}

// NewReader returns a reader of the metrics of a preset, where names has families, by signal, in the place of the
// preset's. It is nil for a preset that is not known.
func NewReader(preset string, names map[string]string) *Reader {
	rules := presetRules(preset)
	if rules == nil {
		return nil
	}
	r := &Reader{preset: preset, byName: map[string][]int{}, types: map[string][]int{}}
	rules = slices.DeleteFunc(rules, func(r rule) bool { return names[r.into] != "" })
	signals := make([]string, 0, len(names))
	for s := range names {
		signals = append(signals, s)
	}
	slices.Sort(signals)
	for _, s := range signals {
		rules = append(rules, ownRule(s, names[s]))
	}
	for _, rl := range rules {
		r.bind(rl)
	}
	r.lineFn = r.line
	return r
}

// bind gives a rule the slots that it needs.
func (r *Reader) bind(rl rule) {
	b := bound{rule: rl}
	if b.scale == 0 {
		b.scale = 1
	}
	each := rl.how == share || rl.how == part || rl.how >= changed
	add := func(family string) int {
		name, label, _ := strings.Cut(family, "{")
		label, without := strings.CutPrefix(label, "!")
		r.slots = append(r.slots, slot{label: label, without: without, each: each, byGPU: rl.how >= changed && rl.how != counted, xids: rl.how == counted})
		r.byName[name] = append(r.byName[name], len(r.slots)-1)
		return len(r.slots) - 1
	}
	for _, f := range rl.of {
		b.of = append(b.of, add(f))
		if rl.how == auto { // and by the names that its samples may have
			b.of = append(b.of, add(f+"_total"))
			b.per = append(b.per, add(f+"_sum"), add(f+"_count"))
			r.types[f] = append(r.types[f], len(r.rules))
		}
		if rl.how < changed {
			name, _, _ := strings.Cut(f, "{")
			r.wanted = append(r.wanted, name)
		}
	}
	for _, f := range rl.per {
		b.per = append(b.per, add(f))
	}
	r.rules = append(r.rules, b)
}

// Read reads metrics, at most limit bytes of them, as of now. buf is what they are read through, of at least 32 KiB.
// After an error the reader goes on where it was.
func (r *Reader) Read(from io.Reader, buf []byte, limit int64, now time.Time) (Reading, error) {
	for i := range r.slots {
		s := &r.slots[i]
		s.seen, s.sum, s.greatest, s.at = false, 0, math.Inf(-1), 0
		for j := range s.series {
			s.series[j].seen = false
		}
	}
	r.name = r.name[:0]
	if err := scan(from, buf, limit, r.lineFn); err != nil {
		return Reading{}, err
	}
	if !r.known() {
		return Reading{}, fmt.Errorf("none of the families of preset %s is there (%s); name those of this server in names, or another preset", r.preset, describe(r.wanted))
	}
	return r.evaluate(now), nil
}

// known reports whether there was a sample of some signal.
func (r *Reader) known() bool {
	for i := range r.rules {
		b := &r.rules[i]
		if b.how < changed && slices.ContainsFunc(b.of, func(i int) bool { return r.slots[i].seen }) ||
			b.how == auto && slices.ContainsFunc(b.per, func(i int) bool { return r.slots[i].seen }) {
			return true
		}
	}
	return false
}

func (r *Reader) line(b []byte) {
	if len(b) == 0 {
		return
	}
	if b[0] == '#' {
		if len(r.types) > 0 {
			if family, kind := typeOf(b); family != nil {
				for _, i := range r.types[unsafeString(family)] {
					r.rules[i].counter = string(kind) == "counter"
				}
			}
		}
		return
	}
	name, rest := cut(b)
	if string(name) != string(r.name) {
		r.name = append(r.name[:0], name...)
		r.found = r.byName[unsafeString(name)]
	}
	if len(r.found) == 0 {
		return
	}
	labels, v, ok := value(rest)
	if !ok {
		return
	}
	for _, i := range r.found {
		r.slots[i].take(labels, v)
	}
}

func (s *slot) take(labels []byte, v float64) {
	if s.label != "" && strings.Contains(unsafeString(labels), s.label) == s.without {
		return
	}
	s.seen = true
	s.sum += v
	s.greatest = max(s.greatest, v)
	if s.each {
		key := unsafeString(labels)
		switch {
		case s.byGPU:
			key = device(key)
		case s.xids:
			if xid, err := strconv.Atoi(labelled(key, "xid")); err != nil || applicationXID(xid) {
				return
			}
		}
		s.note(key, v)
	}
}

// note keeps the value of a series. Most servers list series in the same order each time.
func (s *slot) note(key string, v float64) {
	for n := range s.series {
		i := (s.at + n) % len(s.series)
		if e := &s.series[i]; e.key == key {
			if e.seen { // another part of the same GPU
				v = max(v, e.value)
			}
			e.value, e.seen, s.at = v, true, i+1
			return
		}
	}
	if len(s.series) < maxSeries {
		s.series = append(s.series, series{key: strings.Clone(key), value: v, seen: true})
	}
}

// evaluate makes a report of what was read, and has the next reading count from here.
func (r *Reader) evaluate(now time.Time) (out Reading) {
	r.report = Report{Named: r.report.Named[:0]}
	out.Report = &r.report
	elapsed := now.Sub(r.last)
	if r.last.IsZero() || elapsed <= 0 {
		elapsed = 0
	}
	for i := range r.rules {
		b := &r.rules[i]
		if b.how >= changed {
			r.faults(b, &out)
		} else if v, ok := r.figure(b, elapsed); ok {
			r.set(b.into, v*b.scale)
		}
	}
	for i := range r.slots {
		r.slots[i].before, r.slots[i].had = r.slots[i].sum, r.slots[i].seen
		for j := range r.slots[i].series {
			e := &r.slots[i].series[j]
			e.before, e.had = e.value, e.had || e.seen
		}
	}
	r.last = now
	return out
}

// figure is what a rule makes of its slots; ok is false where there is nothing to tell, as before the second reading of
// what counts up.
func (r *Reader) figure(b *bound, elapsed time.Duration) (v float64, ok bool) {
	switch b.how {
	case sum:
		return r.sums(b.of)
	case most:
		v = math.Inf(-1)
		for _, i := range b.of {
			v = max(v, r.slots[i].greatest)
		}
		return v, !math.IsInf(v, -1)
	case rate:
		return r.perSecond(b.of, elapsed)
	case mean:
		return r.quotient(b.of, b.per)
	case share, part:
		return r.greatestPart(b)
	}
	// auto
	if v, ok = r.quotient(b.per[:1], b.per[1:2]); ok || r.slots[b.per[0]].seen {
		if len(b.per) == 4 && r.slots[b.per[2]].seen { // two histograms add up
			w, also := r.quotient(b.per[2:3], b.per[3:4])
			v, ok = v+w, ok || also
		}
		return v, ok
	}
	if b.counter || strings.HasSuffix(b.rule.of[0], "_total") || r.slots[b.of[1]].seen {
		return r.perSecond(b.of, elapsed)
	}
	return r.sums(b.of)
}

func (r *Reader) sums(slots []int) (v float64, ok bool) {
	for _, i := range slots {
		if r.slots[i].seen {
			v, ok = v+r.slots[i].sum, true
		}
	}
	return v, ok
}

// growth is by how much counters grew since the last reading. They have not been there then, or the server has started
// anew, where ok is false.
func (r *Reader) growth(slots []int) (v float64, ok bool) {
	for _, i := range slots {
		s := &r.slots[i]
		switch {
		case !s.seen && !s.had:
			continue
		case !s.seen || s.had && s.sum < s.before:
			return 0, false
		case s.had:
			v += s.sum - s.before
		default: // it has begun meanwhile
			v += s.sum
		}
		ok = true
	}
	return v, ok && !r.last.IsZero()
}

func (r *Reader) perSecond(slots []int, elapsed time.Duration) (float64, bool) {
	v, ok := r.growth(slots)
	if !ok || elapsed == 0 {
		return 0, false
	}
	return v / elapsed.Seconds(), true
}

func (r *Reader) quotient(of, per []int) (float64, bool) {
	a, ok := r.growth(of)
	b, also := r.growth(per)
	if !ok || !also || b <= 0 {
		return 0, false
	}
	return a / b, true
}

// greatestPart compares the series of two families that have the same labels.
func (r *Reader) greatestPart(b *bound) (v float64, ok bool) {
	per := &r.slots[b.per[0]]
	for _, e := range r.slots[b.of[0]].series {
		if !e.seen {
			continue
		}
		for _, w := range per.series {
			whole := w.value
			if b.how == share {
				whole += e.value
			}
			if w.key == e.key && w.seen && whole > 0 {
				v, ok = max(v, e.value/whole), true
			}
		}
	}
	return v, ok
}

// set puts a figure where a report has it.
func (r *Reader) set(signal string, v float64) {
	switch signal {
	case signalUtilization:
		r.report.ApplicationUtilization = v
	case signalRate:
		r.report.RPS = v
	case signalErrors:
		r.report.EPS = v
	default:
		r.report.Named = append(r.report.Named, Metric{Name: signal, Value: v})
	}
}
