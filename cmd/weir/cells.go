package main

import (
	"strings"
	"unicode"
)

// cells is how many columns of a terminal a text takes; sequences that paint take none.
func cells(s string) (n int) {
	for len(s) > 0 {
		r, size := next(s)
		n += r
		s = s[size:]
	}
	return n
}

// next is the width and the length in bytes of what s, which is not empty, begins with: a letter, or a
// sequence that paints.
func next(s string) (width, size int) {
	if strings.HasPrefix(s, "\x1b[") {
		if end := strings.IndexByte(s, 'm'); end > 0 {
			return 0, end + 1
		}
	}
	for i, r := range s {
		if i > 0 {
			return width, i
		}
		width = runeCells(r)
	}
	return width, len(s)
}

func runeCells(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r < 0x1100:
		return 1
	case r <= 0x115f, unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana, unicode.Yi),
		r >= 0x3000 && r <= 0x303e, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}

// clip cuts what is beyond width columns; paint ends there.
func clip(s string, width int) string {
	if cells(s) <= width {
		return s
	}
	var b strings.Builder
	left := width - 1 // for the mark
	painted := false
	for len(s) > 0 {
		n, size := next(s)
		if n > left {
			break
		}
		painted = painted || size > 1 && s[0] == '\x1b'
		left -= n
		b.WriteString(s[:size])
		s = s[size:]
	}
	if painted {
		b.WriteString("\x1b[0m")
	}
	if width > 0 {
		b.WriteString("…")
	}
	return b.String()
}

// shorten cuts out of the middle of a text without paint what is beyond width columns: names differ at their
// ends.
func shorten(s string, width int) string {
	if cells(s) <= width || width < 3 {
		return clip(s, width)
	}
	letters := []rune(s)
	head, tail := 0, len(letters)
	left := (width - 1) / 2
	for runeCells(letters[head]) <= left {
		left -= runeCells(letters[head])
		head++
	}
	left = width - 1 - cells(string(letters[:head]))
	for runeCells(letters[tail-1]) <= left {
		tail--
		left -= runeCells(letters[tail])
	}
	return string(letters[:head]) + "…" + string(letters[tail:])
}

// pad makes s exactly width columns, on the right with right.
func pad(s string, width int, right bool) string {
	s = clip(s, width)
	blank := strings.Repeat(" ", width-cells(s))
	if right {
		return blank + s
	}
	return s + blank
}

// wrap breaks a text without paint into lines of at most width columns, between words where it can; all
// but the first are indented.
func wrap(s string, width int) (lines []string) {
	width = max(width, 8)
	line, empty := "", true
	end := func() {
		lines = append(lines, line)
		line, empty = indent, true
	}
	for word := range strings.FieldsSeq(s) {
		if !empty && cells(line)+1+cells(word) > width {
			end()
		}
		if !empty {
			line += " "
		}
		for len(word) > 0 {
			n, size := next(word)
			if cells(line)+n > width {
				end()
			}
			line, word, empty = line+word[:size], word[size:], false
		}
	}
	if !empty {
		lines = append(lines, line)
	}
	return lines
}
