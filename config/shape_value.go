package config

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// boolShape is true or false.
func boolShape() shape[bool] {
	return scalar[bool]{
		want: "true or false", boolean: true, format: strconv.FormatBool,
		parse: func(s string) (bool, error) {
			if s != "true" && s != "false" {
				return false, fmt.Errorf("%q is neither; write true or false", clip(s))
			}
			return s == "true", nil
		},
		body: func() schema { return orVariable(schema{"type": "boolean"}) },
	}
}

// flagShape is a boolean that is left out while it is false.
func flagShape() shape[bool] { return unlessZero(boolShape()) }

// unlessZero is the scalar s that is left out while it is 0, which the file does not have, or means the same as absent.
func unlessZero[T comparable](s shape[T]) shape[T] {
	inner := s.(scalar[T])
	format := inner.format
	inner.optional = true
	inner.format = func(v T) string {
		if zero := *new(T); v == zero {
			return ""
		}
		return format(v)
	}
	return inner
}

// sparse is the shape of a value that is left out while it is what an absent one means.
type sparse[T any] struct {
	shape[T]
	absent func() T
}

func (s sparse[T]) encode(v *T) *yaml.Node {
	if absent := s.absent(); same(v, &absent) {
		return nil
	}
	return s.shape.encode(v)
}

// switched is the shape of a feature that true turns on with all its defaults, and false off.
type switched[T any] struct{ optional[T] }

func (s switched[T]) decode(d *decoder, n *yaml.Node, key string, into **T) {
	switch {
	case isOff(n):
		*into = nil
	case n.Kind == yaml.ScalarNode && n.Value == "true" && (n.ShortTag() == "!!bool" || d.substituted[n]):
		v := s.fresh()
		*into = &v
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		d.fault(key, "found %s; want true, false or a mapping", describe(n))
	default:
		v := s.fresh()
		s.inner.decode(d, n, key, &v)
		*into = &v
	}
}

func (s switched[T]) encode(v **T) *yaml.Node {
	if *v == nil {
		return boolNode(false)
	}
	if standard := s.fresh(); same(*v, &standard) {
		return boolNode(true)
	}
	return s.inner.encode(*v)
}

func (s switched[T]) schema(**T) schema {
	standard := s.fresh()
	return orVariable(schema{"enum": []any{true, false, wordOff}}, s.inner.schema(&standard))
}

func (s switched[T]) diff(d *differ, key string, old, next **T) {
	if *old != nil && *next != nil {
		s.inner.diff(d, key, *old, *next)
		return
	}
	d.add(key, inline(s.encode(old)), inline(s.encode(next)))
}

func boolNode(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

// literalShape is a scalar that is kept as the JSON it stands for: a text, a number, true, false or null.
type literalShape struct{}

const literalWant = "a text, a number, true, false or null"

func (literalShape) decode(d *decoder, n *yaml.Node, key string, into *string) {
	if n.Kind != yaml.ScalarNode {
		d.fault(key, "found %s; want %s", describe(n), literalWant)
		return
	}
	tag := n.ShortTag()
	if d.substituted[n] && (plainNumber(n.Value) || n.Value == "true" || n.Value == "false" || n.Value == "null") {
		tag = "!!int" // as if it had been written there
	}
	switch tag {
	case "!!null":
		if n.Value == "" {
			d.fault(key, "has no value; want %s", literalWant)
			return
		}
		*into = "null"
	case "!!bool", "!!int", "!!float":
		text := strings.ToLower(n.Value)
		if !json.Valid([]byte(text)) {
			d.fault(key, "found %s, which JSON cannot write; want %s", describe(n), literalWant)
			return
		}
		*into = text
	default:
		*into = jsonText(n.Value)
	}
}

func jsonText(s string) string {
	text, _ := json.Marshal(s) // of a string: cannot fail
	return string(text)
}

func (literalShape) encode(v *string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: *v}
	var text string
	switch {
	case *v == "true" || *v == "false":
		n.Tag = "!!bool"
	case *v == "null":
		n.Tag = "!!null"
	case json.Unmarshal([]byte(*v), &text) == nil:
		return textNode(escapeVariables(text))
	case !plainNumber(*v):
		return textNode(*v)
	case !strings.ContainsAny(*v, ".eE"):
		n.Tag = "!!int"
	}
	return n
}

func (literalShape) schema(*string) schema {
	return schema{"type": []any{"string", "number", "boolean", "null"}}
}

func (s literalShape) diff(d *differ, key string, old, next *string) {
	d.add(key, inline(s.encode(old)), inline(s.encode(next)))
}

// fractionShape is a percentage from 0 up that is kept as a fraction.
func fractionShape() shape[float64] {
	return through[float64, float64]{
		inner: wideShare(100),
		// What is written has no more digits than are kept.
		get: func(f *float64) float64 {
			p, _ := strconv.ParseFloat(strconv.FormatFloat(*f*100, 'g', 12, 64), 64)
			return p
		},
		set: func(f *float64, p float64) { *f = p / 100 },
	}
}

// wideShare is a percentage that may be more than 100.
func wideShare(most float64) shape[float64] {
	return scalar[float64]{
		want: "a percentage such as 1%", numeric: []string{"!!int", "!!float"}, format: formatNumber,
		parse: func(s string) (float64, error) {
			p, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
			if err != nil || !plainNumber(strings.TrimSuffix(s, "%")) {
				return 0, fmt.Errorf("%q is no percentage; write a number such as 1, 0.5 or 50%%", clip(s))
			}
			if math.Signbit(p) || p > most {
				return 0, fmt.Errorf("%q is out of range; write a percentage from 0 to %s", clip(s), formatNumber(most))
			}
			return p, nil
		},
		body: func() schema {
			return orVariable(
				schema{"type": "number", "minimum": 0, "maximum": most},
				schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?%$`})
		},
	}
}

// factorShape is a number that is 0 for "it does not matter", or at least least.
func factorShape(least, most float64) shape[float64] {
	return scalar[float64]{
		want: "a number such as 1.9", numeric: []string{"!!int", "!!float"}, format: formatNumber,
		parse: func(s string) (float64, error) {
			f, err := strconv.ParseFloat(s, 64)
			switch {
			case err != nil || !plainNumber(s):
				return 0, fmt.Errorf("%q is no number; write one such as 1.9, or 0 for off", clip(s))
			case f != 0 && (f < least || f > most):
				return 0, fmt.Errorf("%q is out of range; write 0 for off, or a number from %s to %s", clip(s), formatNumber(least), formatNumber(most))
			}
			return math.Abs(f), nil
		},
		body: func() schema {
			return orVariable(schema{"enum": []any{0}}, schema{"type": "number", "minimum": least, "maximum": most})
		},
	}
}

// derivedDurationShape is a duration that has a default only where it is known what it follows; 0 before.
func derivedDurationShape() shape[time.Duration] { return unlessZero(durationShape()) }

// bodyShape is a text that is sent as it is.
func bodyShape(check func(string) error) shape[string] {
	return scalar[string]{
		want: "a text", free: true, optional: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) {
			if Size(len(s)) > maxBodyText {
				return "", fmt.Errorf("is longer than %s, the most that a file may have", maxBodyText)
			}
			return s, check(s)
		},
	}
}

// maxBodyText keeps bodies from being most of a file.
const maxBodyText = 64 * KiB
