package auth

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Claims are what a verified token says.
type Claims struct {
	Subject string
	texts   map[string][]byte   // of claims that are texts, numbers, true or false
	lists   map[string][]string // of those that are lists, their elements of these kinds
}

// Text is a claim as text: a text as it is; a number, true or false as the token has it; nil where there is no
// such claim, or it is a list or an object. Nobody may change it.
func (c *Claims) Text(name string) []byte {
	if c == nil {
		return nil
	}
	return c.texts[name]
}

// Has reports whether a claim has the value, or is a list with an element that has.
func (c *Claims) Has(name, value string) bool {
	if c == nil {
		return false
	}
	if t, ok := c.texts[name]; ok {
		return string(t) == value
	}
	return slices.Contains(c.lists[name], value)
}

// newClaims takes over what was decoded of a token, its numbers as json.Number.
func newClaims(decoded map[string]any) *Claims {
	c := &Claims{texts: map[string][]byte{}, lists: map[string][]string{}}
	for name, v := range decoded {
		if t, ok := scalar(v); ok {
			c.texts[name] = []byte(t)
			continue
		}
		elements, _ := v.([]any)
		for _, e := range elements {
			if t, ok := scalar(e); ok {
				c.lists[name] = append(c.lists[name], t)
			}
		}
	}
	if sub, ok := decoded["sub"].(string); ok {
		c.Subject = sub
	}
	return c
}

func scalar(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}
