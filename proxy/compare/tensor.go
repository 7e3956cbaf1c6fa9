package compare

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"weir/backend/tensor"
)

// value is an output of the Open Inference Protocol V2.
type value struct {
	name  string
	kind  tensor.Type
	shape []int64
	data  column
}

func find(list []*value, name string) *value {
	i := slices.IndexFunc(list, func(v *value) bool { return v.name == name })
	if i < 0 {
		return nil
	}
	return list[i]
}

// tensors finds the outputs in root: a list of objects with a name and a datatype each, or there are none. tail
// is what follows the JSON, the data of those with a binary_data_size.
func tensors(root any, tail []byte) (list []*value, err error) {
	o, _ := root.(map[string]any)
	outputs, _ := o["outputs"].([]any)
	for _, v := range outputs {
		o, _ := v.(map[string]any)
		name, named := o["name"].(string)
		datatype, typed := o["datatype"].(string)
		if !named || !typed {
			return nil, nil
		}
		t := &value{name: name}
		if t.kind, err = tensor.ParseType(datatype); err != nil {
			return nil, fmt.Errorf("output %.100q: %w", name, err)
		}
		if tail, err = t.fill(o, tail); err != nil {
			return nil, fmt.Errorf("output %.100q: %w", name, err)
		}
		list = append(list, t)
	}
	if len(tail) > 0 {
		return nil, fmt.Errorf("%d bytes are left over after the outputs", len(tail))
	}
	return list, nil
}

// fill reads shape and data, the latter from o or from tail, and returns the rest of tail.
func (t *value) fill(o map[string]any, tail []byte) ([]byte, error) {
	shape, _ := o["shape"].([]any)
	for _, v := range shape {
		n, _ := v.(json.Number)
		size, err := n.Int64()
		if err != nil {
			return nil, errors.New("its shape is not a list of whole numbers")
		}
		t.shape = append(t.shape, size)
	}
	n, err := tensor.Elements(t.shape)
	if err != nil {
		return nil, err
	}
	parameters, _ := o["parameters"].(map[string]any)
	if text, ok := parameters["binary_data_size"].(json.Number); ok {
		size, err := text.Int64()
		if err != nil || size < 0 || size > int64(len(tail)) {
			return nil, fmt.Errorf("binary_data_size is %.20q, but %d bytes are left", text.String(), len(tail))
		}
		return tail[size:], t.decode(tail[:size], n)
	}
	data, _ := o["data"].([]any)
	data = flatten(make([]any, 0, len(data)), data)
	if int64(len(data)) != n {
		return nil, fmt.Errorf("it has %d elements, its shape says %d", len(data), n)
	}
	if t.data = elements(data); t.kind == tensor.Bool {
		t.data.at = func(i int) any { return bit(data[i]) }
	}
	return tail, nil
}

// bit is a BOOL as a number: some servers write it so.
func bit(v any) any {
	switch v {
	case true:
		return int64(1)
	case false:
		return int64(0)
	}
	return v
}

func flatten(dst, list []any) []any {
	for _, v := range list {
		if inner, ok := v.([]any); ok {
			dst = flatten(dst, inner)
		} else {
			dst = append(dst, v)
		}
	}
	return dst
}

// decode makes the binary form of n elements readable.
func (t *value) decode(raw []byte, n int64) error {
	if t.kind == tensor.Bytes {
		if n > int64(len(raw)) {
			return fmt.Errorf("%d bytes cannot hold %d BYTES elements", len(raw), n)
		}
		texts, err := tensor.DecodeStrings(raw, int(n))
		t.data = column{len(texts), func(i int) any { return texts[i] }}
		return err
	}
	size := int64(t.kind.Size())
	if int64(len(raw))%size != 0 || int64(len(raw))/size != n {
		return fmt.Errorf("binary_data_size is %d for %d elements of %d bytes", len(raw), n, size)
	}
	x := &tensor.Tensor{Type: t.kind, Data: raw}
	t.data = column{int(n), func(i int) any { return x.Float64(i) }}
	switch t.kind {
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
		t.data.at = func(i int) any { return x.Int64(i) }
	case tensor.Uint64:
		t.data.at = func(i int) any { return binary.LittleEndian.Uint64(raw[8*i:]) }
	case tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32:
		t.data.at = func(i int) any { return uint64(x.Float64(i)) }
	}
	return nil
}

// tensors compares the outputs by name.
func (c comparer) tensors(docs [2]document) Verdict {
	for _, a := range docs[0].tensors {
		b := find(docs[1].tensors, a.name)
		if b == nil {
			return Verdict{Result: Disagree, Reason: "the shadow's answer lacks it", Field: "outputs." + clip(a.name)}
		}
		if d := c.tensor(a, b); d != nil {
			return d.within("outputs." + a.name).verdict()
		}
	}
	for _, b := range docs[1].tensors {
		if find(docs[0].tensors, b.name) == nil {
			return Verdict{Result: Disagree, Reason: "the primary's answer lacks it", Field: "outputs." + clip(b.name)}
		}
	}
	return Verdict{}
}

// tensor compares two outputs. A model that computes in half precision may stand against one that does not.
func (c comparer) tensor(a, b *value) *difference {
	if a.kind != b.kind && !(a.kind.Float() && b.kind.Float()) {
		return differ("datatypes differ", a.kind.String(), b.kind.String()).within("datatype")
	}
	if !slices.Equal(a.shape, b.shape) {
		return differ("shapes differ", a.shape, b.shape).within("shape")
	}
	c.floats = a.kind.Float()
	row := 1
	if n := len(a.shape); n > 0 {
		row = int(a.shape[n-1])
	}
	if c.topLabel && c.floats && row > 1 {
		for i := 0; i < a.data.n; i += row {
			if d := c.top(a.data.part(i, row), b.data.part(i, row)); d != nil {
				return d.within(fmt.Sprintf("row %d", i/row))
			}
		}
		return nil
	}
	for i := range a.data.n {
		if d := c.diff(a.data.at(i), b.data.at(i)); d != nil {
			return d.within(fmt.Sprintf("data.%d", i))
		}
	}
	return nil
}
