package plot

import (
	"html/template"
	"strings"
)

// Document makes a file of its own of a drawing, for pages that show images: it carries its style, and a ground to be read
// on whatever is behind it.
func Document(drawing template.HTML) []byte {
	head, rest, _ := strings.Cut(string(drawing), ">")
	ground := `<rect width="100%" height="100%" rx="8" style="fill:var(--card)"/>`
	return []byte(strings.Replace(head, "<svg", `<svg xmlns="http://www.w3.org/2000/svg"`, 1) + "><style>" + string(Style()) + "</style>" + ground + rest + "\n")
}
