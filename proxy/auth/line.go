package auth

import (
	"iter"
	"strings"
	"unicode/utf8"
)

// contentLines are the lines that say something, with their numbers from 1: no empty ones, and no comments.
func contentLines(data []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
			number++
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' && !yield(number, line) {
				return
			}
		}
	}
}

func control(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }
