package config

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// scalar is a value that is written as one word or text.
type scalar[T any] struct {
	// want says what is right, for a value of the wrong type.
	want string
	// numeric are the YAML types of the numbers it may be written as: !!int, !!float. Then
	// a number in quotes is a fault.
	numeric []string
	// free is set when any text will do, so that a number or true has to be put in quotes.
	// Otherwise parse tells what is wrong with it.
	free bool
	// boolean is set for true and false, which then are not put in quotes.
	boolean bool
	// off lets a plain false stand for the word off, which is what YAML 1.1 tools make of it.
	off bool
	// optional leaves the key out when the value is "".
	optional bool
	parse    func(string) (T, error)
	format   func(T) string
	body     func() schema
}

func (s scalar[T]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	if !d.is(n, yaml.ScalarNode, key, s.want) {
		return
	}
	text := n.Value
	if s.off && isOff(n) {
		text = wordOff
	} else if !d.substituted[n] && !s.accepts(d, n, key) {
		return
	}
	v, err := s.parse(text)
	if err != nil {
		d.fault(key, "%s", err)
		return
	}
	*into = v
}

// accepts checks the YAML type of a scalar and records the fault when it is wrong.
func (s scalar[T]) accepts(d *decoder, n *yaml.Node, key string) bool {
	tag := n.ShortTag()
	text := tag == "!!str" || tag == "!!timestamp"
	switch {
	case tag == "!!null":
		d.fault(key, "has no value; want %s", s.want)
	case len(s.numeric) > 0 && text && plainNumber(n.Value):
		d.fault(key, "found the text %q; want %s: leave the quotes out", n.Value, s.want)
	case len(s.numeric) > 0 && !text && !(slices.Contains(s.numeric, tag) && plainNumber(n.Value)):
		d.fault(key, "found %s; want %s", describe(n), s.want)
	case s.boolean && tag != "!!bool":
		d.fault(key, "found %s; want %s, without quotes", describe(n), s.want)
	case s.free && !text:
		d.fault(key, "found %s; want %s: put it in quotes, as in %q", describe(n), s.want, clip(n.Value))
	default:
		return true
	}
	return false
}

func (s scalar[T]) encode(v *T) *yaml.Node {
	text := s.format(*v)
	if text == "" && s.optional {
		return nil
	}
	n := textNode(escapeVariables(text))
	if len(s.numeric) > 0 && plainNumber(text) {
		n.Tag = "!!int"
		if strings.ContainsAny(text, ".e") {
			n.Tag = "!!float"
		}
	}
	if s.boolean {
		n.Tag = "!!bool"
	}
	return n
}

func (s scalar[T]) schema(preset *T) schema {
	body := s.body()
	if n := s.encode(preset); n != nil {
		body["default"] = jsonValue(n)
	}
	return body
}

// plainNumber reports whether s is a decimal number that every YAML reader reads alike: no
// leading zeros (octal or not?), no other bases, no underscores, no infinity.
func plainNumber(s string) bool { return decimal.MatchString(s) }

var decimal = regexp.MustCompile(`^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)

const wordOff = "off"

// isOff reports whether a value is the word off, or the false that YAML 1.1 tools write for it.
func isOff(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	return n.Value == wordOff || n.ShortTag() == "!!bool" && strings.EqualFold(n.Value, "false")
}

func offSchema() schema { return schema{"enum": []any{wordOff, false}} }

// through is the shape of T when the file has only one part of it, F.
type through[T, F any] struct {
	inner shape[F]
	get   func(*T) F
	set   func(*T, F)
}

func (t through[T, F]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	part := t.get(into)
	t.inner.decode(d, n, key, &part)
	t.set(into, part)
}

func (t through[T, F]) encode(v *T) *yaml.Node {
	part := t.get(v)
	return t.inner.encode(&part)
}

func (t through[T, F]) schema(preset *T) schema {
	part := t.get(preset)
	return t.inner.schema(&part)
}

// part is the shape of T when the file has only the field that of points to.
func part[T, F any](inner shape[F], of func(*T) *F) shape[T] {
	return through[T, F]{
		inner: inner,
		get:   func(v *T) F { return *of(v) },
		set:   func(v *T, f F) { *of(v) = f },
	}
}

// optional is the shape of a value that may be absent.
type optional[T any] struct {
	fresh func() T
	inner shape[T]
}

func (o optional[T]) decode(d *decoder, n *yaml.Node, key string, into **T) {
	v := o.fresh()
	if *into != nil {
		v = **into
	}
	o.inner.decode(d, n, key, &v)
	*into = &v
}

func (o optional[T]) encode(v **T) *yaml.Node {
	if *v == nil {
		return nil
	}
	return o.inner.encode(*v)
}

func (o optional[T]) schema(preset **T) schema {
	if *preset != nil {
		return o.inner.schema(*preset)
	}
	fresh := o.fresh()
	return bare(o.inner.schema(&fresh))
}

// afresh is the shape of a value whose default, where it is absent, is not where it begins when it is written.
type afresh[T any] struct{ shape[T] }

func (a afresh[T]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	var fresh T
	a.shape.decode(d, n, key, &fresh)
	*into = fresh
}

// orOff is the shape of a feature that the word off turns off.
type orOff[T any] struct {
	inner shape[T]
	off   T
	isOff func(T) bool
}

func (o orOff[T]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	switch {
	case isOff(n):
		*into = o.off
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		d.fault(key, "found %s; want off or a mapping", describe(n))
	default:
		o.inner.decode(d, n, key, into)
	}
}

func (o orOff[T]) encode(v *T) *yaml.Node {
	if o.isOff(*v) {
		return textNode(wordOff)
	}
	return o.inner.encode(v)
}

func (o orOff[T]) schema(preset *T) schema {
	return orVariable(offSchema(), o.inner.schema(preset))
}

// brief is the shape of a mapping that may be written as one scalar while the rest of it
// has its default.
type brief[T any] struct {
	short   shape[T]
	long    shape[T]
	isShort func(*T) bool
}

func (b brief[T]) decode(d *decoder, n *yaml.Node, key string, into *T) {
	if n.Kind == yaml.MappingNode {
		b.long.decode(d, n, key, into)
		return
	}
	b.short.decode(d, n, key, into)
}

func (b brief[T]) encode(v *T) *yaml.Node {
	if b.isShort(v) {
		return b.short.encode(v)
	}
	n := b.long.encode(v)
	if n != nil {
		n.Style = yaml.FlowStyle
	}
	return n
}

func (b brief[T]) schema(preset *T) schema {
	return schema{"anyOf": []any{bare(b.short.schema(preset)), b.long.schema(preset)}}
}
