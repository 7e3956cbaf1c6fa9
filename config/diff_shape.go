package config

import (
	"reflect"
	"slices"
)

// This file is the part of every shape that compares two values. What is the same is skipped by
// reflection (key in shape.go, and the lists below): a reload compares all there is to find the little
// that changed.

func same[T any](a, b *T) bool { return reflect.DeepEqual(a, b) }

func (o object[T]) diff(d *differ, key string, old, next *T) {
	for _, f := range o.fields {
		f.diff(d, key, old, next)
	}
}

func (l list[T]) diff(d *differ, key string, old, next *[]T) {
	if l.identity == nil {
		l.diffItems(d, key, *old, *next)
		return
	}
	before, gone := pairs(*old, *next, l.identity)
	if l.reordered != nil && l.reordered(*old, *next, before) {
		d.add(key, "", "")
	}
	diffEntries(d, key, l.elem, l.sum, l.identity, *old, *next, before, gone)
}

// diffItems compares lists whose items have no name and stand in any order.
func (l list[T]) diffItems(d *differ, key string, old, next []T) {
	texts := func(items []T) (t []string) {
		for i := range items {
			t = append(t, inline(l.elem.encode(&items[i])))
		}
		return t
	}
	text := func(s *string) string { return *s }
	was, is := texts(old), texts(next)
	before, gone := pairs(was, is, text)
	for i, k := range before {
		if k < 0 {
			d.add(key, "", is[i])
		}
	}
	for _, k := range gone {
		d.add(key, was[k], "")
	}
}

func (m named[T]) diff(d *differ, key string, old, next *[]T) {
	identity := func(v *T) string { return *m.name(v) }
	before, gone := pairs(*old, *next, identity)
	if m.ordered && !ascending(before) {
		d.add(key, "", "")
	}
	diffEntries(d, key, m.elem, m.sum, identity, *old, *next, before, gone)
}

// diffEntries compares the entries of two lists that belong together; see pairs.
func diffEntries[T any](d *differ, key string, elem shape[T], sum, identity func(*T) string, old, next []T, before, gone []int) {
	if sum == nil {
		sum = func(v *T) string { return inline(elem.encode(v)) }
	}
	for i, k := range before {
		switch {
		case k < 0:
			d.add(child(key, identity(&next[i])), "", sum(&next[i]))
		case !same(&old[k], &next[i]):
			elem.diff(d, child(key, identity(&next[i])), &old[k], &next[i])
		}
	}
	for _, k := range gone {
		d.add(child(key, identity(&old[k])), sum(&old[k]), "")
	}
}

// pairs finds what of two lists belongs together: the first of an identity with the first of the same,
// the second with the second. before has the place in old for each item of next, -1 for what came; gone
// are the places of what went.
func pairs[T any](old, next []T, identity func(*T) string) (before, gone []int) {
	before = make([]int, len(next))
	kept := make([]bool, len(old))
	var places map[string][]int
	for i := range next {
		name := identity(&next[i])
		if i < len(old) && places == nil && identity(&old[i]) == name {
			before[i], kept[i] = i, true
			continue
		}
		if places == nil { // from here on the lists are not alike
			places = make(map[string][]int, len(old)-min(i, len(old)))
			for k := i; k < len(old); k++ {
				places[identity(&old[k])] = append(places[identity(&old[k])], k)
			}
		}
		before[i] = -1
		if at := places[name]; len(at) > 0 {
			before[i], kept[at[0]], places[name] = at[0], true, at[1:]
		}
	}
	for k := range old {
		if !kept[k] {
			gone = append(gone, k)
		}
	}
	return before, gone
}

// ascending reports whether places are in order, what came left aside.
func ascending(places []int) bool {
	return slices.IsSorted(slices.DeleteFunc(slices.Clone(places), func(k int) bool { return k < 0 }))
}

func (s scalar[T]) diff(d *differ, key string, old, next *T) {
	if s.format(*old) != s.format(*next) {
		d.add(key, inline(s.encode(old)), inline(s.encode(next)))
	}
}

func (t through[T, F]) diff(d *differ, key string, old, next *T) {
	before, after := t.get(old), t.get(next)
	t.inner.diff(d, key, &before, &after)
}

func (o optional[T]) diff(d *differ, key string, old, next **T) {
	switch {
	case *old != nil && *next != nil:
		o.inner.diff(d, key, *old, *next)
	case *old != *next:
		d.add(key, inline(o.encode(old)), inline(o.encode(next)))
	}
}

func (o orOff[T]) diff(d *differ, key string, old, next *T) {
	switch was, is := o.isOff(*old), o.isOff(*next); {
	case was != is:
		d.add(key, inline(o.encode(old)), inline(o.encode(next)))
	case !is:
		o.inner.diff(d, key, old, next)
	}
}

func (b brief[T]) diff(d *differ, key string, old, next *T) { b.long.diff(d, key, old, next) }
