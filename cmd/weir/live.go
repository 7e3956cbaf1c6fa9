package main

import (
	"math"
	"strconv"
	"strings"

	"weir/proxy"
)

// The columns of "weir status -w", of which 80 are always enough. Names and bars share what is left.
const (
	liveIndent  = 2
	liveShare   = 6 // 100.0%
	liveRate    = 7 // 12345/s
	liveErrors  = 6
	liveMillis  = 6
	liveNumbers = 2*(1+liveShare) + 1 + liveRate + 1 + liveErrors + 3*(1+liveMillis)
	minBar      = 10
	maxBar      = 40
	maxName     = 30
)

// live is the state as "weir status -w" shows it: lines of at most v.width columns.
func (v *view) live() (lines []string) {
	add := func(line string) { lines = append(lines, clip(line, v.width)) }
	clock := v.now.Format("15:04:05")
	head := strings.Join(flow(v.headline(), math.MaxInt, v.colours), "")
	if gap := v.width - cells(head) - len(clock); gap > 1 {
		head += strings.Repeat(" ", gap) + clock
	}
	add(head)
	for _, reason := range v.Reasons {
		for _, line := range paragraph(part{reason, red}, indent, v.width, v.colours) {
			add(line)
		}
	}
	name, bar := v.liveColumns()
	add("")
	add(paint(strings.Repeat(" ", liveIndent+name+1)+pad("┃ weight", bar, false)+"  SHARE WEIGHT    RATE ERRORS    P50    P95    P99", faint, v.colours))
	for _, r := range v.Routes {
		head := paint(printable(r.Name), bold, v.colours) + "  " + printable(r.Match)
		if r.Overlay {
			head += "  (weights over the file's)"
		}
		add(head)
		for _, variant := range r.Variants {
			add(v.liveVariant(variant, weightSum(r), name, bar))
		}
		if r.Ramp != nil {
			for _, line := range wrap(printable(rampText(r.Ramp, v.now)+rampWhy(r.Ramp)), v.width-liveIndent) {
				add("  " + paint(line, yellow, v.colours))
			}
		}
		if r.Rollout != nil {
			for _, line := range wrap(printable(rolloutNote(r.Rollout)), v.width-liveIndent) {
				add("  " + paint(line, yellow, v.colours))
			}
		}
		if r.Mirror != nil {
			for _, line := range wrap(printable(mirrorText(r.Mirror)), v.width-liveIndent) {
				add("  " + line)
			}
		}
	}
	add("")
	for _, line := range v.liveEndpoints() {
		add(line)
	}
	if v.last != nil {
		add("")
		text := "last change: " + v.lastWhen() + ": " + oneLine(*v.last)
		for _, line := range few(wrap(printable(text), v.width)) {
			add(line)
		}
	}
	return lines
}

// liveColumns are the widths of names and bars.
func (v *view) liveColumns() (name, bar int) {
	left := v.width - liveIndent - 1 - liveNumbers
	for _, r := range v.Routes {
		for _, variant := range r.Variants {
			name = max(name, cells(printable(variant.Pool)))
		}
	}
	name = max(min(name, maxName, left-minBar), 4)
	return name, max(min(left-name, maxBar), 0)
}

func (v *view) liveVariant(variant proxy.VariantStatus, sum float64, name, bar int) string {
	expected := variant.Weight / sum
	picture := paint(shareBar(variant.Share, expected, bar), cyan, v.colours)
	title := pad(shorten(printable(variant.Pool), name), name, false)
	if !variant.Usable {
		picture = paint(pad("unusable", bar, false), red, v.colours)
		title = paint(title, red, v.colours)
	}
	recent := variant.Recent
	failing := "-"
	if recent.Rate > 0 {
		failing = shortPercent(recent.Errors / recent.Rate)
	}
	failing = pad(failing, liveErrors, true)
	if recent.Errors > 0 {
		failing = paint(failing, red, v.colours)
	}
	return strings.Repeat(" ", liveIndent) + strings.Join([]string{
		title, picture, pad(shortPercent(variant.Share), liveShare, true), pad(shortPercent(expected), liveShare, true),
		pad(three(recent.Rate)+"/s", liveRate, true), failing,
		pad(shortMillis(recent.P50), liveMillis, true), pad(shortMillis(recent.P95), liveMillis, true), pad(shortMillis(recent.P99), liveMillis, true),
	}, " ")
}

// shareBar is filled up to the share, and has a mark where the weight would have it end.
func shareBar(share, expected float64, width int) string {
	bar := []rune(strings.Repeat("█", fill(share, width)) + strings.Repeat("·", width-fill(share, width)))
	if expected > 0 && width > 0 {
		bar[max(fill(expected, width), 1)-1] = '┃'
	}
	return string(bar)
}

// fill is how much of a bar a share takes; what is there at all can be seen.
func fill(share float64, width int) int {
	n := int(math.Round(share * float64(width)))
	if share > 0 {
		n = max(n, 1)
	}
	return max(min(n, width), 0)
}

// liveEndpoints is the table of endpoints, their state in colour.
func (v *view) liveEndpoints() []string {
	const maxPool, maxAddress, inflight = 16, 28, 8
	pool, address := len("POOL"), len("ENDPOINT")
	for _, p := range v.Pools {
		pool = max(pool, min(cells(printable(p.Name)), maxPool))
		for _, e := range p.Endpoints {
			address = max(address, min(cells(printable(e.Address)), maxAddress))
		}
	}
	line := func(cellsOf ...string) string {
		return pad(shorten(cellsOf[0], pool), pool, false) + "  " + pad(shorten(cellsOf[1], address), address, false) + "  " + pad(cellsOf[2], inflight, true) + "  "
	}
	lines := []string{paint(line("POOL", "ENDPOINT", "INFLIGHT")+"STATE", faint, v.colours)}
	for _, p := range v.Pools {
		name := printable(p.Name)
		for _, e := range p.Endpoints {
			state, colour := endpointState(e)
			if e.Probe != "" {
				state += ": " + e.Probe
			}
			lines = append(lines, line(name, printable(e.Address), strconv.FormatInt(e.Inflight, 10))+
				paint(printable(state), colour, v.colours))
			name = ""
		}
	}
	return lines
}

func shortPercent(ratio float64) string { return strconv.FormatFloat(100*ratio, 'f', 1, 64) + "%" }

func shortMillis(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 999.5:
		return three(*ms) + "ms"
	}
	return three(*ms/1000) + "s"
}

// three is a number with three digits that count, or all before the point.
func three(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 9.995:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case f < 99.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case f < 99999.5:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f/1000, 'f', 0, 64) + "k"
}
