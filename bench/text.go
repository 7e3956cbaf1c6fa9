package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// JSON writes the report as one indented JSON object.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Text writes the report as a person reads it.
func (r *Report) Text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s: %s, %.1f s%s, %d connections%s, seed %d%s\n\n",
		r.Target, r.schedule(), r.Seconds, r.warmup(), r.Connections, r.streams(), r.Seed, r.partial())
	if r.Saturation != nil {
		r.Saturation.text(b)
	}
	r.table(b)
	b.WriteByte('\n')
	r.notes(b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) schedule() string {
	switch {
	case r.Rate == 0:
		return "closed loop"
	case r.Arrivals == ArrivalsConstant || r.Arrivals == ArrivalsPoisson:
		return fmt.Sprintf("%s arrivals at %.5g/s", r.Arrivals, r.Rate)
	}
	return fmt.Sprintf("arrivals by %s, %.4g/s in the mean", r.Arrivals, r.Rate)
}

func (r *Report) streams() string {
	switch r.Streams {
	case 0:
		return ""
	case 1:
		return " of HTTP/2"
	}
	return fmt.Sprintf(" of HTTP/2 with %d streams each", r.Streams)
}

func (r *Report) warmup() string {
	if r.Warmup == 0 {
		return ""
	}
	return fmt.Sprintf(" after %.3g s of warm-up", r.Warmup)
}

func (r *Report) partial() string {
	if r.Interrupted {
		return " (interrupted: partial)"
	}
	return ""
}

func (r *Report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "variant\trequests\tshare\trate/s\t%s\terrors\taccuracy\tp50\tp90\tp99\tp99.9\tmax\t\n", r.goodputName())
	for _, v := range r.Variants {
		name, share := v.Variant, fmt.Sprintf("%.2f%%", 100*v.Share)
		if name == "" {
			name, share = "(none)", "-"
		}
		v.row(t, name, share)
	}
	r.Total.row(t, "total", "")
	_ = t.Flush() // a strings.Builder does not fail
}

func (l *Line) row(w io.Writer, name, share string) {
	accuracy := "-"
	if l.Accuracy != nil {
		accuracy = fmt.Sprintf("%.1f%%", 100**l.Accuracy)
	}
	fmt.Fprintf(w, "%s\t%d\t%s\t%.1f\t%.1f\t%d\t%s\t%s\n",
		name, l.Requests, share, l.Rate, l.Goodput, l.Errors, accuracy, l.Latency.columns())
}

func (q *Quantiles) columns() string {
	if q == nil {
		return "-\t-\t-\t-\t-\t"
	}
	return strings.Join([]string{FormatMS(q.P50), FormatMS(q.P90), FormatMS(q.P99), FormatMS(q.P999), FormatMS(q.Max), ""}, "\t")
}

// FormatMS writes milliseconds with three digits and their unit: 0.412ms, 41.2ms, 4.12s.
func FormatMS(ms float64) string {
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3fms", ms)
	case ms < 10:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.2fs", ms/1000)
}

// notes are the lines below the table.
func (r *Report) notes(w io.Writer) {
	if r.Rate > 0 {
		fmt.Fprintln(w, "latency counts from when a request was due")
	}
	if q := r.Total.Service; q != nil {
		fmt.Fprintf(w, "service time  p50 %s, p99 %s, max %s: from when it was sent\n",
			FormatMS(q.P50), FormatMS(q.P99), FormatMS(q.Max))
	}
	if r.Rate > 0 {
		sent := r.Total.Requests + r.Total.Unfinished
		fmt.Fprintf(w, "schedule      %d due, %d sent, %d of them late, %d dropped, %d unfinished\n",
			r.Scheduled, sent, r.Total.Late, r.Dropped, r.Total.Unfinished)
		fmt.Fprintf(w, "generator     lag p50 %s, p99 %s, max %s\n",
			FormatMS(r.Lag.P50), FormatMS(r.Lag.P99), FormatMS(r.Lag.Max))
	}
	if g := r.Generator; g != nil {
		fmt.Fprintf(w, "own use       %s\n", g.usage())
	}
	if r.Opened > uint64(r.Connections) {
		fmt.Fprintf(w, "connections   %d opened\n", r.Opened)
	}
	if kinds := r.Total.Kinds(); kinds != "" {
		fmt.Fprintf(w, "errors        %s\n", kinds)
	}
	if u := r.Users; u != nil {
		fmt.Fprintf(w, "users         %d of %d seen, %d on more than one variant\n", u.Seen, u.Total, u.Moved)
	}
	if r.Split != nil {
		fmt.Fprintf(w, "split         %s\n", r.Split)
	}
	if g := r.Generator; g != nil {
		for _, limit := range g.Limits {
			fmt.Fprintf(w, "beware        %s\n", limit)
		}
	}
}

// usage says what the generator used, in a line.
func (g *Generator) usage() string {
	s := fmt.Sprintf("CPU %.2f of %d processors, %.0f µs a request", g.Cores, g.Processors, g.PerRequest)
	if g.MachineBusy != nil {
		s += fmt.Sprintf("; the machine was %.0f%% busy", 100**g.MachineBusy)
	}
	return s + fmt.Sprintf("; longest pause of its collector %s", FormatMS(g.GCPause))
}
