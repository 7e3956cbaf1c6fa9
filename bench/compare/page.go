package compare

import (
	"embed"
	"html/template"
	"io"

	"weir/bench/plot"
)

//go:embed page.html.tmpl
var pages embed.FS

// page is what the template shows.
type page struct {
	Style           template.CSS
	Conditions      string
	Versions, Notes []string
	Plots           []template.HTML
	Tables          []pageTable
}

type pageTable struct {
	Title, Detail string
	Head          []string
	Rows          [][]string
	Doubts        []string
}

// HTML writes a page with plots and tables that needs nothing beside it.
func (r *Result) HTML(w io.Writer) error {
	t, err := template.ParseFS(pages, "page.html.tmpl")
	if err != nil {
		return err
	}
	p := page{Style: plot.Style(), Conditions: r.conditions(), Notes: r.Notes, Plots: r.plots()}
	for _, name := range r.measured() {
		if v := r.Versions[name]; v != "" {
			p.Versions = append(p.Versions, name+": "+v)
		}
	}
	for _, load := range r.Workloads {
		table := pageTable{Title: load.Name + ": " + load.Title, Detail: load.Detail, Head: head(load), Doubts: r.doubts(load)}
		for i := range r.Summary {
			if s := &r.Summary[i]; s.Workload == load.Name {
				table.Rows = append(table.Rows, s.cells(load))
			}
		}
		p.Tables = append(p.Tables, table)
	}
	return t.Execute(w, p)
}

// plots draws the ratios, and the memory of idle connections where it was measured.
func (r *Result) plots() []template.HTML {
	cpu := plot.Bars{Title: "CPU time for a request ÷ " + Reference + "'s", XLabel: "less is better; whiskers are the range over the rounds", Reference: 1, Format: "%.2f"}
	p50 := plot.Bars{Title: "Median latency ÷ " + Reference + "'s", XLabel: cpu.XLabel, Reference: 1, Format: "%.2f"}
	idle := plot.Bars{Title: "Memory of an idle connection, or of a stream", XLabel: "KB", Format: "%.1f"}
	for _, load := range r.Workloads {
		label := load.Name + ": " + load.Title
		cpu.Groups = append(cpu.Groups, plot.BarGroup{Label: label, Bars: r.bars(load, (*Summary).cpuBar)})
		p50.Groups = append(p50.Groups, plot.BarGroup{Label: label, Bars: r.bars(load, (*Summary).p50Bar)})
		if load.Idle > 0 || load.Streams > 0 {
			idle.Groups = append(idle.Groups, plot.BarGroup{Label: label, Bars: r.bars(load, (*Summary).idleBar)})
		}
	}
	plots := []template.HTML{cpu.SVG(), p50.SVG()}
	if len(idle.Groups) > 0 {
		plots = append(plots, idle.SVG())
	}
	return plots
}

func (r *Result) bars(load Load, bar func(*Summary) plot.Bar) []plot.Bar {
	names := r.measured()
	classes := plot.Classes(names)
	var bars []plot.Bar
	for i, peer := range names {
		if s := r.find(load.Name, peer); s != nil {
			b := bar(s)
			b.Label, b.Class = peer, classes[i]
			bars = append(bars, b)
		}
	}
	return bars
}

func (s *Summary) cpuBar() plot.Bar { return s.CPURatio.bar() }
func (s *Summary) p50Bar() plot.Bar { return s.P50Ratio.bar() }

func (s *Summary) idleBar() plot.Bar { return plot.Bar{Value: max(s.IdleBytes/1e3, 0)} }

func (s *Spread) bar() plot.Bar {
	if s == nil {
		return plot.Bar{}
	}
	return plot.Bar{Value: s.Median, Low: s.Min, High: s.Max}
}
