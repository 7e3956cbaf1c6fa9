package bench

import (
	"maps"
	"slices"
	"time"
)

// MaxIntervals is how many intervals a [Timeline] keeps. Beyond, two and two become one.
const MaxIntervals = 1200

// Interval is a stretch of an attack. Answers count when they came.
type Interval struct {
	At       float64  `json:"at"`      // its end, in seconds after the warm-up
	Seconds  float64  `json:"seconds"` // its length
	Dropped  float64  `json:"dropped"` // a second
	Lag      float64  `json:"lag_p99_ms"`
	Total    Moment   `json:"total"`
	Variants []Moment `json:"variants"`
}

// Moment is what a variant did in an interval: figures a second, and quantiles. The quantiles of
// an interval that two were merged into are the higher ones of both.
type Moment struct {
	Variant string     `json:"variant"`
	Rate    float64    `json:"rate"`
	Goodput float64    `json:"goodput"`
	Errors  float64    `json:"errors"`
	Latency *Quantiles `json:"latency_ms"` // null without an answer
}

// Timeline keeps an attack interval by interval, in bounded memory.
type Timeline struct{ Intervals []Interval }

// shortest is the length in seconds below which an interval is merged into the one before: rates over
// less say little.
const shortest = 0.5

// Add appends what a tally holds of the time between two offsets. An empty stretch of time is left out.
func (l *Timeline) Add(t *Tally, from, to time.Duration) {
	if to > from {
		l.add(newInterval(t, to.Seconds(), (to - from).Seconds()))
	}
}

func (l *Timeline) add(next Interval) {
	if n := len(l.Intervals); n > 0 && next.Seconds < shortest {
		l.Intervals[n-1] = merged(l.Intervals[n-1], next)
		return
	}
	if len(l.Intervals) == MaxIntervals {
		for i := range MaxIntervals / 2 {
			l.Intervals[i] = merged(l.Intervals[2*i], l.Intervals[2*i+1])
		}
		l.Intervals = l.Intervals[:MaxIntervals/2]
	}
	l.Intervals = append(l.Intervals, next)
}

func newInterval(t *Tally, at, seconds float64) Interval {
	i := Interval{
		At: at, Seconds: seconds, Dropped: float64(t.Dropped) / seconds,
		Lag: milliseconds(t.Lag.ValueAtQuantile(99)), Total: t.Total().moment(seconds),
	}
	for _, name := range slices.Sorted(maps.Keys(t.Variants)) {
		if rec := t.Variants[name]; !rec.empty() {
			i.Variants = append(i.Variants, rec.moment(seconds))
		}
	}
	return i
}

func (rec *Record) moment(seconds float64) Moment {
	return Moment{
		Variant: rec.Variant,
		Rate:    float64(rec.Requests) / seconds,
		Goodput: float64(rec.Good) / seconds,
		Errors:  float64(rec.Errors()) / seconds,
		Latency: quantiles(rec.Latency),
	}
}

// merged is two intervals, one after the other, as one.
func merged(a, b Interval) Interval {
	out := Interval{At: b.At, Seconds: a.Seconds + b.Seconds, Lag: max(a.Lag, b.Lag)}
	share := a.Seconds / out.Seconds
	out.Dropped = share*a.Dropped + (1-share)*b.Dropped
	out.Total = mergedMoment(a.Total, b.Total, share)
	for _, m := range a.Variants {
		out.Variants = append(out.Variants, mergedMoment(m, b.of(m.Variant), share))
	}
	for _, m := range b.Variants {
		if !slices.ContainsFunc(a.Variants, func(o Moment) bool { return o.Variant == m.Variant }) {
			out.Variants = append(out.Variants, mergedMoment(Moment{Variant: m.Variant}, m, share))
		}
	}
	return out
}

// of is what a variant did; nothing when it is not there.
func (i *Interval) of(variant string) Moment {
	for _, m := range i.Variants {
		if m.Variant == variant {
			return m
		}
	}
	return Moment{Variant: variant}
}

func mergedMoment(a, b Moment, share float64) Moment {
	return Moment{
		Variant: a.Variant,
		Rate:    share*a.Rate + (1-share)*b.Rate,
		Goodput: share*a.Goodput + (1-share)*b.Goodput,
		Errors:  share*a.Errors + (1-share)*b.Errors,
		Latency: higher(a.Latency, b.Latency),
	}
}

func higher(a, b *Quantiles) *Quantiles {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return &Quantiles{
		P50: max(a.P50, b.P50), P90: max(a.P90, b.P90), P95: max(a.P95, b.P95),
		P99: max(a.P99, b.P99), P999: max(a.P999, b.P999), Max: max(a.Max, b.Max),
	}
}
