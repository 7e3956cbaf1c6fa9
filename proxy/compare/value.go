package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// difference is where two values do not agree; nil is nowhere.
type difference struct {
	path   string
	reason string
	values [2]string
}

// within adds the name of what holds the values.
func (d *difference) within(name string) *difference {
	if d == nil {
		return nil
	}
	if d.path == "" {
		d.path = name
	} else {
		d.path = name + "." + d.path
	}
	return d
}

func (d *difference) verdict() Verdict {
	if d == nil {
		return Verdict{}
	}
	return Verdict{Result: Disagree, Reason: d.reason, Field: clip(d.path), Primary: d.values[0], Shadow: d.values[1]}
}

func differ(reason string, a, b any) *difference {
	return &difference{reason: reason, values: [2]string{show(a), show(b)}}
}

// comparer compares values of JSON.
type comparer struct {
	tolerance float64
	topLabel  bool
	// floats says that numbers are floating-point ones, however they are written. Otherwise two whole numbers
	// are taken for labels or counts, which no tolerance makes equal.
	floats bool
}

// diff finds the first difference of two values. JSON nests 10,000 deep at most (encoding/json), and so does it.
func (c comparer) diff(a, b any) *difference {
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			if !c.equal(x, y) {
				return differ("numbers differ", a, b)
			}
			return nil
		}
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			return c.objects(x, y)
		}
	case []any:
		if y, ok := b.([]any); ok {
			return c.lists(x, y)
		}
	case string:
		if y, ok := b.(string); ok && x == y {
			return nil
		}
	case bool:
		if y, ok := b.(bool); ok && x == y {
			return nil
		}
	case nil:
		if b == nil {
			return nil
		}
	}
	return differ("values differ", a, b)
}

func (c comparer) objects(a, b map[string]any) *difference {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		y, ok := b[k]
		if d := c.member(a[k], y, true, ok); d != nil {
			return d.within(k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			return c.member(nil, b[k], false, true).within(k)
		}
	}
	return nil
}

// member compares fields of which one may be missing.
func (c comparer) member(a, b any, inA, inB bool) *difference {
	switch {
	case inA && inB:
		return c.diff(a, b)
	case inA:
		return &difference{reason: "the shadow's answer lacks it", values: [2]string{show(a), ""}}
	}
	return &difference{reason: "the primary's answer lacks it", values: [2]string{"", show(b)}}
}

func (c comparer) lists(a, b []any) *difference {
	if len(a) != len(b) {
		return differ(fmt.Sprintf("%d and %d elements", len(a), len(b)), a, b)
	}
	if c.topLabel && scores(a, b) {
		return c.top(elements(a), elements(b))
	}
	for i := range a {
		if d := c.diff(a[i], b[i]); d != nil {
			return d.within(strconv.Itoa(i))
		}
	}
	return nil
}

// scores reports whether both are lists of numbers of which one is not whole: whole ones are labels.
func scores(a, b []any) bool {
	if len(a) < 2 {
		return false
	}
	whole := true
	for _, list := range [...][]any{a, b} {
		for _, v := range list {
			n, ok := number(v)
			if !ok {
				return false
			}
			whole = whole && n.whole
		}
	}
	return !whole
}

// column is a list of elements, of JSON or in binary.
type column struct {
	n  int
	at func(i int) any
}

func elements(list []any) column { return column{len(list), func(i int) any { return list[i] }} }

func (c column) part(from, n int) column {
	return column{n, func(i int) any { return c.at(from + i) }}
}

// float is element i; what is no number is less than every one.
func (c column) float(i int) float64 {
	n, ok := number(c.at(i))
	if !ok || math.IsNaN(n.f) {
		return math.Inf(-1)
	}
	return n.f
}

// greatest is the index of the greatest element.
func (c column) greatest() (top int) {
	best := math.Inf(-1)
	for i := range c.n {
		if f := c.float(i); f > best {
			top, best = i, f
		}
	}
	return top
}

// top compares which element is the greatest. Where two are as good as equal, on both sides, either is.
func (c comparer) top(a, b column) *difference {
	i, j := a.greatest(), b.greatest()
	if i == j || c.close(a.float(i), a.float(j)) && c.close(b.float(i), b.float(j)) {
		return nil
	}
	return differ("another label is on top", i, j)
}

// num is a number: exactly where it is whole and fits 64 bits.
type num struct {
	f         float64
	whole     bool
	negative  bool
	magnitude uint64
}

func number(v any) (n num, ok bool) {
	switch v := v.(type) {
	case json.Number:
		return parseNumber(string(v)), true
	case float64:
		return num{f: v}, true
	case int64:
		n = num{f: float64(v), whole: true, negative: v < 0, magnitude: uint64(v)}
		if v < 0 {
			n.magnitude = -n.magnitude
		}
		return n, true
	case uint64:
		return num{f: float64(v), whole: true, magnitude: v}, true
	case int:
		return number(int64(v))
	}
	return num{}, false
}

func parseNumber(text string) (n num) {
	n.f, _ = strconv.ParseFloat(text, 64) // beyond its range it is an infinity
	digits, negative := strings.CutPrefix(text, "-")
	if m, err := strconv.ParseUint(digits, 10, 64); err == nil {
		n.whole, n.magnitude, n.negative = true, m, negative && m != 0
	}
	return n
}

func (c comparer) equal(a, b num) bool {
	if a.whole && b.whole && a.negative == b.negative && a.magnitude == b.magnitude {
		return true
	}
	if a.whole && b.whole && !c.floats {
		return false
	}
	return c.close(a.f, b.f)
}

// close reports whether a and b are within the tolerance, which is relative to the larger of them and absolute
// below 1.
func (c comparer) close(a, b float64) bool {
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	d := math.Abs(a - b)
	return !math.IsInf(d, 0) && d <= c.tolerance*max(1, math.Abs(a), math.Abs(b))
}

// shown is how much of a value a verdict holds, in bytes.
const shown = 1 << 10

// show is a value as text.
func show(v any) string {
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return fmt.Sprint(f)
	}
	b, err := json.Marshal(v)
	if err != nil { // such a number within a list
		return clip(fmt.Sprint(v))
	}
	return clip(string(b))
}

// excerpt is the beginning of a body.
func excerpt(b []byte) string {
	b = b[:min(len(b), shown)]
	if utf8.Valid(b) {
		return string(b)
	}
	return clip(strconv.Quote(string(b)))
}

func clip(s string) string {
	if len(s) <= shown {
		return s
	}
	return strings.ToValidUTF8(s[:shown], "") + "…"
}
