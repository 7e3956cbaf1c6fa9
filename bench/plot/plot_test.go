package plot

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func labels(ticks []tick) []string {
	var out []string
	for _, t := range ticks {
		out = append(out, t.label)
	}
	return out
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		log       bool
		low, high float64
		n         int
		want      string
	}{
		{false, 0, 10, 5, "0 2 4 6 8 10"},
		{false, 0, 1, 5, "0 0.2 0.4 0.6 0.8 1"},
		{false, 0, 0.3, 5, "0 0.1 0.2 0.3"},
		{false, 3, 28, 5, "5 10 15 20 25"},
		{false, -4, 4, 4, "-4 -2 0 2 4"},
		{false, 0, 60_000, 3, "0 20k 40k 60k"},
		{false, 0, 3e6, 3, "0 1M 2M 3M"},
		{true, 0.1, 10, 5, "0.1 0.2 0.5 1 2 5 10"},
		{true, 0.05, 10_000, 5, "0.1 1 10 100 1000 10k"},
		{true, 1, 1e12, 3, "1 100 10k 1M 100M 10G 1000G"},
	} {
		s := scale{log: tt.log, low: tt.low, high: tt.high}
		if got := strings.Join(labels(s.ticks(tt.n)), " "); got != tt.want {
			t.Errorf("ticks of %v to %v (log %v): %q, want %q", tt.low, tt.high, tt.log, got, tt.want)
		}
	}
}

func TestPercentileTicks(t *testing.T) {
	for _, tt := range []struct {
		high float64
		want string
	}{
		{10, "0% 50% 90%"},
		{100, "0% 50% 90% 99%"},
		{20_000, "0% 50% 90% 99% 99.9% 99.99%"},
	} {
		if got := strings.Join(labels(percentileTicks(tt.high)), " "); got != tt.want {
			t.Errorf("up to %v: %q, want %q", tt.high, got, tt.want)
		}
	}
}

func TestScalePositions(t *testing.T) {
	for _, tt := range []struct {
		scale   scale
		v, want float64
	}{
		{scale{low: 0, high: 10, from: 100, to: 200}, 5, 150},
		{scale{low: 0, high: 10, from: 200, to: 100}, 10, 100}, // upward, as y is
		{scale{log: true, low: 1, high: 100, from: 0, to: 50}, 10, 25},
	} {
		if got := tt.scale.position(tt.v); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v: %v is at %v, want %v", tt.scale, tt.v, got, tt.want)
		}
	}
}

func TestRoundMovesEndsOutward(t *testing.T) {
	for _, tt := range []struct{ from, want scale }{
		{scale{low: 0, high: 97}, scale{low: 0, high: 100}},
		{scale{low: 0, high: 100}, scale{low: 0, high: 100}},
		{scale{log: true, low: 0.13, high: 7}, scale{log: true, low: 0.1, high: 10}},
		{scale{log: true, low: 0.2, high: 50}, scale{log: true, low: 0.2, high: 50}},
	} {
		got := tt.from
		got.round(5)
		if math.Abs(got.low-tt.want.low) > 1e-9 || math.Abs(got.high-tt.want.high) > 1e-9 {
			t.Errorf("%+v is rounded to %+v, want %+v", tt.from, got, tt.want)
		}
	}
}

func TestClassesKeepTheirColour(t *testing.T) {
	got := Classes([]string{"v1", "green", "total", "blue", "v2", "green p99", "canary"})
	if diff := cmp.Diff([]string{"s2", "s3", "ink", "s1", "s4", "s3", "s5"}, got); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	var many []string
	for i := range 20 {
		many = append(many, fmt.Sprint("v", i))
	}
	for i, c := range Classes(many) {
		if !strings.Contains(styleCSS, "."+c+" { color:") {
			t.Errorf("name %d has class %q, which the style sheet does not colour", i, c)
		}
	}
}

// wellFormed fails the test unless s is XML, and returns its elements' names and its text.
func wellFormed(t *testing.T, s template.HTML) (elements map[string]int, said string) {
	t.Helper()
	elements = map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(string(s))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, said
		}
		if err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
		case xml.CharData:
			said += string(token) + "\n"
		}
	}
}

func nasty() *Chart {
	return &Chart{
		Title: `<script>alert("1")</script>`, XLabel: "s & t", YLabel: "ms", Marks: []Mark{{"SLO", 4}, {"far away", 1e9}},
		Series: []Series{
			{Name: `blue "x" <y>`, X: []float64{0, 1, 2, 3, 4}, Y: []float64{1, 2, math.NaN(), 3, 4}},
			{Name: "green", X: []float64{0, 1, 2}, Y: []float64{math.Inf(1), 5, math.NaN()}, Step: true, Class: `"><b>`},
			{Name: "none"},
		},
	}
}

func TestChartEscapesAndSkipsWhatCannotBeDrawn(t *testing.T) {
	svg := nasty().SVG()
	elements, said := wellFormed(t, svg)
	if elements["script"] > 0 || elements["b"] > 0 || !strings.Contains(said, `<script>alert("1")</script>`) {
		t.Errorf("elements %v; want the title as text, and none of its elements", elements)
	}
	if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
		t.Errorf("a position is not a number: %s", svg)
	}
	// Blue is two stretches in one path; green's only value is a dot.
	if elements["circle"] != 1 || !strings.Contains(said, "SLO") || strings.Contains(said, "far away") {
		t.Errorf("%d dots, text %q; want one, and the mark in reach only", elements["circle"], said)
	}
}

func TestChartHoldsItsValuesForTheScript(t *testing.T) {
	_, rest, _ := strings.Cut(string(nasty().SVG()), `data-plot="`)
	data, _, _ := strings.Cut(rest, `"`)
	var h hover
	if err := json.Unmarshal([]byte(unescape(data)), &h); err != nil {
		t.Fatal(err)
	}
	if len(h.Series) != 3 || *h.Series[0].Y[1] != 2 || h.Series[0].Y[2] != nil || h.X[1] != 4 {
		t.Errorf("values %+v; want three series, a gap, and x up to 4", h)
	}
}

func unescape(s string) string {
	return strings.NewReplacer("&#34;", `"`, "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

func TestChartWithoutValuesSaysSo(t *testing.T) {
	nan := []float64{math.NaN()}
	for name, c := range map[string]*Chart{
		"no series":       {},
		"an empty series": {Series: []Series{{}}},
		"nothing finite":  {Series: []Series{{X: nan, Y: nan}}},
		"0 on a log axis": {LogY: true, Series: []Series{{X: []float64{1}, Y: []float64{0}}}},
	} {
		if _, said := wellFormed(t, c.SVG()); !strings.Contains(said, "no values") {
			t.Errorf("%s: says %q", name, said)
		}
	}
}

func TestChartOfOneValue(t *testing.T) {
	for _, v := range []float64{0, 1, -3, 1e-9, 1e15} {
		c := Chart{Series: []Series{{X: []float64{5}, Y: []float64{v}}}}
		if elements, _ := wellFormed(t, c.SVG()); elements["circle"] != 1 || strings.Contains(string(c.SVG()), "NaN") {
			t.Errorf("%v is not drawn as a dot: %s", v, c.SVG())
		}
	}
}

func TestBars(t *testing.T) {
	b := Bars{
		Title: "CPU", XLabel: "÷ nginx", Reference: 1, Format: "%.2f",
		Groups: []BarGroup{
			{Label: "64 connections", Bars: []Bar{{Label: "weir", Value: 0.8, Low: 0.7, High: 0.9}, {Label: "nginx", Value: 1}}},
			{Label: "8 <connections>", Bars: []Bar{{Label: "weir", Value: math.NaN()}, {Label: "Caddy", Value: 0, Class: "s2"}}},
		},
	}
	svg := b.SVG()
	elements, said := wellFormed(t, svg)
	if elements["rect"] != 3 || strings.Count(string(svg), `class="whisker"`) != 1 || strings.Count(string(svg), `class="mark"`) != 2 {
		t.Errorf("elements %v; want 3 bars, a whisker and the reference behind both groups", elements)
	}
	for _, want := range []string{"weir 0.80 (0.70 – 0.90)", "8 <connections>", "no value", "1.00"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
	if strings.Contains(string(svg), "NaN") {
		t.Errorf("a position is not a number: %s", svg)
	}
	if empty, _ := wellFormed(t, (&Bars{}).SVG()); empty["rect"] != 0 {
		t.Errorf("no bars are drawn as %v", empty)
	}
}

func TestPagesFetchNothing(t *testing.T) {
	for _, text := range []string{string(Style()), string(Script())} {
		for _, word := range []string{"url(", "@import", "fetch(", "</style", "</script"} {
			if strings.Contains(text, word) {
				t.Errorf("%q is in what a page holds", word)
			}
		}
	}
}
