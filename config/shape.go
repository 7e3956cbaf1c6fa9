package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// shape says how one kind of value is written in a file. Decoding, the effective
// configuration, the JSON Schema and reference.yaml all come from it (keys.go has the
// table), so that they cannot disagree.
type shape[T any] interface {
	// decode reads n into *into, which holds the default. Faults go to d; what cannot be read stays as it was.
	decode(d *decoder, n *yaml.Node, key string, into *T)
	// encode is the inverse of decode; nil leaves the key out.
	encode(v *T) *yaml.Node
	// schema describes the value; preset holds its default.
	schema(preset *T) schema
	// diff adds to d what is different in next (diff_shape.go).
	diff(d *differ, key string, old, next *T)
}

// schema is one JSON Schema object.
type schema = map[string]any

// decoder reads the nodes of one file.
type decoder struct {
	*report
	most int // bytes
	// substituted are the scalars that had a ${VAR}; they are text, whatever they are to become.
	substituted map[*yaml.Node]bool
	// refused are the values that have a fault already and are not looked at again.
	refused map[*yaml.Node]bool
}

// read decodes a value unless it was refused before.
func read[T any](d *decoder, s shape[T], n *yaml.Node, key string, into *T) {
	if d.refused[n] {
		d.failed[key] = true
		return
	}
	s.decode(d, n, key, into)
}

func positionOf(n *yaml.Node) position { return position{max(n.Line, 1), max(n.Column, 1)} }

// is reports whether n is of the kind; otherwise it records what was wanted instead.
func (d *decoder) is(n *yaml.Node, kind yaml.Kind, key, want string) bool {
	switch {
	case n.Kind == kind:
		return true
	case n.ShortTag() == "!!null":
		d.fault(key, "has no value; want %s", want)
	default:
		d.fault(key, "found %s; want %s", describe(n), want)
	}
	return false
}

// describe names what the file has, for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return n.Value
	}
	return `the text "` + clip(n.Value) + `"`
}

// entries yields the keys of a mapping, whole and as they are written, with their values.
// Duplicate keys, keys that are no text and merge keys are recorded and left out.
func (d *decoder) entries(n *yaml.Node, key, noun string, yield func(at string, name, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind == yaml.AliasNode {
			continue // has a fault already
		}
		if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!null" {
			d.faultAt(positionOf(name), key, "found %s as a key; want a name", describe(name))
			continue
		}
		if name.ShortTag() == "!!merge" {
			d.faultAt(positionOf(name), key, "merge keys (<<) are not supported; write the keys out")
			continue
		}
		if line, ok := seen[name.Value]; ok {
			d.faultAt(positionOf(name), child(key, name.Value), "duplicate %s %q; the first is on line %d", noun, clip(name.Value), line)
			continue
		}
		seen[name.Value] = name.Line
		at := child(key, name.Value)
		d.places[at] = place{positionOf(name), positionOf(value)}
		yield(at, name, value)
	}
}

// object is a mapping with known keys.
type object[T any] struct {
	fields []field[T]
	// exclusive names keys of which a file has at most one.
	exclusive []string
	// either names keys of which a file has exactly one. The first is missed where none is there.
	either []string
	// some names keys of which a file has one or more. The first is missed where none is there.
	some []string
}

// field is one key of an object.
type field[T any] struct {
	name, doc string
	required  bool
	decode    func(d *decoder, n *yaml.Node, key string, into *T)
	encode    func(v *T) *yaml.Node
	schema    func(preset *T) schema
	diff      func(d *differ, parent string, old, next *T)
}

// key makes a field from the shape of its value and where the value lives in T.
func key[T, F any](name string, s shape[F], of func(*T) *F, doc string) field[T] {
	return field[T]{
		name: name, doc: doc,
		decode: func(d *decoder, n *yaml.Node, key string, into *T) { read(d, s, n, key, of(into)) },
		encode: func(v *T) *yaml.Node { return s.encode(of(v)) },
		schema: func(preset *T) schema { return s.schema(of(preset)) },
		diff: func(d *differ, parent string, old, next *T) {
			if before, after := of(old), of(next); !same(before, after) {
				s.diff(d, child(parent, name), before, after)
			}
		},
	}
}

// must makes a field required.
func (f field[T]) must() field[T] {
	f.required = true
	return f
}

func (o object[T]) names() []string {
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return names
}

func (o object[T]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	if n.Kind != yaml.MappingNode {
		d.is(n, yaml.MappingNode, key, "a mapping with "+choices(o.names(), ""))
		return
	}
	meant := map[string]bool{} // keys that are there, but misspelt
	d.entries(n, key, "key", func(at string, name, value *yaml.Node) {
		i := slices.IndexFunc(o.fields, func(f field[T]) bool { return f.name == name.Value })
		if i < 0 {
			hint := ""
			if near := nearest(name.Value, o.names()); near != "" {
				hint = "did you mean " + near + "? "
				meant[near] = true
			}
			d.faultAt(positionOf(name), at, "unknown key %q; %sknown here: %s", clip(name.Value), hint, choices(o.names(), ""))
			return
		}
		o.fields[i].decode(d, value, at, into)
	})
	o.checkExclusive(d, key, o.exclusive)
	o.checkExclusive(d, key, o.either)
	o.checkSome(d, key, o.either, meant)
	o.checkSome(d, key, o.some, meant)
	for _, f := range o.fields {
		if !f.required || meant[f.name] {
			continue
		}
		if at := child(key, f.name); !d.wrote(at) {
			d.fault(at, "is missing; it is required: %s", clause(f.doc))
		}
	}
}

// checkSome misses a key of which one has to be there, unless one of them is misspelt.
func (o object[T]) checkSome(d *decoder, key string, names []string, meant map[string]bool) {
	for _, name := range names {
		if meant[name] || d.wrote(child(key, name)) {
			return
		}
	}
	if len(names) > 0 {
		d.fault(child(key, names[0]), "is missing; one of %s is required", choices(names, "and"))
	}
}

func (o object[T]) checkExclusive(d *decoder, key string, names []string) {
	var given []string
	for _, name := range names {
		if d.wrote(child(key, name)) {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		d.faultAt(d.keyOf(child(key, given[1])), key, "%s are given; keep one", choices(given, "and"))
	}
}

func (o object[T]) encode(v *T) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range o.fields {
		if value := f.encode(v); value != nil {
			n.Content = append(n.Content, textNode(f.name), value)
		}
	}
	return n
}

func (o object[T]) schema(preset *T) schema {
	properties, required := schema{}, []string{}
	for _, f := range o.fields {
		s := f.schema(preset)
		s["description"] = f.doc
		if f.required {
			required = append(required, f.name)
			delete(s, "default")
		}
		properties[f.name] = s
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	if len(o.exclusive) > 0 {
		s["dependentSchemas"] = o.exclusiveSchema()
	}
	if len(o.either) > 0 {
		s["oneOf"] = requiring(o.either)
	}
	if len(o.some) > 0 {
		s["allOf"] = []any{schema{"anyOf": requiring(o.some)}} // none of them alone is required
	}
	return s
}

// requiring is a schema for each of the keys that has it.
func requiring(names []string) (each []any) {
	for _, name := range names {
		each = append(each, schema{"required": []string{name}})
	}
	return each
}

// exclusiveSchema forbids, beside each exclusive key, the others.
func (o object[T]) exclusiveSchema() schema {
	beside := schema{}
	for _, name := range o.exclusive {
		others := schema{}
		for _, other := range o.exclusive {
			if other != name {
				others[other] = false
			}
		}
		beside[name] = schema{"properties": others}
	}
	return beside
}

// bare drops the default of a schema whose value always has to be written.
func bare(s schema) schema {
	delete(s, "default")
	return s
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// flowIfShort writes a collection of scalars on one line.
func flowIfShort(n *yaml.Node) *yaml.Node {
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			return n
		}
	}
	n.Style = yaml.FlowStyle
	return n
}

// clause turns the first sentence of a text into a part of another.
func clause(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	s = strings.TrimSuffix(s, ".")
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
