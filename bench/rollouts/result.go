package rollouts

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"weir/bench/plot"
)

// The lines of a document between which the table stands.
const (
	TablesBegin = "<!-- rollouts -->"
	TablesEnd   = "<!-- /rollouts -->"
)

// Result is what was found, in the shape of its JSON.
type Result struct {
	Date    time.Time `json:"date"`
	System  string    `json:"system"`
	Weir    string    `json:"weir"`
	Look    float64   `json:"look_seconds"`
	Looks   int       `json:"looks_a_step"`
	Summary []Summary `json:"summary"`
	// Back is how long after the verdict the last request came to a version that was given up, in milliseconds.
	Back Back `json:"back"`
	// Examples are single rollouts, to be drawn.
	Examples []Example `json:"examples"`

	ended []ended
	plots string
}

// Summary is what became of the rollouts of a case.
type Summary struct {
	Case
	Rollouts  int `json:"rollouts"`
	Succeeded int `json:"succeeded"`
	Aborted   int `json:"aborted"`
	Waited    int `json:"waited"` // no verdict in time
	// Thumb is how many of them a rule would have aborted that says "more than 1.5 times the errors".
	Thumb int `json:"rule_of_thumb_aborted"`
	// ToAbort and ToSuccess are how many requests of both versions it took, in the median; 0 where there was none.
	ToAbort   float64 `json:"requests_to_abort"`
	ToSuccess float64 `json:"requests_to_success"`
}

// Back is a distribution over the rollouts that were aborted.
type Back struct {
	Aborted int     `json:"aborted"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

// Example is one rollout.
type Example struct {
	Case  string `json:"case"`
	Title string `json:"title"`
	Phase string `json:"phase"`
	Looks []Look `json:"looks"`
}

func (r *Result) add(all ...ended) { r.ended = append(r.ended, all...) }

// brief says how it stands.
func (r *Result) brief() string {
	phases := map[string]int{}
	for _, e := range r.ended {
		what := "as good"
		if !e.of.Good() {
			what = "worse"
		}
		phases[what+" "+e.phase]++
	}
	return strings.TrimPrefix(fmt.Sprint(phases), "map")
}

// summarize counts what has ended.
func (r *Result) summarize() {
	var back []float64
	for _, c := range Cases() {
		s := Summary{Case: c}
		var abort, success []float64
		for _, e := range r.ended {
			if e.of.Name != c.Name {
				continue
			}
			s.Rollouts++
			if e.thumb {
				s.Thumb++
			}
			switch e.phase {
			case "succeeded":
				s.Succeeded++
				success = append(success, float64(e.requests))
			case "aborted":
				s.Aborted++
				abort = append(abort, float64(e.requests))
				back = append(back, float64(e.back)/1e6)
			default:
				s.Waited++
			}
		}
		s.ToAbort, s.ToSuccess = quantile(abort, 0.5), quantile(success, 0.5)
		if s.Rollouts > 0 {
			r.Summary = append(r.Summary, s)
		}
	}
	r.Back = Back{len(back), quantile(back, 0.5), quantile(back, 0.99), quantile(back, 1)}
	for _, want := range []struct{ name, phase string }{{"1%", "succeeded"}, {"2x", "aborted"}} {
		i := slices.IndexFunc(r.ended, func(e ended) bool { return e.of.Name == want.name && e.phase == want.phase })
		if i >= 0 {
			e := r.ended[i]
			r.Examples = append(r.Examples, Example{want.name, e.of.Title, e.phase, e.looks})
		}
	}
}

// quantile is the nearest rank; 0 of nothing.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(max(int(math.Ceil(q*float64(len(values))))-1, 0), len(values)-1)]
}

// Good are the rollouts of versions that are as good, and how many of them were aborted.
func (r *Result) Good() (rollouts, aborted int) {
	for _, s := range r.Summary {
		if s.Good() {
			rollouts, aborted = rollouts+s.Rollouts, aborted+s.Aborted
		}
	}
	return rollouts, aborted
}

// Read reads a result that was written as JSON.
func Read(from io.Reader) (*Result, error) {
	r := &Result{}
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("no result of rollouts: %w", err)
	}
	if len(r.Summary) == 0 {
		return nil, fmt.Errorf("no result of rollouts: there are none in it")
	}
	return r, nil
}

// Formats are those that [Result.Write] knows.
func Formats() []string { return []string{"text", "json", "markdown"} }

// Write writes the result in one of the formats.
func (r *Result) Write(w io.Writer, format string) error {
	switch format {
	case "text":
		return r.text(w)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case "markdown":
		return r.markdown(w)
	}
	return fmt.Errorf("output %q: must be one of %s", format, strings.Join(Formats(), ", "))
}

func head() []string {
	return []string{"the new version has", "rollouts", "aborted", "succeeded", "no verdict in time", "requests to an abort", "the rule of thumb aborts"}
}

func (s *Summary) cells() []string {
	abort := "–"
	if s.Aborted > 0 {
		abort = fmt.Sprintf("%.0f", s.ToAbort)
	}
	return []string{
		s.Title, fmt.Sprint(s.Rollouts), s.part(s.Aborted), s.part(s.Succeeded), s.part(s.Waited), abort, s.part(s.Thumb),
	}
}

func (s *Summary) part(n int) string {
	return fmt.Sprintf("%d (%.3g %%)", n, 100*float64(n)/float64(max(s.Rollouts, 1)))
}

// conditions says how the figures came about.
func (r *Result) conditions() string {
	n, aborted := r.Good()
	return fmt.Sprintf("%s, %s, weir %s: real rollouts over steps of %v %%, %d looks a step, one every %g s, alpha %g for both checks, errors and latency of both versions going up and down fourfold together. "+
		"Of %d versions that are as good %d were aborted (%.2g %%). After an abort the last request came to the new version %.3g ms after the verdict in the median, %.3g ms in 99 of 100 cases, %.3g ms at most (%d aborts)",
		r.Date.Format(time.DateOnly), r.System, r.Weir, Steps, r.Looks, r.Look, Alpha, n, aborted, 100*float64(aborted)/float64(max(n, 1)),
		r.Back.P50, r.Back.P99, r.Back.Max, r.Back.Aborted)
}

func (r *Result) text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintln(b, r.conditions())
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join(head(), "\t")+"\t")
	for _, s := range r.Summary {
		fmt.Fprintln(t, strings.Join(s.cells(), "\t")+"\t")
	}
	_ = t.Flush() // a strings.Builder does not fail
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) markdown(w io.Writer) error {
	b := &strings.Builder{}
	if r.plots != "" {
		for _, e := range r.Examples {
			fmt.Fprintf(b, "![A rollout with %s, which %s](%s)\n\n", e.Title, e.Phase, path.Join(r.plots, e.file()))
		}
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head(), " | "), strings.Repeat(" --- |", len(head())))
	for _, s := range r.Summary {
		fmt.Fprintf(b, "| %s |\n", strings.Join(s.cells(), " | "))
	}
	fmt.Fprintf(b, "\n%s.\n", r.conditions())
	_, err := io.WriteString(w, b.String())
	return err
}

func (e *Example) file() string { return "rollout-" + e.Phase + ".svg" }

// WritePlots draws the examples into files of dir, where markdown written later refers to them; link is how a document
// names the folder.
func (r *Result) WritePlots(dir, link string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, e := range r.Examples {
		if err := os.WriteFile(filepath.Join(dir, e.file()), plot.Document(e.chart().SVG()), 0o644); err != nil {
			return err
		}
	}
	r.plots = link
	return nil
}

// beyond is a ratio above which nothing is drawn: early on all are possible.
const beyond = 6

// chart draws the estimated ratio of the error rates and its bounds, over time.
func (e *Example) chart() *plot.Chart {
	ratio := plot.Series{Name: "estimated ratio", Class: "s1"}
	low := plot.Series{Name: "between this", Class: "s6", Dashed: true}
	high := plot.Series{Name: "and this", Class: "s6", Dashed: true}
	weight := plot.Series{Name: "weight ÷ 100", Class: "s2", Step: true}
	for _, l := range e.Looks {
		for _, line := range []struct {
			to *plot.Series
			y  *float64
		}{{&ratio, l.Ratio}, {&low, l.Low}, {&high, l.High}} {
			y := math.NaN()
			if line.y != nil && *line.y <= beyond {
				y = *line.y
			}
			line.to.X, line.to.Y = append(line.to.X, l.Seconds), append(line.to.Y, y)
		}
		weight.X, weight.Y = append(weight.X, l.Seconds), append(weight.Y, l.Weight/100)
	}
	return &plot.Chart{
		Title:  fmt.Sprintf("A new version with %s: %s", e.Title, e.Phase),
		XLabel: "seconds since the rollout began", YLabel: "errors of the new version by those of the old",
		Series: []plot.Series{ratio, low, high, weight},
		Marks:  []plot.Mark{{Label: "as many", Y: 1}, {Label: "max_ratio", Y: 1.5}}, Width: 760, Height: 320,
	}
}
