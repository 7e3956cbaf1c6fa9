package config

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// list is a sequence of values of one shape.
type list[T any] struct {
	noun  string // what an item is
	fresh func() T
	elem  shape[T]
	// least and most bound the number of items; most 0 is no bound.
	least, most int
	// optional leaves the key out when the list is empty.
	optional bool
	// identity tells items apart whose place in the list may change; nil where they are values alone.
	// sum says one in a few words (nil: all of it), reordered whether another order means something.
	identity  func(*T) string
	sum       func(*T) string
	reordered func(old, next []T, before []int) bool
}

func (l list[T]) decode(d *decoder, n *yaml.Node, key string, into *[]T) {
	if !d.is(n, yaml.SequenceNode, key, "a list of "+l.noun+"s, each behind a dash or all in [ ]") {
		return
	}
	if len(n.Content) < l.least {
		d.fault(key, "is empty; want at least one %s", l.noun)
	}
	if l.most > 0 && len(n.Content) > l.most {
		d.fault(key, "has %d %ss; want at most %d", len(n.Content), l.noun, l.most)
		return
	}
	*into = slices.Grow([]T(nil), len(n.Content))
	for i, node := range n.Content {
		at := item(key, i)
		d.places[at] = place{positionOf(node), positionOf(node)}
		v := l.fresh()
		read(d, l.elem, node, at, &v)
		*into = append(*into, v)
	}
}

func (l list[T]) encode(v *[]T) *yaml.Node {
	if len(*v) == 0 && l.optional {
		return nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range *v {
		n.Content = append(n.Content, l.elem.encode(&(*v)[i]))
	}
	return flowIfShort(n)
}

func (l list[T]) schema(preset *[]T) schema {
	fresh := l.fresh()
	s := schema{"type": "array", "items": bare(l.elem.schema(&fresh))}
	if preset := l.encode(preset); preset != nil && len(preset.Content) > 0 {
		s["default"] = jsonList(preset)
	}
	if l.least > 0 {
		s["minItems"] = l.least
	}
	if l.most > 0 {
		s["maxItems"] = l.most
	}
	return s
}

// named is a mapping from names to values of one shape, kept in the order of the file.
type named[T any] struct {
	noun  string // what an entry is
	fresh func() T
	name  func(*T) *string
	check func(string) error
	elem  shape[T]
	least int
	// pattern is what the schema says about names; "" for no restriction.
	pattern string
	// sum says an entry in a few words; nil: all of it.
	sum func(*T) string
	// ordered is set where the order of entries means something.
	ordered bool
}

func (m named[T]) decode(d *decoder, n *yaml.Node, key string, into *[]T) {
	if !d.is(n, yaml.MappingNode, key, "a mapping with a key for every "+m.noun) {
		return
	}
	if len(n.Content) < m.least {
		d.fault(key, "is empty; want at least one %s", m.noun)
	}
	*into = nil
	d.entries(n, key, m.noun, func(at string, name, value *yaml.Node) {
		if err := m.check(name.Value); err != nil {
			d.faultAt(positionOf(name), at, "%s", err)
		}
		v := m.fresh()
		*m.name(&v) = name.Value
		read(d, m.elem, value, at, &v)
		*into = append(*into, v)
	})
}

func (m named[T]) encode(v *[]T) *yaml.Node {
	if len(*v) == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range *v {
		n.Content = append(n.Content, textNode(*m.name(&(*v)[i])), m.elem.encode(&(*v)[i]))
	}
	return flowIfShort(n)
}

func (m named[T]) schema(*[]T) schema {
	fresh := m.fresh()
	s := schema{"type": "object", "additionalProperties": bare(m.elem.schema(&fresh))}
	if m.least > 0 {
		s["minProperties"] = m.least
	}
	if m.pattern != "" {
		s["propertyNames"] = schema{"pattern": m.pattern}
	}
	return s
}
