package scenarios

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

	"weir/bench"
	"weir/bench/plot"
)

// offScale is how many times nginx's p99 a policy's may be to be drawn: one that does not keep up would make all others
// look alike.
const offScale = 4

// Read reads a result that was written as JSON.
func Read(r io.Reader) (*Result, error) {
	result := &Result{}
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(result); err != nil {
		return nil, fmt.Errorf("no result of scenarios: %w", err)
	}
	if len(result.Scenarios) == 0 || len(result.Summary) == 0 {
		return nil, fmt.Errorf("no result of scenarios: there are none in it")
	}
	return result, nil
}

// WritePlots draws each scenario into a file of dir, where tables written later refer to it; link is how a document names
// the folder.
func (r *Result) WritePlots(dir, link string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, load := range r.Scenarios {
		if err := os.WriteFile(filepath.Join(dir, load.file()), plot.Document(r.bars(load).SVG()), 0o644); err != nil {
			return err
		}
	}
	r.plots = link
	return nil
}

func (l *Load) file() string { return "scenario-" + l.Name + ".svg" }

// image is the line of a document that shows the drawing of a scenario; "" where none was made.
func (r *Result) image(load Load) string {
	if r.plots == "" {
		return ""
	}
	return fmt.Sprintf("![p99 by policy: %s](%s)\n\n", load.Title, path.Join(r.plots, load.file()))
}

// bars are the p99 of each policy over all rounds, and between which those of the rounds lie.
func (r *Result) bars(load Load) *plot.Bars {
	nginx := math.Inf(1)
	for _, s := range r.Summary {
		if s.Scenario == load.Name && s.Policy == Nginx && s.P99 > 0 {
			nginx = s.P99
		}
	}
	var group plot.BarGroup
	var left []string
	for _, s := range r.Summary {
		if s.Scenario != load.Name {
			continue
		}
		name := strings.ReplaceAll(s.Title, "`", "")
		if s.P99 > offScale*nginx {
			left = append(left, fmt.Sprintf("%s: %s", name, bench.FormatMS(s.P99)))
			continue
		}
		bar := plot.Bar{Label: name, Value: s.P99, Low: s.P99, High: s.P99, Class: "s2"}
		if strings.HasPrefix(s.Policy, Weir) {
			bar.Class = "s1"
		}
		for _, m := range r.Measurements {
			if m.Scenario == s.Scenario && m.Policy == s.Policy {
				bar.Low, bar.High = min(bar.Low, m.P99), max(bar.High, m.P99)
			}
		}
		group.Bars = append(group.Bars, bar)
	}
	slices.Sort(left)
	label := "p99 in milliseconds, over all rounds; the whiskers are the rounds'"
	if len(left) > 0 {
		label += ". Off the scale: " + strings.Join(left, ", ")
	}
	return &plot.Bars{Title: strings.ToUpper(load.Title[:1]) + load.Title[1:], XLabel: label, Groups: []plot.BarGroup{group}, Width: 760}
}
