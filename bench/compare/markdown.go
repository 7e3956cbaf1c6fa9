package compare

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The lines of a document between which [Splice] puts the tables.
const (
	TablesBegin = "<!-- benchmark -->"
	TablesEnd   = "<!-- /benchmark -->"
)

// titles of the peers as documents call them.
func title(peer string) string {
	switch peer {
	case HAProxy:
		return "HAProxy"
	case Caddy:
		return "Caddy"
	case WeirGoroutine:
		return "weir, goroutines"
	}
	return peer
}

// Markdown writes the tables that the README shows: CPU time for a request by workload, and what
// else is counted.
func (r *Result) Markdown(w io.Writer) error {
	proxies := r.measured()
	b := &strings.Builder{}
	fmt.Fprintf(b, "| CPU time for a request ÷ %s's | %s |\n|%s\n", Reference, strings.Join(mapped(proxies, title), " | "), strings.Repeat(" --- |", len(proxies)+1))
	for _, load := range r.Workloads {
		r.markdownRow(b, load.Title, func(peer string) string {
			s := r.find(load.Name, peer)
			switch {
			case s == nil:
				return ""
			case peer == Reference:
				return fmt.Sprintf("1.00 (%.1f µs)", s.CPU)
			}
			return s.CPURatio.String()
		})
	}
	fmt.Fprintf(b, "\n| counted for a request | %s |\n|%s\n", strings.Join(mapped(proxies, title), " | "), strings.Repeat(" --- |", len(proxies)+1))
	for _, load := range r.Workloads {
		r.counted(b, load)
	}
	fmt.Fprintf(b, "\n%s.", r.conditions())
	for _, peer := range proxies {
		if v := r.Versions[peer]; v != "" && peer != WeirGoroutine {
			fmt.Fprintf(b, " %s: %s.", title(peer), v)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, " Note: %s.", note)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func mapped(names []string, to func(string) string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = to(name)
	}
	return all
}

func (r *Result) markdownRow(b *strings.Builder, name string, cell func(peer string) string) {
	fmt.Fprintf(b, "| %s | %s |\n", name, strings.Join(mapped(r.measured(), cell), " | "))
}

// counted writes the rows of figures that do not drift with the machine: system calls and
// context switches where connections are few or many, and the memory of idle connections.
func (r *Result) counted(b *strings.Builder, load Load) {
	row := func(what string, figure func(*Summary) string) {
		r.markdownRow(b, what+", "+load.Title, func(peer string) string {
			if s := r.find(load.Name, peer); s != nil {
				return figure(s)
			}
			return ""
		})
	}
	if slices.Contains([]string{"a", "f"}, load.Name) {
		row("system calls", (*Summary).calls)
		row("context switches", func(s *Summary) string { return fmt.Sprintf("%.2f", s.Switches) })
	}
	if load.Name == "f" {
		row("median latency ÷ "+Reference+"'s", func(s *Summary) string { return s.P50Ratio.String() })
	}
	if load.Idle > 0 {
		row("memory of an idle connection", (*Summary).idle)
	}
	if load.Streams > 0 {
		row("memory of a stream", (*Summary).idle)
	}
}

// Splice returns document with what stands between the lines begin and end replaced by tables.
func Splice(document []byte, begin, end string, tables []byte) ([]byte, error) {
	before, rest, begins := bytes.Cut(document, []byte(begin+"\n"))
	_, after, ends := bytes.Cut(rest, []byte(end))
	if !begins || !ends {
		return nil, fmt.Errorf("no place for the tables: it must have the lines %s and %s, in this order", begin, end)
	}
	return slices.Concat(before, []byte(begin+"\n"), tables, []byte(end), after), nil
}
