package plot

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// Bar is one bar. Low and High are the ends of a whisker, its range; none when they are equal.
type Bar struct {
	Label            string
	Value, Low, High float64
	Class            string // the colour, one of those that [Classes] gives; default "s1"
}

// BarGroup is bars under a common heading.
type BarGroup struct {
	Label string
	Bars  []Bar
}

// Bars is a drawing of horizontal bars from 0, for values that are not negative.
type Bars struct {
	Title, XLabel string
	Groups        []BarGroup
	Reference     float64 // draws a line across all bars; 0: none
	Format        string  // of a value, as of fmt; default "%.3g"
	Width         int     // default DefaultWidth
}

const (
	barHeight = 16
	barRoom   = 24 // from one bar to the next
	groupRoom = 26
)

// SVG draws the bars.
func (b *Bars) SVG() template.HTML {
	d := b.layout()
	out := &strings.Builder{}
	fmt.Fprintf(out, `<svg class="plot" viewBox="0 0 %d %s" style="max-width:%dpx" role="img" aria-label="%s">`,
		d.width, px(d.bottom+bottomRoom), d.width, html.EscapeString(b.Title))
	text(out, "title", "start", sideRoom, titleRoom-8, b.Title)
	y := float64(titleRoom)
	for _, g := range b.Groups {
		if g.Label != "" {
			text(out, "group", "start", sideRoom, y+17, g.Label)
			y += groupRoom
		}
		d.grid(out, y, y+float64(len(g.Bars))*barRoom)
		for i := range g.Bars {
			d.bar(out, &g.Bars[i], y+(barRoom-barHeight)/2)
			y += barRoom
		}
		y += 6
	}
	for _, t := range d.x.ticks(yTicks) {
		text(out, "tick", "middle", d.x.position(t.at), d.bottom+15, t.label)
	}
	text(out, "label", "middle", (d.x.from+d.x.to)/2, d.bottom+33, d.XLabel)
	out.WriteString("</svg>")
	return template.HTML(out.String())
}

// barDrawing is bars with their scale.
type barDrawing struct {
	*Bars
	width  int
	x      scale
	bottom float64 // of the area of the bars
}

func (b *Bars) layout() *barDrawing {
	d := &barDrawing{Bars: b, width: b.Width, bottom: titleRoom}
	if d.width == 0 {
		d.width = DefaultWidth
	}
	if d.Format == "" {
		d.Format = "%.3g"
	}
	label, high := 0, b.Reference
	for _, g := range b.Groups {
		if g.Label != "" {
			d.bottom += groupRoom
		}
		d.bottom += float64(len(g.Bars))*barRoom + 6
		for _, bar := range g.Bars {
			label = max(label, len([]rune(bar.Label)))
			for _, v := range []float64{bar.Value, bar.High} {
				if d.x.shows(v) {
					high = max(high, v)
				}
			}
		}
	}
	d.x.low, d.x.high = span(false, 0, high)
	// The room to the right is for the value behind the longest bar.
	d.x.from, d.x.to = sideRoom+charWidth*float64(label)+12, float64(d.width)-72
	return d
}

// grid draws the lines behind a group of bars, and the reference.
func (d *barDrawing) grid(b *strings.Builder, top, bottom float64) {
	for _, t := range d.x.ticks(yTicks) {
		fmt.Fprintf(b, `<path class="grid" d="M%s %sV%s"/>`, px(d.x.position(t.at)), px(top), px(bottom))
	}
	fmt.Fprintf(b, `<path class="axis" d="M%s %sV%s"/>`, px(d.x.from), px(top), px(bottom))
	if d.Reference > 0 {
		fmt.Fprintf(b, `<path class="mark" d="M%s %sV%s"/>`, px(d.x.position(d.Reference)), px(top), px(bottom))
	}
}

// bar draws one bar from its upper edge y down, its whisker, and its value behind them.
func (d *barDrawing) bar(b *strings.Builder, bar *Bar, y float64) {
	text(b, "legend", "end", d.x.from-8, y+barHeight-4, bar.Label)
	if !d.x.shows(bar.Value) {
		text(b, "tick", "start", d.x.from+6, y+barHeight-4, "no value")
		return
	}
	end := d.x.position(math.Max(bar.Value, 0))
	fmt.Fprintf(b, `<rect class="bar %s" x="%s" y="%s" width="%s" height="%d" rx="2"><title>%s</title></rect>`,
		classOr1(bar.Class), px(d.x.from), px(y), px(end-d.x.from), barHeight, html.EscapeString(d.describe(bar)))
	if bar.Low < bar.High {
		low, high := d.x.position(bar.Low), d.x.position(bar.High)
		fmt.Fprintf(b, `<path class="whisker" d="M%s %sH%sM%s %sv8M%s %sv8"/>`,
			px(low), px(y+barHeight/2), px(high), px(low), px(y+barHeight/2-4), px(high), px(y+barHeight/2-4))
		end = max(end, high)
	}
	text(b, "value", "start", end+6, y+barHeight-4, fmt.Sprintf(d.Format, bar.Value))
}

func (d *barDrawing) describe(bar *Bar) string {
	s := bar.Label + " " + fmt.Sprintf(d.Format, bar.Value)
	if bar.Low < bar.High {
		s += fmt.Sprintf(" ("+d.Format+" – "+d.Format+")", bar.Low, bar.High)
	}
	return s
}

func classOr1(class string) string {
	if class == "" {
		return "s1"
	}
	return html.EscapeString(class)
}
