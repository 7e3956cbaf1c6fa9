package bench

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/codes"
)

// Report is the outcome of an attack, in the shape of its JSON. Durations are milliseconds,
// rates are per second, ratios are 0 to 1.
type Report struct {
	Target      string  `json:"target"`
	Arrivals    string  `json:"arrivals"` // as of a Schedule, or closed
	Rate        float64 `json:"rate"`     // as configured, the mean where it changes; 0 for a closed loop
	Seed        uint64  `json:"seed"`
	Connections int     `json:"connections"`
	Streams     int     `json:"streams,omitempty"` // at once on each connection; 0: HTTP/1.1
	Seconds     float64 `json:"seconds"`           // what the rates are over
	Interrupted bool    `json:"interrupted"`
	SLO         float64 `json:"slo_ms,omitempty"`

	Scheduled uint64 `json:"scheduled"`
	Dropped   uint64 `json:"dropped"`
	Opened    uint64 `json:"connections_opened"`
	Lag       Lag    `json:"generator_lag_ms"`

	Total    Line   `json:"total"`
	Variants []Line `json:"variants"`
	Users    *Users `json:"users,omitempty"`

	Warmup     float64     `json:"warmup_seconds,omitempty"` // before Seconds, and not counted
	Split      *Split      `json:"split,omitempty"`
	Generator  *Generator  `json:"generator,omitempty"`
	Series     []Interval  `json:"series,omitempty"`
	Saturation *Saturation `json:"saturation,omitempty"`
}

// Lag is how late the generator itself was. When it is not small beside the latencies, the
// generator was the limit and the latencies are its own.
type Lag struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Line is one variant of a report, or its total.
type Line struct {
	Variant    string            `json:"variant"` // "" without X-Weir-Variant, and for the total
	Requests   uint64            `json:"requests"`
	Share      float64           `json:"share"` // of the requests that named a variant
	Rate       float64           `json:"rate"`
	Goodput    float64           `json:"goodput"` // good answers a second
	OK         uint64            `json:"ok"`      // answered with a status below 400 and a readable body
	Errors     uint64            `json:"errors"`
	ErrorRatio float64           `json:"error_ratio"`
	ByKind     map[string]uint64 `json:"errors_by_kind"` // failures by name, statuses as "503", those of gRPC as "grpc Unavailable"; dropped in the total
	Unfinished uint64            `json:"unfinished"`
	Late       uint64            `json:"late"`
	Bytes      uint64            `json:"bytes"`
	Judged     uint64            `json:"judged"`
	Accuracy   *float64          `json:"accuracy"` // null when nothing was judged
	Latency    *Quantiles        `json:"latency_ms"`
	Service    *Quantiles        `json:"service_ms"`
	// Distributions of both, for drawings; not in the JSON, which Quantiles are for.
	Distribution        Distribution `json:"-"`
	ServiceDistribution Distribution `json:"-"`
}

// Distribution is a duration by percentile: all but one in Tail[i] are at most MS[i] milliseconds.
type Distribution struct{ Tail, MS []float64 }

// Quantiles of a duration in milliseconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Users says how sticky the split was.
type Users struct {
	Total     int               `json:"total"`
	Seen      uint64            `json:"seen"`
	ByVariant map[string]uint64 `json:"by_variant"`
	Moved     uint64            `json:"moved"` // served by more than one variant
}

// Summarize fills the figures of a report from a tally over so much time. What the tally does
// not know (target, arrivals, rate, seed, connections, users) is the caller's to fill.
func Summarize(t *Tally, elapsed time.Duration) *Report {
	r := &Report{
		Seconds:   elapsed.Seconds(),
		SLO:       milliseconds(int64(t.slo)),
		Scheduled: t.Scheduled,
		Dropped:   t.Dropped,
		Opened:    t.Connections,
		Lag: Lag{
			P50: milliseconds(t.Lag.ValueAtQuantile(50)),
			P99: milliseconds(t.Lag.ValueAtQuantile(99)),
			Max: milliseconds(t.Lag.Max()),
		},
		Total: t.Total().line(elapsed),
	}
	if r.Dropped > 0 {
		// A dropped request belongs to no variant, and is an error to whoever wanted the answer.
		r.Total.ByKind["dropped"] = r.Dropped
		r.Total.Errors += r.Dropped
		r.Total.ErrorRatio = ratio(r.Total.Errors, r.Total.Requests+r.Dropped)
	}
	var named uint64
	for name, rec := range t.Variants {
		if name != "" {
			named += rec.Requests
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Variants)) {
		rec := t.Variants[name]
		if rec.empty() {
			continue
		}
		line := rec.line(elapsed)
		if name != "" {
			line.Share = ratio(rec.Requests, named)
		}
		r.Variants = append(r.Variants, line)
	}
	r.Total.Share = ratio(named, r.Total.Requests)
	return r
}

func (rec *Record) line(elapsed time.Duration) Line {
	l := Line{
		Variant:    rec.Variant,
		Requests:   rec.Requests,
		OK:         rec.OK,
		Errors:     rec.Errors(),
		ErrorRatio: ratio(rec.Errors(), rec.Requests),
		ByKind:     map[string]uint64{},
		Unfinished: rec.Failures[Unfinished],
		Late:       rec.Late,
		Bytes:      rec.Bytes,
		Judged:     rec.Judged,
		Latency:    quantiles(rec.Latency),
		Service:    quantiles(rec.Service),

		Distribution:        distribution(rec.Latency),
		ServiceDistribution: distribution(rec.Service),
	}
	if s := elapsed.Seconds(); s > 0 {
		l.Rate = float64(rec.Requests) / s
		l.Goodput = float64(rec.Good) / s
	}
	for f := Connect; f < Unfinished; f++ {
		if n := rec.Failures[f]; n > 0 {
			l.ByKind[f.String()] = n
		}
	}
	for status, n := range rec.Statuses {
		l.ByKind[fmt.Sprint(status)] = n
	}
	for status, n := range rec.GRPC {
		l.ByKind["grpc "+codes.Code(status).String()] = n
	}
	if rec.Judged > 0 {
		accuracy := ratio(rec.Right, rec.Judged)
		l.Accuracy = &accuracy
	}
	return l
}

// quantiles returns nil for an empty histogram.
func quantiles(h *hdrhistogram.Histogram) *Quantiles {
	if h.TotalCount() == 0 {
		return nil
	}
	v := h.ValueAtPercentilesSlice([]float64{50, 90, 95, 99, 99.9})
	return &Quantiles{
		P50: milliseconds(v[0]), P90: milliseconds(v[1]), P95: milliseconds(v[2]),
		P99: milliseconds(v[3]), P999: milliseconds(v[4]), Max: milliseconds(h.Max()),
	}
}

// distribution has four values for every halving of the tail, up to one in all.
func distribution(h *hdrhistogram.Histogram) Distribution {
	var d Distribution
	count := float64(h.TotalCount())
	if count == 0 {
		return d
	}
	percentiles := []float64{}
	for i := 0; ; i++ {
		tail := math.Exp2(float64(i) / 4)
		if tail >= count {
			break
		}
		d.Tail = append(d.Tail, tail)
		percentiles = append(percentiles, 100*(1-1/tail))
	}
	if len(percentiles) > 0 {
		for _, v := range h.ValueAtPercentilesSlice(percentiles) {
			d.MS = append(d.MS, milliseconds(v))
		}
	}
	d.Tail, d.MS = append(d.Tail, count), append(d.MS, milliseconds(h.Max()))
	return d
}

// milliseconds rounds to a tenth of a microsecond, finer than the histograms resolve.
func milliseconds(ns int64) float64 { return float64(ns/100) / 1e4 }

func ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Kinds lists the kinds of error with their counts, the most frequent first: "503 12, timeout 3".
func (l *Line) Kinds() string {
	names := slices.Collect(maps.Keys(l.ByKind))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(l.ByKind[b], l.ByKind[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, l.ByKind[name])
	}
	return strings.Join(names, ", ")
}
