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

	"google.golang.org/protobuf/encoding/protowire"
)

// Parse reads the value of [ResponseHeader]: "TEXT …" (key=value, or key:value as older Envoys
// write it), "JSON …" or "BIN …"; without one of these words it is text. A report with a value
// that is not finite or out of range, a metric twice, or one that ORCA does not know is refused
// whole: half a report would be taken for a lighter load.
func Parse(value string) (Report, error) {
	value = strings.TrimSpace(value)
	format, rest, _ := strings.Cut(value, " ")
	switch strings.ToUpper(format) {
	case "TEXT":
		return parseText(rest)
	case "JSON":
		return parseJSON(rest)
	case "BIN":
		return ParseBinary(rest)
	}
	return parseText(value)
}

func parseText(text string) (Report, error) {
	var p parser
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		// A metric's name may hold a colon ("vllm:queue=3"), so '=' is looked for first.
		name, number, ok := strings.Cut(item, "=")
		if !ok {
			name, number, ok = strings.Cut(item, ":")
		}
		if !ok {
			return Report{}, fmt.Errorf("load report: %q is no metric; want name=number", item)
		}
		name, number = strings.TrimSpace(name), strings.TrimSpace(number)
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return Report{}, fmt.Errorf("load report: %s is %q; want a number", name, number)
		}
		if err := p.set(name, v); err != nil {
			return Report{}, err
		}
	}
	return p.finish()
}

func (p *parser) finish() (Report, error) {
	if len(p.seen) == 0 {
		return Report{}, errors.New("load report: it is empty; want name=number, …")
	}
	return p.report, nil
}

// parseJSON walks the tokens itself because encoding/json would take the last of two equal keys.
func parseJSON(text string) (Report, error) {
	var p parser
	d := json.NewDecoder(strings.NewReader(text))
	if err := p.object(d, ""); err != nil {
		return Report{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return Report{}, errors.New("load report: data after the JSON object")
	}
	return p.finish()
}

// object reads one JSON object; group is "" for the outer one, else the prefix of its names.
func (p *parser) object(d *json.Decoder, group string) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("load report: %s is not a JSON object", cmp.Or(group, "it"))
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return fmt.Errorf("load report: bad JSON: %w", err)
		}
		name, ok := key.(string)
		if !ok {
			return fmt.Errorf("load report: bad JSON key %v", key)
		}
		if err := p.member(d, group, name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("load report: bad JSON: %w", err)
	}
	return nil
}

func (p *parser) member(d *json.Decoder, group, name string) error {
	if group == "" {
		name = snakeCase(name)
		if name == groupNamed || name == groupCost || name == groupUtilization {
			return p.object(d, name)
		}
	} else {
		name = group + "." + name
	}
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("load report: bad JSON: %w", err)
	}
	v, ok := t.(float64)
	if !ok {
		return fmt.Errorf("load report: %s is %v; want a number", name, t)
	}
	return p.set(name, v)
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

// ParseBinary reads the value of [BinaryResponseHeader]: base64, padded or not, of the protobuf.
func ParseBinary(value string) (Report, error) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(value), "="))
	if err != nil {
		return Report{}, fmt.Errorf("load report: bad base64: %w", err)
	}
	var p parser
	err = fields(raw, func(n protowire.Number, t protowire.Type, value []byte) error {
		if name := fieldName(n); name != "" && t == protowire.Fixed64Type {
			return p.set(name, double(value))
		}
		if name := groupName(n); name != "" && t == protowire.BytesType {
			return p.entry(name, value)
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	return p.finish()
}

// entry reads one map entry {1: name, 2: double}; an absent value is zero, as protobuf has it.
func (p *parser) entry(group string, raw []byte) error {
	var name string
	var v float64
	err := fields(raw, func(n protowire.Number, t protowire.Type, value []byte) error {
		switch {
		case n == 1 && t == protowire.BytesType:
			name = string(value)
		case n == 2 && t == protowire.Fixed64Type:
			v = double(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.set(group+"."+name, v)
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
