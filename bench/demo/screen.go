package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"weir/bench"
)

// screen shows views: in place on a terminal, else a line each.
type screen struct {
	out      io.Writer
	terminal bool
	color    bool
	width    func() int
	drawn    int // lines of the last frame, which the next one overwrites
}

func newScreen(o *Options) *screen {
	return &screen{out: o.Out, terminal: o.Terminal, color: o.Color, width: o.Width}
}

// Terminal sequences.
const (
	up        = "\r\x1b[%dA" // so many lines, to the first column
	clearLine = "\x1b[K"     // to its end
	clearRest = "\x1b[J"     // of the screen
	bold      = "\x1b[1m"
	plain     = "\x1b[0m"
)

// show writes a view. The terminal gets one write a frame, so that it never shows half of one.
func (s *screen) show(v view) {
	if !s.terminal {
		fmt.Fprintln(s.out, v.line())
		return
	}
	b := &strings.Builder{}
	if s.drawn > 0 {
		fmt.Fprintf(b, up, s.drawn)
	}
	lines := v.frame()
	for i, line := range lines {
		// A line that wraps would take two, and the way up would be too short.
		line = cut(line, s.width())
		if i == 0 && s.color {
			line = bold + line + plain
		}
		b.WriteString(line + clearLine + "\n")
	}
	b.WriteString(clearRest)
	s.drawn = len(lines)
	_, _ = io.WriteString(s.out, b.String()) // nobody to tell when the terminal is gone
}

// notice writes a notice where views do not hold them.
func (s *screen) notice(text string) {
	if !s.terminal {
		fmt.Fprintln(s.out, text)
	}
}

// cut shortens a line to so many columns; 0 means no limit.
func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) < width {
		return line
	}
	return string([]rune(line)[:width-1])
}

// frame is the view as lines of a screen.
func (v *view) frame() []string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "weir: two versions of a model behind one address   %s\n", clock(v.at))
	fmt.Fprintf(b, "%.0f requests/s from %d users to http://%s, latest %.0f s, latency from when a request was due\n\n", v.rate, v.users, v.address, v.seconds)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "variant\tversion\tweight\tshare\trate\terrors\tp50\tp95\tp99\taccuracy\tmodel says\tusers\t")
	for _, r := range v.rows {
		r.cells(t)
	}
	_ = t.Flush() // a strings.Builder does not fail
	fmt.Fprintf(b, "\n%d users since the weights were set, %d of them changed variant", v.seen, v.moved)
	if v.dropped > 0 {
		fmt.Fprintf(b, "; %d requests dropped for want of a connection", v.dropped)
	}
	if v.lag > 5 {
		fmt.Fprintf(b, "; the load generator itself is late (p99 %s)", bench.FormatMS(v.lag))
	}
	b.WriteString("\n\n")
	for _, n := range v.notices {
		fmt.Fprintln(b, n)
	}
	if len(v.notices) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString("Try in another terminal:\n")
	for _, c := range v.commands {
		fmt.Fprintf(b, "  %s\n", c)
	}
	b.WriteString("Ctrl-C stops everything.\n")
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func (r *row) cells(w io.Writer) {
	if r.version == "" {
		fmt.Fprintf(w, "%s\t\t\t\t%.1f/s\t%d\t\t\t\t\t\t\t\n", r.variant, r.line.Rate, r.line.Errors)
		return
	}
	p50, p95, p99 := r.quantiles()
	fmt.Fprintf(w, "%s\t%s\t%g (%.1f%%)\t%s\t%.1f/s\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t\n",
		r.variant, r.version, r.weight, 100*r.wanted, r.share(), r.line.Rate, r.line.Errors, p50, p95, p99, r.accuracy(), r.promised(), r.users)
}

// clock writes a duration as minutes and seconds.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
