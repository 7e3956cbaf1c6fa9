package bench

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"

	"weir/bench/plot"
)

// Width and height of a report's plots, of which two stand side by side.
const (
	plotWidth  = 550
	plotHeight = 290
)

// drawings makes the plots of a report. A variant has the same colour in all of them.
type drawings struct {
	*Report
	names   []string // of the variants
	classes []string
	times   []float64
}

func newDrawings(r *Report) *drawings {
	d := &drawings{Report: r, names: variantNames(r.Variants)}
	d.classes = plot.Classes(d.names)
	for _, i := range r.Series {
		d.times = append(d.times, i.At-i.Seconds/2)
	}
	return d
}

func variantNames(lines []Line) []string {
	var names []string
	for i := range lines {
		names = append(names, shownVariant(lines[i].Variant))
	}
	return names
}

func shownVariant(name string) string {
	if name == "" {
		return "(none)"
	}
	return name
}

// chart is a plot over time.
func (d *drawings) chart(title, unit string) *plot.Chart {
	return &plot.Chart{Title: title, XLabel: "seconds", YLabel: unit, Width: plotWidth, Height: plotHeight}
}

// add adds a line of one value of each interval, but not one without any value.
func (d *drawings) add(c *plot.Chart, name, class string, value func(*Interval) float64) {
	s := plot.Series{Name: name, Class: class, X: d.times}
	shown := false
	for i := range d.Series {
		v := value(&d.Series[i])
		shown = shown || !math.IsNaN(v)
		s.Y = append(s.Y, v)
	}
	if shown {
		c.Series = append(c.Series, s)
	}
}

func (d *drawings) slo() []plot.Mark {
	if d.SLO == 0 {
		return nil
	}
	return []plot.Mark{{Label: "SLO " + FormatMS(d.SLO), Y: d.SLO}}
}

func (d *drawings) percentiles() template.HTML {
	c := d.chart("Latency by percentile", "ms")
	c.XLabel, c.Percentile, c.LogY, c.Marks = "percentile", true, true, d.slo()
	for i := range d.Variants {
		l := &d.Variants[i].Distribution
		if len(l.Tail) > 0 {
			c.Series = append(c.Series, plot.Series{Name: d.names[i], Class: d.classes[i], X: l.Tail, Y: l.MS})
		}
	}
	if len(c.Series) > 1 {
		l := &d.Total.Distribution
		c.Series = append(c.Series, plot.Series{Name: "total", Class: "ink", Dashed: true, X: l.Tail, Y: l.MS})
	}
	return c.SVG()
}

// waiting shows how much of the latency is service: the rest is waiting for a connection, or for
// the generator.
func (d *drawings) waiting() template.HTML {
	c := d.chart("Latency and service time by percentile", "ms, total")
	c.XLabel, c.Percentile, c.LogY = "percentile", true, true
	latency, service := &d.Total.Distribution, &d.Total.ServiceDistribution
	if len(latency.Tail) > 0 {
		c.Series = []plot.Series{
			{Name: "latency, from due", Class: "ink", X: latency.Tail, Y: latency.MS},
			{Name: "service, from sent", Class: "s5", X: service.Tail, Y: service.MS},
		}
	}
	return c.SVG()
}

func (d *drawings) quantilesOverTime() template.HTML {
	c := d.chart("Latency over time", "ms")
	c.LogY, c.Marks = true, d.slo()
	for _, q := range []struct {
		name, class string
		of          func(*Quantiles) float64
	}{
		{"max", "s4", func(q *Quantiles) float64 { return q.Max }},
		{"p99", "s2", func(q *Quantiles) float64 { return q.P99 }},
		{"p90", "s5", func(q *Quantiles) float64 { return q.P90 }},
		{"p50", "s1", func(q *Quantiles) float64 { return q.P50 }},
	} {
		d.add(c, q.name, q.class, func(i *Interval) float64 {
			if i.Total.Latency == nil {
				return math.NaN()
			}
			return q.of(i.Total.Latency)
		})
	}
	return c.SVG()
}

func (d *drawings) variantsOverTime() template.HTML {
	c := d.chart("p99 over time, by variant", "ms")
	c.LogY, c.Marks = true, d.slo()
	for k := range d.Variants {
		d.add(c, d.names[k], d.classes[k], func(i *Interval) float64 {
			if q := i.of(d.Variants[k].Variant).Latency; q != nil {
				return q.P99
			}
			return math.NaN()
		})
	}
	return c.SVG()
}

func (d *drawings) rates() template.HTML {
	c := d.chart("Rate", "requests a second")
	if len(d.Variants) > 1 {
		d.add(c, "total", "ink", func(i *Interval) float64 { return i.Total.Rate })
	}
	for k := range d.Variants {
		d.add(c, d.names[k], d.classes[k], func(i *Interval) float64 { return i.of(d.Variants[k].Variant).Rate })
	}
	if d.SLO > 0 && len(d.Series) > 0 {
		d.add(c, "good", "s5", func(i *Interval) float64 { return i.Total.Goodput })
		c.Series[len(c.Series)-1].Dashed = true
	}
	return c.SVG()
}

func (d *drawings) errors() template.HTML {
	c := d.chart("Errors", "a second")
	for k := range d.Variants {
		d.add(c, d.names[k], d.classes[k], func(i *Interval) float64 { return i.of(d.Variants[k].Variant).Errors })
	}
	if d.Dropped > 0 {
		d.add(c, "dropped", "muted", func(i *Interval) float64 { return i.Dropped })
	}
	return c.SVG()
}

// shares are what the variants got, beside their weights when those are known.
func (d *drawings) shares() template.HTML {
	b := &plot.Bars{Title: "Share", XLabel: "%", Format: "%.1f%%", Width: plotWidth}
	if d.Split == nil {
		g := plot.BarGroup{}
		for k := range d.Variants {
			if v := &d.Variants[k]; v.Variant != "" {
				g.Bars = append(g.Bars, plot.Bar{Label: d.names[k], Value: 100 * v.Share, Class: d.classes[k]})
			}
		}
		b.Groups = append(b.Groups, g)
		return b.SVG()
	}
	b.Title = fmt.Sprintf("Share of the %s, and weight", d.Split.Of)
	classes := d.splitClasses()
	for _, name := range d.Split.Variants() {
		observed, weight := d.Split.Shares(name)
		b.Groups = append(b.Groups, plot.BarGroup{Label: name, Bars: []plot.Bar{
			{Label: "share", Value: 100 * observed, Class: classes[name]},
			{Label: "weight", Value: 100 * weight, Class: "muted"},
		}})
	}
	return b.SVG()
}

func (d *drawings) splitClasses() map[string]string {
	classes := map[string]string{}
	for i, name := range d.names {
		classes[name] = d.classes[i]
	}
	return classes
}

func (d *drawings) kinds() template.HTML {
	g := plot.BarGroup{}
	kinds := slices.Collect(maps.Keys(d.Total.ByKind))
	slices.SortFunc(kinds, func(a, b string) int {
		return cmp.Or(cmp.Compare(d.Total.ByKind[b], d.Total.ByKind[a]), cmp.Compare(a, b))
	})
	for _, kind := range kinds {
		g.Bars = append(g.Bars, plot.Bar{Label: kind, Value: float64(d.Total.ByKind[kind]), Class: "s4"})
	}
	if len(kinds) == 0 {
		return "<p class=\"good\">No request failed.</p>"
	}
	return (&plot.Bars{Title: "Errors by kind", XLabel: "requests", Format: "%.0f", Groups: []plot.BarGroup{g}, Width: plotWidth}).SVG()
}

func (d *drawings) lag() template.HTML {
	c := d.chart("Lag of the generator", "ms, p99")
	d.add(c, "lag", "s5", func(i *Interval) float64 { return i.Lag })
	return c.SVG()
}

// plot draws the latency of the probes by their rate.
func (s *Saturation) plot() template.HTML {
	probes := slices.Clone(s.Probes)
	slices.SortStableFunc(probes, func(a, b Probe) int { return cmp.Compare(a.Rate, b.Rate) })
	line := plot.Series{Name: "latency"}
	for i, p := range probes {
		if p.Latency == nil || i+1 < len(probes) && probes[i+1].Rate == p.Rate {
			continue // of two probes of a rate, the second decided
		}
		line.X, line.Y = append(line.X, p.Rate), append(line.Y, *p.Latency)
	}
	c := &plot.Chart{
		Title: fmt.Sprintf("p%g latency by rate", s.Quantile), XLabel: "requests a second", YLabel: "ms", LogX: true, LogY: true,
		Series: []plot.Series{line}, Marks: []plot.Mark{{Label: "SLO " + FormatMS(s.SLO), Y: s.SLO}},
		Width: plotWidth, Height: plotHeight,
	}
	return c.SVG()
}
