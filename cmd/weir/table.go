package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// table is text in columns. A column whose title begins with ">" is aligned to the right.
type table struct{ rows [][]string }

func newTable(titles ...string) *table { return &table{rows: [][]string{titles}} }

// row adds a row; cells are cleaned of what would move the cursor.
func (t *table) row(cells ...string) {
	clean := make([]string, len(cells))
	for i, cell := range cells {
		clean[i] = printable(cell)
	}
	t.rows = append(t.rows, clean)
}

func (t *table) write(w io.Writer) {
	titles := t.rows[0]
	right := make([]bool, len(titles))
	width := make([]int, len(titles))
	for i, title := range titles {
		titles[i], right[i] = strings.CutPrefix(title, ">")
	}
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], cells(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-cells(cell))
			if right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// printable replaces what is no visible character: an endpoint's own words can end up on the screen.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}
