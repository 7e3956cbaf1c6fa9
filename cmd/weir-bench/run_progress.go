package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"weir/bench"
)

// progress says how a run goes, a line a second. On a terminal each line takes the place of the
// one before.
type progress struct {
	w        io.Writer // nil says nothing
	terminal bool
	width    func() int
	prefix   string
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		p.width, p.terminal = terminal(f)
	}
	if quiet {
		p.w = nil
	}
	return p
}

// interval shows an interval of a run of the given length, 0 when that is not known.
func (p *progress) interval(i *bench.Interval, length time.Duration) {
	if p.w == nil {
		return
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "%.0f s", i.At)
	if length > 0 {
		fmt.Fprintf(b, " of %.4g s", length.Seconds())
	}
	fmt.Fprintf(b, "  %.0f/s", i.Total.Rate)
	if q := i.Total.Latency; q != nil {
		fmt.Fprintf(b, "  p50 %s  p99 %s", bench.FormatMS(q.P50), bench.FormatMS(q.P99))
	}
	fmt.Fprintf(b, "  errors %.4g/s", i.Total.Errors+i.Dropped)
	for _, v := range i.Variants {
		if v.Variant != "" && i.Total.Rate > 0 {
			fmt.Fprintf(b, "  %s %.1f%%", v.Variant, 100*v.Rate/i.Total.Rate)
		}
	}
	p.show(b.String())
}

// show shows a line until the next.
func (p *progress) show(line string) {
	switch {
	case p.w == nil:
	case p.terminal:
		fmt.Fprintf(p.w, "\r%s\x1b[K", cut(p.prefix+line, p.width()-1))
	default:
		fmt.Fprintln(p.w, p.prefix+line)
	}
}

// keep shows a line that stays.
func (p *progress) keep(line string) {
	p.show(line)
	if p.w != nil && p.terminal {
		fmt.Fprintln(p.w)
	}
}

// clear ends the line under way.
func (p *progress) clear() {
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// cut shortens a line to so many characters; 0 or less leaves it, as the width is not known.
func cut(line string, width int) string {
	if r := []rune(line); width > 0 && len(r) > width {
		return string(r[:width])
	}
	return line
}
