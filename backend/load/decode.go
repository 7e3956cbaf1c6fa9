package load

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// Parse reads the value of [ResponseHeader] as a [Parser] does.
func Parse(value string) (Report, error) {
	var p Parser
	return p.once(p.parse(value))
}

// ParseBinary reads the value of [BinaryResponseHeader]: base64, padded or not, of the protobuf.
func ParseBinary(value string) (Report, error) {
	var p Parser
	return p.once(p.parseBinary(value))
}

// once returns the report of a parser that reads no other.
func (p *Parser) once(err error) (Report, error) {
	if err != nil {
		return Report{}, err
	}
	return p.report, nil
}

// Parse reads the value of [ResponseHeader]: "TEXT …" (key=value, or key:value as older Envoys
// write it), "JSON …" or "BIN …"; without one of these words it is text. A report with a value
// that is not finite or out of range, a metric twice, or one that ORCA does not know is refused
// whole: half a report would be taken for a lighter load. The report is good until the parser reads
// another one or value changes: its names are parts of both.
func (p *Parser) Parse(value []byte) (*Report, error) {
	p.reset()
	return p.done(p.parse(unsafeString(value)))
}

// ParseBinary reads the value of [BinaryResponseHeader], as Parse does.
func (p *Parser) ParseBinary(value []byte) (*Report, error) {
	p.reset()
	return p.done(p.parseBinary(unsafeString(value)))
}

func (p *Parser) done(err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	return &p.report, nil
}

// unsafeString is b as a string, for as long as b does not change.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (p *Parser) parse(value string) error {
	value = strings.TrimSpace(value)
	format, rest, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(format, "TEXT"):
		return p.parseText(rest)
	case strings.EqualFold(format, "JSON"):
		return p.parseJSON(rest)
	case strings.EqualFold(format, "BIN"):
		return p.parseBinary(rest)
	}
	return p.parseText(value)
}

func (p *Parser) parseText(text string) error {
	for rest, more := text, true; more; {
		var item string
		item, rest, more = strings.Cut(rest, ",")
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		// A metric's name may hold a colon ("vllm:queue=3"), so '=' is looked for first.
		key, number, ok := strings.Cut(item, "=")
		if !ok {
			key, number, ok = strings.Cut(item, ":")
		}
		if !ok {
			return fmt.Errorf("load report: %q is no metric; want name=number", item)
		}
		n := named(strings.TrimSpace(key))
		number = strings.TrimSpace(number)
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return fmt.Errorf("load report: %s is %q; want a number", n, number)
		}
		if err := p.set(n, v); err != nil {
			return err
		}
	}
	return p.finish()
}

// named is what a text calls a metric: a field, or a group, a dot and a name.
func named(s string) name {
	if group, key, ok := strings.Cut(s, "."); ok {
		return name{group, key}
	}
	return name{key: s}
}

func (p *Parser) finish() error {
	if len(p.seen) == 0 {
		return errors.New("load report: it is empty; want name=number, …")
	}
	return nil
}

// parseJSON walks the tokens itself because encoding/json would take the last of two equal keys.
func (p *Parser) parseJSON(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	if err := p.object(d, ""); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("load report: data after the JSON object")
	}
	return p.finish()
}

// object reads one JSON object; group is "" for the outer one, else the prefix of its names.
func (p *Parser) object(d *json.Decoder, group string) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("load report: %s is not a JSON object", cmp.Or(group, "it"))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return fmt.Errorf("load report: bad JSON: %w", err)
		}
		text, ok := key.(string)
		if !ok {
			return fmt.Errorf("load report: bad JSON key %v", key)
		}
		if err := p.member(d, group, text); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("load report: bad JSON: %w", err)
	}
	return nil
}

func (p *Parser) member(d *json.Decoder, group, key string) error {
	if group == "" {
		key = snakeCase(key)
		if key == groupNamed || key == groupCost || key == groupUtilization {
			return p.object(d, key)
		}
	}
	n := name{group, key}
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("load report: bad JSON: %w", err)
	}
	v, ok := t.(float64)
	if !ok {
		return fmt.Errorf("load report: %s is %v; want a number", n, t)
	}
	return p.set(n, v)
}

// snakeCase turns protobuf's JSON names (rpsFractional) into its field names (rps_fractional),
// which readers of the mapping must accept both.
func snakeCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// lastField is the highest field number of the report.
const lastField = 9

// fieldName maps the field numbers of xds.data.orca.v3.OrcaLoadReport that hold one double.
// Number 3 is the whole-number rps that rps_fractional replaced.
func fieldName(n protowire.Number) string {
	switch n {
	case 1:
		return fieldCPU
	case 2:
		return fieldMem
	case 6:
		return fieldRPS
	case 7:
		return fieldEPS
	case 9:
		return fieldApplication
	}
	return ""
}

// groupName maps those that hold a map of doubles.
func groupName(n protowire.Number) string {
	switch n {
	case 4:
		return groupCost
	case 5:
		return groupUtilization
	case 8:
		return groupNamed
	}
	return ""
}

func (p *Parser) parseBinary(value string) error {
	value = strings.TrimRight(strings.TrimSpace(value), "=")
	raw, err := base64.RawStdEncoding.AppendDecode(p.raw[:0], unsafe.Slice(unsafe.StringData(value), len(value)))
	if err != nil {
		return fmt.Errorf("load report: bad base64: %w", err)
	}
	p.raw = raw
	err = fields(raw, func(n protowire.Number, t protowire.Type, value []byte) error {
		if key := fieldName(n); key != "" && t == protowire.Fixed64Type {
			return p.set(name{key: key}, double(value))
		}
		if group := groupName(n); group != "" && t == protowire.BytesType {
			return p.entry(group, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.finish()
}

// entry reads one map entry {1: name, 2: double}; an absent value is zero, as protobuf has it.
func (p *Parser) entry(group string, raw []byte) error {
	m := name{group: group}
	var v float64
	err := fields(raw, func(n protowire.Number, t protowire.Type, value []byte) error {
		switch {
		case n == 1 && t == protowire.BytesType:
			m.key = unsafeString(value)
		case n == 2 && t == protowire.Fixed64Type:
			v = double(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.set(m, v)
}

// fields calls each for every field of a message. value is a bytes field's content, or the
// encoded bytes of any other type.
func fields(raw []byte, each func(protowire.Number, protowire.Type, []byte) error) error {
	for len(raw) > 0 {
		n, t, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return fmt.Errorf("load report: bad protobuf: %w", protowire.ParseError(size))
		}
		raw = raw[size:]
		size = protowire.ConsumeFieldValue(n, t, raw)
		if size < 0 {
			return fmt.Errorf("load report: bad protobuf: %w", protowire.ParseError(size))
		}
		value := raw[:size]
		if t == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if err := each(n, t, value); err != nil {
			return err
		}
		raw = raw[size:]
	}
	return nil
}

func double(raw []byte) float64 {
	v, _ := protowire.ConsumeFixed64(raw)
	return math.Float64frombits(v)
}
