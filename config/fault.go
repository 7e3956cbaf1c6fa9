package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with a file: where it stands, which key it concerns, what is
// wrong and what would be right.
type Fault struct {
	File string
	// Line and Column count from 1; 0 when the fault has no place, as with a file that cannot be read.
	Line, Column int
	// Key is the path of the key, such as routes[2].split; "" when the fault concerns the file.
	Key     string
	Message string
}

// Error writes the fault on one line: weir.yaml:31:12: routes[2].split: unknown pool "gren" (have blue, green).
func (f Fault) Error() string {
	var parts []string
	place := f.File
	if f.Line > 0 {
		place = strings.TrimPrefix(fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column), ":")
	}
	for _, part := range []string{place, f.Key, f.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Faults is everything wrong with a file, in the order of the file. It is never empty when
// it is returned as an error.
type Faults []Fault

// Error writes one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// maxFaults bounds the answer to a file that is not a weir.yaml at all.
const maxFaults = 500

// position is a place in the file, both counted from 1.
type position struct{ line, column int }

// place is where a key of the file stands, and where its value begins. For an item of a
// list both are the value's.
type place struct{ key, value position }

// report collects the faults of one file and remembers where its keys stand, so that the
// checks that come after decoding can point at them.
type report struct {
	file   string
	faults Faults
	left   int // faults beyond maxFaults
	places map[string]place
	// failed holds the keys whose value could not be used. What is derived from
	// such a value must not be blamed a second time.
	failed map[string]bool
}

func newReport(file string) *report {
	return &report{file: file, places: map[string]place{}, failed: map[string]bool{}}
}

// faultAt records a fault at a position.
func (r *report) faultAt(pos position, key, format string, args ...any) {
	r.failed[key] = true
	if len(r.faults) == maxFaults {
		r.left++
		return
	}
	r.faults = append(r.faults, Fault{
		File: r.file, Line: pos.line, Column: pos.column, Key: key,
		Message: oneLine(fmt.Sprintf(format, args...)),
	})
}

// oneLine escapes what a message quotes from the file and a terminal would act upon.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if unprintable(r) {
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) }

// fault records a fault at the key's value, or at the nearest enclosing value when the
// file leaves the key out.
func (r *report) fault(key, format string, args ...any) {
	r.faultAt(r.valueOf(key), key, format, args...)
}

func (r *report) valueOf(key string) position {
	for at := key; at != ""; at = enclosing(at) {
		if p, ok := r.places[at]; ok {
			return p.value
		}
	}
	return position{1, 1}
}

// keyOf is where the key itself is written; it has to be in the file.
func (r *report) keyOf(key string) position { return r.places[key].key }

// wrote reports whether the file has the key.
func (r *report) wrote(key string) bool {
	_, ok := r.places[key]
	return ok
}

// sound reports whether nothing at or below the key has a fault yet.
func (r *report) sound(key string) bool {
	for failed := range r.failed {
		if rest, ok := strings.CutPrefix(failed, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return false
		}
	}
	return true
}

// err returns the faults in the order of the file, nil when there are none.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if r.left > 0 {
		last := r.faults[len(r.faults)-1]
		r.faults = append(r.faults, Fault{
			File: r.file, Line: last.Line, Column: last.Column,
			Message: fmt.Sprintf("%d more faults are not shown; repair these first", r.left),
		})
	}
	return r.faults
}

// child is the path of a key in a mapping. Names that would be misread in a path are
// quoted: pools["v1.2"].version.
func child(parent, name string) string {
	switch {
	case !plainKey(name):
		return fmt.Sprintf("%s[%q]", parent, clip(name))
	case parent == "":
		return name
	default:
		return parent + "." + name
	}
}

// item is the path of an item of a list.
func item(parent string, index int) string { return parent + "[" + strconv.Itoa(index) + "]" }

// enclosing cuts the last step off a path.
func enclosing(path string) string {
	if strings.HasSuffix(path, `"]`) {
		return path[:max(strings.LastIndex(path, `["`), 0)]
	}
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func plainKey(name string) bool {
	return name != "" && len(name) <= 80 && only(name, keyLetters)
}

// only reports whether s has no other characters than the allowed ones, which are ASCII.
func only(s, allowed string) bool {
	for i := range len(s) {
		if strings.IndexByte(allowed, s[i]) < 0 {
			return false
		}
	}
	return true
}

const keyLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// clip shortens what a message quotes from the file.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// choices writes a list of names for a message: "a, b or c" with last = "or".
func choices(names []string, last string) string {
	const most = 30
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	if len(names) < 2 || last == "" {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:len(names)-1], ", ") + " " + last + " " + names[len(names)-1]
}

// nearest returns the name that was probably meant, "" when none is close enough: at most
// one slip in a short word, two in a longer one.
func nearest(word string, names []string) string {
	best, least := "", 1+min(len(word), 8)/4
	for _, name := range names {
		if len(word) > 80 || max(len(word), len(name))-min(len(word), len(name)) > least {
			continue
		}
		if d := distance(strings.ToLower(word), name); d <= least && (best == "" || d < distance(strings.ToLower(word), best)) {
			best = name
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that
// make b out of a.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		older := before
		before, row = row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j+1]+1, row[j]+1, before[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
