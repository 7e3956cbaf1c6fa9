package demo

import (
	"fmt"
	"strings"
	"time"

	"weir/bench"
)

// view is what is shown at one moment.
type view struct {
	at       time.Duration
	address  string
	admin    string
	rate     float64
	users    int
	seen     uint64 // users since the weights last changed
	moved    uint64 // of them on more than one variant
	dropped  uint64
	lag      float64 // p99 of the generator's, in milliseconds
	seconds  float64 // the figures are over
	rows     []row
	notices  []string
	commands []string
}

// row is one variant.
type row struct {
	variant, version string
	weight           float64 // as set
	wanted           float64 // its part of the weights, 0 to 1
	line             bench.Line
	measured         bool // there were requests in the time the figures are over
	users            uint64
	modelSays        float64 // the accuracy in the model's metadata, 0 to 1; 0 when unknown
}

func (s *live) view() view {
	tally, length := bench.NewTally(0), time.Duration(0)
	for _, part := range s.window {
		tally.Merge(part.Tally)
		length += part.length
	}
	report := bench.Summarize(tally, length)
	present := s.epochs[len(s.epochs)-1]
	v := view{
		at: time.Since(s.attack.Start()), address: s.stack.address, admin: s.stack.admin,
		rate: s.Rate, users: s.Users, moved: present.moved,
		dropped: s.total.Dropped, lag: report.Lag.P99, seconds: length.Seconds(), notices: s.notices,
	}
	for _, n := range present.users {
		v.seen += n
	}
	v.rows = s.rows(report, present)
	v.commands = s.commands()
	return v
}

// rows has a row for every variant of the route, with the figures of report.
func (s *live) rows(report *bench.Report, e epoch) []row {
	sum := 0.0
	for _, w := range e.weights {
		sum += w
	}
	var rows []row
	for _, v := range s.watcher.Route().Variants {
		r := row{variant: v.Pool, version: v.Version, weight: v.Weight, wanted: v.Weight / sum, users: e.users[v.Pool], measured: report.Total.Requests > 0}
		for _, p := range s.stack.pools {
			if p.Name == v.Pool {
				r.modelSays = p.model.accuracy
			}
		}
		r.line = bench.Line{Variant: v.Pool}
		for _, line := range report.Variants {
			if line.Variant == v.Pool {
				r.line = line
			}
		}
		rows = append(rows, r)
	}
	for _, line := range report.Variants {
		if line.Variant == "" { // failures that no variant is to blame for
			rows = append(rows, row{variant: "(none)", line: line})
		}
	}
	return rows
}

// commands are what the user may try, as they must be typed.
func (s *live) commands() []string {
	admin := ""
	if !s.stack.usual {
		admin = " --admin " + s.stack.admin
	}
	return []string{
		s.Command + " shift predict blue=50 green=50" + admin,
		s.Command + " status -w" + admin,
		"edit " + s.stack.configFile() + " (weir reloads it)",
	}
}

// line is the view on one line.
func (v *view) line() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%5s", v.at.Round(time.Second))
	for _, r := range v.rows {
		if r.version == "" {
			fmt.Fprintf(b, " | without a variant: errors %d", r.line.Errors)
			continue
		}
		p50, p95, p99 := r.quantiles()
		fmt.Fprintf(b, " | %s %s weight %g share %s %.0f/s errors %d p50 %s p95 %s p99 %s accuracy %s",
			r.variant, r.version, r.weight, r.share(), r.line.Rate, r.line.Errors, p50, p95, p99, r.accuracy())
	}
	fmt.Fprintf(b, " | users %d, changed variant %d", v.seen, v.moved)
	return b.String()
}

// quantiles are p50, p95 and p99 of the latency.
func (r *row) quantiles() (p50, p95, p99 string) {
	q := r.line.Latency
	if q == nil {
		return "-", "-", "-"
	}
	return bench.FormatMS(q.P50), bench.FormatMS(q.P95), bench.FormatMS(q.P99)
}

// share is the part of the requests, when there were any.
func (r *row) share() string {
	if !r.measured {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*r.line.Share)
}

// promised is the accuracy in the model's metadata.
func (r *row) promised() string {
	if r.modelSays == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*r.modelSays)
}

func (r *row) accuracy() string {
	if r.line.Accuracy == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**r.line.Accuracy)
}
