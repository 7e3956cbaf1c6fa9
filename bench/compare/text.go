package compare

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"weir/bench"
)

// Formats are those that [Result.Write] knows.
func Formats() []string { return []string{"text", "json", "html", "markdown"} }

// Write writes the result in one of the formats.
func (r *Result) Write(w io.Writer, format string) error {
	switch format {
	case "text":
		return r.Text(w)
	case "json":
		return r.JSON(w)
	case "html":
		return r.HTML(w)
	case "markdown":
		return r.Markdown(w)
	}
	return fmt.Errorf("output %q: must be one of %s", format, strings.Join(Formats(), ", "))
}

// Text writes the summary as a table for each workload.
func (r *Result) Text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s\n", r.conditions())
	for _, name := range r.measured() {
		if v := r.Versions[name]; v != "" {
			fmt.Fprintf(b, "%s: %s\n", name, v)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", note)
	}
	for _, load := range r.Workloads {
		fmt.Fprintf(b, "\n%s: %s\n", load.Name, load.Detail)
		r.table(b, load)
		for _, doubt := range r.doubts(load) {
			fmt.Fprintf(b, "doubt: %s\n", doubt)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// conditions says under which conditions the figures came about.
func (r *Result) conditions() string {
	where := "not pinned"
	if r.Pinned {
		where = "the proxy alone on one processor, generator and endpoint on another"
	}
	if r.Quota > 0 {
		where += fmt.Sprintf("; in closed loops the proxy has %.0f %% of a processor", 100*r.Quota)
	}
	return fmt.Sprintf("%s, %s; %s; medians of %d rounds of %g s, ratios within a round and their range",
		r.Date.Format(time.DateOnly), r.System, where, r.Rounds, r.Seconds)
}

func (r *Result) table(b *strings.Builder, load Load) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells []string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }
	line(head(load))
	for i := range r.Summary {
		if s := &r.Summary[i]; s.Workload == load.Name {
			line(s.cells(load))
		}
	}
	_ = t.Flush() // a strings.Builder does not fail
}

// head names the columns of a workload's table.
func head(load Load) []string {
	names := []string{"", "CPU µs", "÷ " + Reference, "÷ " + HAProxy, "switches", "calls", "p50", "÷ " + Reference, "p99", "rate", "busy", "load", "memory"}
	if load.Idle > 0 {
		names = append(names, "an idle one")
	}
	if load.Streams > 0 {
		names = append(names, "a stream")
	}
	return names
}

// cells are the row of a peer in a workload's table.
func (s *Summary) cells(load Load) []string {
	cells := []string{s.Peer, "", "", "", "", ""}
	proxy, memory := "", ""
	if s.Peer != Direct {
		cells = []string{s.Peer, fmt.Sprintf("%.1f", s.CPU), s.CPURatio.String(), s.CPUToHAProxy.String(), fmt.Sprintf("%.2f", s.Switches), s.calls()}
		proxy, memory = fmt.Sprintf("%.0f%%", 100*s.ProxyBusy), fmt.Sprintf("%.0f MB", float64(s.Resident)/1e6)
	}
	cells = append(cells, bench.FormatMS(s.P50), s.P50Ratio.String(), bench.FormatMS(s.P99), fmt.Sprintf("%.0f/s", s.Rate),
		proxy, fmt.Sprintf("%.0f%%", 100*s.LoadBusy), memory)
	if load.Idle > 0 || load.Streams > 0 {
		cells = append(cells, s.idle())
	}
	return cells
}

// calls writes the system calls for a request, with a star when only strace could count them.
func (s *Summary) calls() string {
	switch {
	case s.Calls == 0:
		return "n/a"
	case s.CallsBy == "strace":
		return fmt.Sprintf("%.2f*", s.Calls)
	}
	return fmt.Sprintf("%.2f", s.Calls)
}

// idle writes the memory of an idle connection.
func (s *Summary) idle() string {
	if s.Peer == Direct {
		return ""
	}
	return fmt.Sprintf("%.1f KB", s.IdleBytes/1e3)
}

// line is what is said of a measurement when it is done.
func (m *Measurement) line() string {
	return fmt.Sprintf("round %d, %s, %-14s %6.1f µs CPU, %5.2f switches a request; %7.0f/s, p50 %s, p99 %s",
		m.Round, m.Workload, m.Peer, m.CPU, m.Switches, m.Rate, bench.FormatMS(m.P50), bench.FormatMS(m.P99))
}
