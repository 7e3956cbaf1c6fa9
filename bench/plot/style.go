package plot

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed style.css
var styleCSS string

//go:embed hover.js
var hoverJS string

// Style is the style sheet that the drawings need, and of a page around them: classes page,
// cards, card, note, good, bad and swatch, and tables.
func Style() template.CSS { return template.CSS(styleCSS) }

// Script shows the values under the pointer on every [Chart] of a page. It comes after them.
func Script() template.JS { return template.JS(hoverJS) }

// colours are the numbers of the classes "s1" to "s8" in the style sheet. Words for a colour
// keep that colour: a variant called green is never drawn in blue.
func colours() map[string]int {
	return map[string]int{"blue": 1, "orange": 2, "green": 3, "red": 4, "purple": 5, "sky": 6, "yellow": 7, "brown": 8}
}

const classCount = 8

// Classes gives each name a class of its own, which is its colour: "s1" to "s8", by the
// first word of the name. "total" is "ink", the colour of text. With more than eight, colours repeat.
func Classes(names []string) []string {
	words, taken := colours(), map[int]bool{}
	given := map[string]string{"total": "ink"}
	for _, name := range names {
		if n, ok := words[word(name)]; ok {
			given[word(name)], taken[n] = class(n), true
		}
	}
	next := 1
	out := make([]string, len(names))
	for i, name := range names {
		w := word(name)
		if given[w] == "" {
			for next < classCount && taken[next] {
				next++
			}
			given[w], taken[next] = class(next), true
			next = next%classCount + 1
		}
		out[i] = given[w]
	}
	return out
}

func class(n int) string { return fmt.Sprintf("s%d", n) }

func word(name string) string {
	w, _, _ := strings.Cut(strings.ToLower(name), " ")
	return w
}
