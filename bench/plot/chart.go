package plot

import (
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Size of a [Chart] that names none, in units of the drawing; a page scales it down to what fits.
const (
	DefaultWidth  = 760
	DefaultHeight = 280
)

// Series is one line of a [Chart]. X ascends and is as long as Y; a Y that cannot be drawn (NaN,
// or not above 0 on a logarithmic axis) leaves a gap.
type Series struct {
	Name string
	X, Y []float64
	Step bool // each value holds until the next, instead of a line between them
	// Class is the colour, one of those that [Classes] gives; default by Name.
	Class  string
	Dashed bool
}

// Mark is a labelled horizontal line, such as an objective.
type Mark struct {
	Label string
	Y     float64
}

// Chart is a drawing of lines. An axis that is not logarithmic includes 0 in its Y values.
type Chart struct {
	Title, XLabel, YLabel string
	LogX, LogY            bool
	// Percentile means that X is 1 ÷ (1 − quantile), from 1: the axis is logarithmic and
	// labelled 50%, 90%, 99% and so on.
	Percentile    bool
	Series        []Series
	Marks         []Mark // those far above the lines are left out
	Width, Height int    // default DefaultWidth, DefaultHeight
}

// Room around and in a chart, in units of the drawing.
const (
	charWidth  = 6.6 // of the font at its size, on the wide side
	titleRoom  = 26
	lineRoom   = 19
	bottomRoom = 42
	sideRoom   = 16
	xTicks     = 8
	yTicks     = 5
)

// SVG draws the chart.
func (c *Chart) SVG() template.HTML {
	d := c.layout()
	b := &strings.Builder{}
	fmt.Fprintf(b, `<svg class="plot" viewBox="0 0 %d %d" style="max-width:%dpx" role="img" aria-label="%s"%s>`,
		d.width, d.height, d.width, html.EscapeString(c.Title), d.attribute())
	text(b, "title", "start", sideRoom, titleRoom-8, c.Title)
	if d.empty {
		text(b, "label", "middle", float64(d.width)/2, float64(d.height)/2, "no values")
		b.WriteString("</svg>")
		return template.HTML(b.String())
	}
	d.legend(b)
	d.axes(b)
	for i := range c.Series {
		d.line(b, &c.Series[i], d.classes[i])
	}
	d.marks(b)
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// drawing is a chart with its scales.
type drawing struct {
	*Chart
	width, height int
	top           float64 // of the area of the lines
	x, y          scale
	xs, ys        []tick
	classes       []string
	entries       []entry
	empty         bool
}

// entry is a series in the legend, placed.
type entry struct {
	x, y   float64
	series int
}

func (c *Chart) layout() *drawing {
	d := &drawing{Chart: c, width: c.Width, height: c.Height}
	if d.width == 0 {
		d.width = DefaultWidth
	}
	if d.height == 0 {
		d.height = DefaultHeight
	}
	for i, s := range c.Series {
		d.classes = append(d.classes, html.EscapeString(s.Class))
		if s.Class == "" {
			d.classes[i] = Classes(names(c.Series))[i]
		}
	}
	d.x.log, d.y.log = c.LogX || c.Percentile, c.LogY
	if d.empty = !d.fit(); d.empty {
		return d
	}
	d.place()
	d.y.from, d.y.to = float64(d.height-bottomRoom), d.top
	d.ys = d.y.ticks(yTicks)
	left := 0
	for _, t := range d.ys {
		left = max(left, len(t.label))
	}
	d.x.from, d.x.to = sideRoom+charWidth*float64(left)+6, float64(d.width-sideRoom)
	d.xs = d.x.ticks(xTicks)
	if c.Percentile {
		d.xs = percentileTicks(d.x.high)
	}
	return d
}

func names(series []Series) []string {
	var names []string
	for _, s := range series {
		names = append(names, s.Name)
	}
	return names
}

// fit sets the ends of the scales, and reports whether there is anything to draw.
func (d *drawing) fit() bool {
	x, y := &d.x, &d.y
	x.low, x.high, y.low, y.high = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, s := range d.Series {
		for i := range min(len(s.X), len(s.Y)) {
			if !x.shows(s.X[i]) || !y.shows(s.Y[i]) {
				continue
			}
			x.low, x.high = min(x.low, s.X[i]), max(x.high, s.X[i])
			y.low, y.high = min(y.low, s.Y[i]), max(y.high, s.Y[i])
		}
	}
	if x.low > x.high {
		return false
	}
	if !d.LogY {
		y.low, y.high = min(y.low, 0), max(y.high, 0)
	}
	for _, m := range d.Marks {
		if y.shows(m.Y) && (d.LogY || m.Y <= 2*y.high) {
			y.low, y.high = min(y.low, m.Y), max(y.high, m.Y)
		}
	}
	if d.Percentile {
		x.low, x.high = 1, max(10, x.high)
	}
	x.low, x.high = span(x.log, x.low, x.high)
	y.low, y.high = span(y.log, y.low, y.high)
	y.round(yTicks)
	return true
}

// place sets the legend's entries in rows from the left, and with them where the lines begin.
func (d *drawing) place() {
	d.top = titleRoom
	if len(d.Series) > 1 {
		x, y := float64(sideRoom), d.top+10
		for i, s := range d.Series {
			w := 30 + charWidth*float64(len([]rune(s.Name)))
			if x > sideRoom && x+w > float64(d.width) {
				x, y = sideRoom, y+lineRoom
			}
			d.entries = append(d.entries, entry{x, y, i})
			x += w + 14
		}
		d.top = y + 9
	}
	if d.YLabel != "" {
		d.top += lineRoom
	}
	d.top += 8
}

func (d *drawing) legend(b *strings.Builder) {
	for _, e := range d.entries {
		s := d.Series[e.series]
		fmt.Fprintf(b, `<path class="line %s%s" d="M%s %sh20"/>`, d.classes[e.series], dashed(s), px(e.x), px(e.y))
		text(b, "legend", "start", e.x+26, e.y+4, s.Name)
	}
}

func dashed(s Series) string {
	if s.Dashed {
		return " dashed"
	}
	return ""
}

func (d *drawing) axes(b *strings.Builder) {
	bottom := d.y.from
	if d.YLabel != "" {
		text(b, "label", "start", sideRoom, d.top-10, d.YLabel)
	}
	for _, t := range d.ys {
		y := d.y.position(t.at)
		fmt.Fprintf(b, `<path class="grid" d="M%s %sH%s"/>`, px(d.x.from), px(y), px(d.x.to))
		text(b, "tick", "end", d.x.from-6, y+4, t.label)
	}
	// Labels that would touch are left out, from the left.
	free := math.Inf(-1)
	for _, t := range d.xs {
		x, half := d.x.position(t.at), charWidth*float64(len(t.label))/2
		fmt.Fprintf(b, `<path class="grid" d="M%s %sV%s"/>`, px(x), px(d.top), px(bottom+4))
		if x-half < free {
			continue
		}
		free = x + half + 6
		text(b, "tick", "middle", min(x, float64(d.width)-half-1), bottom+17, t.label)
	}
	fmt.Fprintf(b, `<path class="axis" d="M%s %sH%s"/>`, px(d.x.from), px(bottom), px(d.x.to))
	text(b, "label", "middle", (d.x.from+d.x.to)/2, bottom+34, d.XLabel)
}

// line draws a series; a value without a neighbour becomes a dot.
func (d *drawing) line(b *strings.Builder, s *Series, class string) {
	var path, dots strings.Builder
	length := 0 // of the stretch under way
	last := 0.0
	for i := range min(len(s.X), len(s.Y)) {
		if !d.x.shows(s.X[i]) || !d.y.shows(s.Y[i]) {
			length = 0
			continue
		}
		x, y := d.x.position(s.X[i]), d.y.position(s.Y[i])
		switch {
		case length == 0 && d.alone(s, i):
			fmt.Fprintf(&dots, `<circle class="dot %s" cx="%s" cy="%s" r="3"/>`, class, px(x), px(y))
		case length == 0:
			fmt.Fprintf(&path, "M%s %s", px(x), px(y))
		case s.Step:
			fmt.Fprintf(&path, "H%sV%s", px(x), px(y))
		case x != last:
			fmt.Fprintf(&path, "L%s %s", px(x), px(y))
		}
		length, last = length+1, x
	}
	if path.Len() > 0 {
		fmt.Fprintf(b, `<path class="line %s%s" d="%s"/>`, class, dashed(*s), path.String())
	}
	b.WriteString(dots.String())
}

// alone reports whether the value after i, which begins a stretch, cannot be drawn.
func (d *drawing) alone(s *Series, i int) bool {
	i++
	return i >= min(len(s.X), len(s.Y)) || !d.x.shows(s.X[i]) || !d.y.shows(s.Y[i])
}

func (d *drawing) marks(b *strings.Builder) {
	for _, m := range d.Marks {
		if !d.y.shows(m.Y) || m.Y < d.y.low || m.Y > d.y.high {
			continue
		}
		y := d.y.position(m.Y)
		fmt.Fprintf(b, `<path class="mark" d="M%s %sH%s"/>`, px(d.x.from), px(y), px(d.x.to))
		text(b, "marklabel", "end", d.x.to-4, y-5, m.Label)
	}
}

// text writes a label; anchor is start, middle or end.
func text(b *strings.Builder, class, anchor string, x, y float64, s string) {
	if s != "" {
		fmt.Fprintf(b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, px(x), px(y), html.EscapeString(s))
	}
}

// px writes a position to a tenth of a unit.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// hover is what the script knows of a drawing.
type hover struct {
	X, Y       [4]float64 // of a scale: low, high, from, to
	LogX, LogY bool
	Percentile bool
	XLabel     string
	Series     []hoverSeries
}

type hoverSeries struct {
	Name, Class string
	X, Y        []*float64 // nil leaves a gap
}

// attribute holds the values for the script, so that a page needs nothing but the drawing.
func (d *drawing) attribute() string {
	if d.empty {
		return ""
	}
	h := hover{
		X: [4]float64{d.x.low, d.x.high, d.x.from, d.x.to}, Y: [4]float64{d.y.low, d.y.high, d.y.from, d.y.to},
		LogX: d.x.log, LogY: d.y.log, Percentile: d.Percentile, XLabel: d.XLabel,
	}
	for i, s := range d.Series {
		h.Series = append(h.Series, hoverSeries{s.Name, d.classes[i], digits(s.X, scale{}), digits(s.Y, d.y)})
	}
	data, err := json.Marshal(h)
	if err != nil {
		return "" // a position is not a number; the drawing stands without its script
	}
	return fmt.Sprintf(` data-plot="%s"`, html.EscapeString(string(data)))
}

// digits keeps what a reader could tell apart.
func digits(values []float64, s scale) []*float64 {
	out := make([]*float64, len(values))
	for i, v := range values {
		if s.shows(v) {
			v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
			out[i] = &v
		}
	}
	return out
}
