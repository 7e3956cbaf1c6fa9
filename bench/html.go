package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"weir/bench/plot"
)

//go:embed report.html.tmpl
var reportTemplate string

// page is what the template of the HTML report shows.
type page struct {
	Report                  *Report
	Style                   template.CSS
	Script                  template.JS
	Subtitle, Goodput       string
	LatencyNote             string
	SplitClass              string
	Limits                  []string
	Cards, Health           []card
	Rows                    []htmlRow
	Probes                  []htmlProbe
	ProbePlot, LagPlot      template.HTML
	LatencyPlots, RatePlots []template.HTML
}

// card is a figure with its name.
type card struct{ Name, Figure, Class string }

// htmlRow is a variant, or the total.
type htmlRow struct {
	Name, Class, Requests, Share, Weight, Rate, Goodput, Errors, Accuracy string
	Latency                                                               []string
	Total, Failed                                                         bool
}

type htmlProbe struct{ Number, Rate, Answered, Latency, Errors, Kept, Class string }

// HTML writes the report as a page that needs nothing but itself: figures, tables and plots.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Parse(reportTemplate)
	if err != nil {
		return err
	}
	p := &page{Report: r, Style: plot.Style(), Script: plot.Script(), Goodput: r.goodputName(), SplitClass: "good"}
	p.Subtitle = fmt.Sprintf("%s, %.1f s%s, %d connections%s, seed %d", r.schedule(), r.Seconds, r.warmup(), r.Connections, r.streams(), r.Seed)
	p.LatencyNote = "Latency of the closed loop: from when a request was sent. A target that stalls slows the load down with it."
	if r.Rate > 0 {
		p.LatencyNote = "Latency counts from when a request was due, whether or not a connection was free then."
	}
	if r.Split != nil && r.Split.Verdict != SplitPasses {
		p.SplitClass = "bad"
	}
	if r.Generator != nil {
		p.Limits = r.Generator.Limits
	}
	p.cards()
	p.rows()
	p.health()
	p.probes()
	d := newDrawings(r)
	p.LatencyPlots = []template.HTML{d.percentiles(), d.quantilesOverTime(), d.waiting(), d.variantsOverTime()}
	p.RatePlots = []template.HTML{d.rates(), d.errors(), d.shares(), d.kinds()}
	p.LagPlot = d.lag()
	return t.Execute(w, p)
}

// goodputName heads the column of the goodput.
func (r *Report) goodputName() string {
	if r.SLO > 0 {
		return "≤" + time.Duration(r.SLO*float64(time.Millisecond)).String() + "/s"
	}
	return "good/s"
}

func (p *page) cards() {
	t := &p.Report.Total
	add := func(name, figure, class string) { p.Cards = append(p.Cards, card{name, figure, class}) }
	add("requests a second", fmt.Sprintf("%.5g", t.Rate), "")
	if p.Report.SLO > 0 {
		add("good answers a second, within "+FormatMS(p.Report.SLO), fmt.Sprintf("%.5g", t.Goodput), "")
	}
	class := "good"
	if t.Errors > 0 {
		class = "bad"
	}
	add("errors", fmt.Sprintf("%.3g%%", 100*t.ErrorRatio), class)
	if q := t.Latency; q != nil {
		for _, c := range []struct {
			name string
			ms   float64
		}{{"p50 latency", q.P50}, {"p99 latency", q.P99}, {"p99.9 latency", q.P999}} {
			class := ""
			if p.Report.SLO > 0 && c.ms > p.Report.SLO {
				class = "bad"
			}
			add(c.name, FormatMS(c.ms), class)
		}
	}
	if t.Accuracy != nil {
		add("right answers", fmt.Sprintf("%.1f%%", 100**t.Accuracy), "")
	}
}

func (p *page) rows() {
	r := p.Report
	classes := plot.Classes(variantNames(r.Variants))
	for i := range r.Variants {
		row := r.Variants[i].htmlRow()
		row.Name, row.Class = shownVariant(r.Variants[i].Variant), classes[i]
		row.Share = fmt.Sprintf("%.2f%%", 100*r.Variants[i].Share)
		if r.Variants[i].Variant == "" {
			row.Share = "–"
		}
		row.Weight = "–"
		if r.Split != nil {
			_, weight := r.Split.Shares(r.Variants[i].Variant)
			row.Weight = fmt.Sprintf("%.2f%%", 100*weight)
		}
		p.Rows = append(p.Rows, row)
	}
	total := r.Total.htmlRow()
	total.Name, total.Total = "total", true
	p.Rows = append(p.Rows, total)
}

func (l *Line) htmlRow() htmlRow {
	row := htmlRow{
		Requests: fmt.Sprint(l.Requests), Rate: fmt.Sprintf("%.1f/s", l.Rate), Goodput: fmt.Sprintf("%.1f", l.Goodput),
		Errors: fmt.Sprint(l.Errors), Failed: l.Errors > 0, Accuracy: "–",
	}
	if l.Accuracy != nil {
		row.Accuracy = fmt.Sprintf("%.1f%%", 100**l.Accuracy)
	}
	row.Latency = strings.Split(strings.TrimSuffix(l.Latency.columns(), "\t"), "\t")
	return row
}

func (p *page) health() {
	r := p.Report
	add := func(name, format string, args ...any) {
		p.Health = append(p.Health, card{Name: name, Figure: fmt.Sprintf(format, args...)})
	}
	if r.Rate > 0 {
		add("due", "%d", r.Scheduled)
		add("sent late, by more than "+LateAfter.String(), "%d", r.Total.Late)
		add("dropped: no connection was free in time", "%d", r.Dropped)
	}
	add("unfinished", "%d", r.Total.Unfinished)
	add("connections opened", "%d of %d", r.Opened, r.Connections)
	if r.Rate > 0 {
		add("lag p50 / p99 / max", "%s / %s / %s", FormatMS(r.Lag.P50), FormatMS(r.Lag.P99), FormatMS(r.Lag.Max))
	}
	if q := r.Total.Service; q != nil {
		add("service time p50 / p99, from when a request was sent", "%s / %s", FormatMS(q.P50), FormatMS(q.P99))
	}
	if g := r.Generator; g != nil {
		add("processors used", "%.2f of %d", g.Cores, g.Processors)
		add("CPU a request", "%.1f µs", g.PerRequest)
		if g.MachineBusy != nil {
			add("whole machine busy", "%.0f%%", 100**g.MachineBusy)
		}
		add("collections, longest pause", "%d, %s", g.Collections, FormatMS(g.GCPause))
	}
}

func (p *page) probes() {
	s := p.Report.Saturation
	if s == nil {
		return
	}
	for i, probe := range s.Probes {
		class := "good"
		if !probe.Kept {
			class = "bad"
		}
		p.Probes = append(p.Probes, htmlProbe{
			Number: fmt.Sprint(i + 1), Rate: fmt.Sprintf("%.1f/s", probe.Rate), Answered: fmt.Sprintf("%.1f/s", probe.Answered),
			Latency: probe.latency(), Errors: fmt.Sprintf("%.3g%%", 100*probe.ErrorRatio), Kept: probe.verdict(), Class: class,
		})
	}
	p.ProbePlot = s.plot()
}
