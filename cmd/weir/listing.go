package main

import "strings"

// listing is a table of at most width columns whose names may be of any length: a row whose names leave no
// room for its values has them whole, on lines of their own. Names are told apart by any of their letters, so
// none is cut. A title that begins with ">" is of a column aligned to the right.
type listing struct {
	names, titles []string
	items         []listed
	width         int
	colours       bool
}

// listed is a row, or a heading over those that follow; either with notes below it.
type listed struct {
	heading []part // nil for a row
	names   []string
	values  []part
	notes   []part
}

// part is a text in a colour; "" is none.
type part struct{ text, colour string }

const indent = "  "

func (l *listing) heading(parts ...part) { l.items = append(l.items, listed{heading: parts}) }

func (l *listing) row(names []string, values ...part) {
	l.items = append(l.items, listed{names: names, values: values})
}

// note adds lines below the last row or heading.
func (l *listing) note(text, colour string) {
	last := &l.items[len(l.items)-1]
	last.notes = append(last.notes, part{text, colour})
}

func (l *listing) lines() (lines []string) {
	columns, right := l.columns()
	title := strings.Join(l.names, indent)
	gap, left := indent, l.room(columns, indent)
	if narrow := l.room(columns, " "); cells(title) > left || len(l.within(narrow)) > len(l.within(left)) {
		gap, left = " ", narrow
	}
	left = max(left, cells(title))
	within := append(l.within(left), l.names)
	align := alignment(within, left)
	taken := 0
	for _, names := range within {
		taken = max(taken, cells(together(names, align)))
	}
	row := func(names []string, values []part, colour string) {
		text := together(names, align)
		if cells(together(names, 0)) > left {
			for _, line := range wrap(together(names, 0), l.width-len(indent)) {
				lines = append(lines, indent+line)
			}
			text = ""
		}
		line := indent + paint(text, colour, l.colours) + strings.Repeat(" ", taken-cells(text))
		for i, v := range values {
			line += gap + paint(pad(printable(v.text), columns[i], right[i]), v.colour, l.colours)
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	var titles []part
	for _, t := range l.titles {
		titles = append(titles, part{strings.TrimPrefix(t, ">"), faint})
	}
	row(l.names, titles, faint)
	for _, i := range l.items {
		below := indent
		if i.heading != nil {
			lines = append(lines, flow(i.heading, l.width, l.colours)...)
		} else {
			row(i.names, i.values, "")
			below += indent
		}
		for _, n := range i.notes {
			lines = append(lines, paragraph(n, below, l.width, l.colours)...)
		}
	}
	for i := range lines {
		lines[i] = clip(lines[i], l.width) // where there is no room for the values
	}
	return lines
}

// columns are the widths of the columns of values, and which are aligned to the right.
func (l *listing) columns() (widths []int, right []bool) {
	for i, title := range l.titles {
		title, toRight := strings.CutPrefix(title, ">")
		width := cells(title)
		for _, item := range l.items {
			if i < len(item.values) {
				width = max(width, cells(printable(item.values[i].text)))
			}
		}
		widths, right = append(widths, width), append(right, toRight)
	}
	return widths, right
}

// room is what values with a gap before each leave to the names.
func (l *listing) room(columns []int, gap string) int {
	left := l.width - len(indent)
	for _, c := range columns {
		left -= len(gap) + c
	}
	return left
}

// within are the names that take at most width columns.
func (l *listing) within(width int) (names [][]string) {
	for _, i := range l.items {
		if i.heading == nil && cells(together(i.names, 0)) <= width {
			names = append(names, i.names)
		}
	}
	return names
}

// alignment is the width of the first names where the second ones can all begin at the same column, else 0.
func alignment(all [][]string, left int) (first int) {
	for _, names := range all {
		first = max(first, cells(printable(names[0])))
	}
	for _, names := range all {
		if cells(together(names, first)) > left {
			return 0
		}
	}
	return first
}

// together are the names of a row, the first made first columns wide.
func together(names []string, first int) (text string) {
	for i, name := range names {
		if i == 1 {
			text += strings.Repeat(" ", max(first-cells(text), 0))
		}
		if name != "" && i > 0 {
			text += indent
		}
		text += printable(name)
	}
	return strings.TrimRight(text, " ")
}

// flow puts texts beside one another into lines of at most width columns, in which the later are indented.
func flow(parts []part, width int, colours bool) (lines []string) {
	line := ""
	for _, p := range parts {
		text := printable(p.text)
		switch {
		case text == "":
			continue
		case line == "":
		case cells(line)+len(indent)+cells(text) <= width:
			line += indent + paint(text, p.colour, colours)
			continue
		default:
			lines = append(lines, line)
		}
		wrapped := []string{text}
		before := ""
		if len(lines) > 0 {
			before = indent + indent
		}
		if cells(before)+cells(text) > width {
			wrapped = wrap(text, width-2*len(indent))
		}
		for i, w := range wrapped {
			if i > 0 {
				lines = append(lines, line)
				before = indent
			}
			line = before + paint(w, p.colour, colours)
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// paragraph is a text on indented lines of at most width columns.
func paragraph(p part, indent string, width int, colours bool) (lines []string) {
	for _, line := range wrap(printable(p.text), width-len(indent)) {
		lines = append(lines, indent+paint(line, p.colour, colours))
	}
	return lines
}
